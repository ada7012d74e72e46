package p2p

import (
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"

	"github.com/talka-grid/talka/workunits"
)

func TestLookout(t *testing.T) {
	t.Parallel()
	home, cafe := []string{"192.168.1.2/24"}, []string{"10.9.8.7/16"}
	begun := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	type look struct {
		after time.Duration // since the one before
		addrs []string
		slept time.Duration
		moved bool
	}
	for name, looks := range map[string][]look{
		"all is quiet":                  {{0, home, 0, false}, {refreshLook, home, 0, false}, {refreshLook + time.Second, home, 0, false}},
		"a busy machine is late":        {{0, home, 0, false}, {refreshLook + refreshLate, home, 0, false}},
		"asleep for an hour":            {{0, home, 0, false}, {time.Hour, home, time.Hour - refreshLook, false}, {refreshLook, home, 0, false}},
		"carried elsewhere":             {{0, home, 0, false}, {refreshLook, cafe, 0, true}, {refreshLook, cafe, 0, false}},
		"asleep and elsewhere":          {{0, home, 0, false}, {time.Hour, cafe, time.Hour - refreshLook, true}},
		"the cable is pulled":           {{0, home, 0, false}, {refreshLook, []string{}, 0, true}},
		"nobody knows":                  {{0, nil, 0, false}, {refreshLook, home, 0, false}, {refreshLook, nil, 0, false}, {refreshLook, cafe, 0, true}},
		"what flaps is followed slowly": {{0, home, 0, false}, {refreshLook, cafe, 0, true}, {refreshLook, home, 0, false}, {refreshLook, cafe, 0, false}, {refreshLook, home, 0, true}},
		"the clock was set back":        {{0, home, 0, false}, {-24 * time.Hour, home, 0, false}, {refreshLook, cafe, 0, true}},
	} {
		var l lookout
		now := begun
		for i, k := range looks {
			now = now.Add(k.after)
			if slept, moved := l.look(now, k.addrs); slept != k.slept || moved != k.moved {
				t.Errorf("%s, look %d: slept %s, moved %t; want %s, %t", name, i, slept, moved, k.slept, k.moved)
			}
		}
	}
}

func TestKeysAreToldAgain(t *testing.T) {
	t.Parallel()
	p, now := newProvided(), time.Now()
	var keys []cid.Cid
	for i := range byte(3) {
		keys = append(keys, workunits.RawCid(workunits.Sum([]byte{i})))
		p.add(keys[i], now)
		for range 20 {
			p.told(keys[i], now)
		}
	}
	if due, _ := p.due(now.Add(provideEvery / 2)); len(due) != 0 {
		t.Fatalf("%d keys are due, want none for hours", len(due))
	}
	p.again(now)
	if due, _ := p.due(now.Add(3 * time.Second)); len(due) != len(keys) {
		t.Errorf("%d of %d keys are due", len(due), len(keys))
	}
}

func TestForgetFailures(t *testing.T) {
	t.Parallel()
	h := newHost(t, "h", Config{}, nil)
	h.fail("somebody")
	h.manager.detours["x"], h.manager.deaf["y"] = detour{}, time.Now()
	h.manager.forgetFailures()
	if n := len(h.manager.failed) + len(h.manager.detours) + len(h.manager.deaf); n > 0 {
		t.Errorf("%d failures are remembered", n)
	}
}

// A hole that cannot be made is a reason to ask how the node is seen: once for each
// failure at most, ever more rarely while it goes on, and soon again after a success.
func TestDoubtOfTheOwnAddress(t *testing.T) {
	t.Parallel()
	woken := 0
	r := reachability{woke: func() { woken++ }}
	end := func(success bool) { r.Trace(&holepunch.Event{Evt: &holepunch.EndHolePunchEvt{Success: success}}) }
	now := time.Now()
	if r.doubtful(now) {
		t.Error("before anything was tried")
	}
	end(false)
	end(false)
	if woken != 2 || !r.doubtful(now) || r.doubtful(now) {
		t.Errorf("woken %d times, want 2, and one doubt", woken)
	}
	end(false)
	if r.doubtful(now.Add(seeFirst/2)) || !r.doubtful(now.Add(2*seeFirst)) {
		t.Error("want the second a minute after the first")
	}
	end(false)
	if r.doubtful(now.Add(4 * seeFirst)) {
		t.Error("want the third no sooner than four minutes after the second")
	}
	end(true)
	if !r.doubtful(now.Add(4 * seeFirst)) {
		t.Error("a success does not end the wait")
	}
	end(true)
	if r.doubt(); r.failed != 4 || !r.doubtful(now.Add(4*seeFirst)) {
		t.Error("a way that was lost is no reason")
	}
}
