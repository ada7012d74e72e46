package machines

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

func TestPair(t *testing.T) {
	w := newWorld(t)
	desk, lap := w.node("desk"), w.node("lap\x1b[2Jtop")
	w.pair(desk, lap, RoleControl, RoleRead)
	for _, c := range []struct {
		at, of     *node
		name       string
		has, gives Role
	}{{desk, lap, "lap[2Jtop", RoleControl, RoleRead}, {lap, desk, "desk", RoleRead, RoleControl}} {
		list := c.at.List()
		want := []Machine{{ID: c.of.id(), Name: c.name, Role: c.has, Gives: c.gives, Since: c.at.now().UTC()}}
		for i := range list {
			if len(list[i].Addrs) == 0 {
				t.Errorf("%s does not know where %s is", c.at.Name(), c.name)
			}
			list[i].Addrs = nil
		}
		if diff := gocmp.Diff(want, list); diff != "" {
			t.Errorf("list of %s (-want +got):\n%s", c.at.Name(), diff)
		}
	}
	// The one may do everything at the other, which may only look.
	if a, err := lap.post(desk); err != nil || a.Status != http.StatusOK || string(a.Body) != "this is desk" {
		t.Errorf("%v, %v", a, err)
	}
	if a, err := desk.get(lap); err != nil || a.Status != http.StatusOK {
		t.Errorf("%v, %v", a, err)
	}
	if a, err := desk.post(lap); err != nil || a.Status != http.StatusForbidden {
		t.Errorf("a machine that may only look: %v, %v", a, err)
	}
	want := []asking{{RoleRead, Request{"GET", "/v1/status", []byte{}}}, {RoleRead, Request{"POST", "/v1/pause", []byte("{}")}}}
	if diff := gocmp.Diff(want, lap.heard()); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	// A new pairing is what changes roles; the name that the owner gave stays.
	if _, err := desk.Rename(lap.id(), "portable"); err != nil {
		t.Fatal(err)
	}
	w.pair(desk, lap, RoleRead, RoleControl)
	if m, err := desk.Machine(lap.id()); err != nil || m.Name != "portable" || m.Role != RoleRead || m.Gives != RoleControl {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestAskedWhileJoining has a maker that asks the joiner before the joiner knows that the
// pairing succeeded.
func TestAskedWhileJoining(t *testing.T) {
	w := newWorld(t)
	desk, lap := w.node("desk"), w.node("laptop")
	code, met := desk.offered(RoleControl)
	answer := make(chan error, 1)
	lap.wrote = func(n int) {
		if n != 2 { // its proof
			return
		}
		if err := <-met; err != nil {
			t.Error(err)
		}
		go func() {
			_, err := desk.get(lap)
			answer <- err
		}()
		w.until("it asks", func() bool {
			lap.Set.mu.Lock()
			defer lap.Set.mu.Unlock()
			return lap.busy[desk.id()] > 0 || len(answer) > 0
		})
	}
	if _, err := lap.Join(t.Context(), code, "", RoleControl); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; err != nil {
		t.Error(err)
	}
}

// TestFoundAgain has machines that are other processes at other ports after a while.
func TestFoundAgain(t *testing.T) {
	w := newWorld(t)
	desk, lap, third := w.node("desk"), w.node("laptop"), w.node("third")
	w.pair(desk, lap, RoleControl, RoleControl)
	lap.stop()
	if a, err := desk.get(lap); !errors.Is(err, ErrAway) {
		t.Errorf("a machine that is off: %v, %v", a, err)
	}
	desk.stop()
	lap.start("laptop") // it knows the third alone
	desk.start("desk")
	_ = third
	w.until("they find each other", func() bool {
		a, err := desk.get(lap)
		b, err2 := lap.get(desk)
		return err == nil && err2 == nil && a.Status == 200 && b.Status == 200
	})
	m, err := desk.Machine(lap.id())
	if err != nil {
		t.Fatal(err)
	}
	if err := desk.Seen(lap.id(), lap.host.Addrs()); err != nil {
		t.Error(err)
	}
	if now, err := desk.Machine(lap.id()); err != nil || slices.Equal(now.Addrs, m.Addrs) || !slices.Equal(now.Addrs, lap.host.Addrs()) {
		t.Errorf("it is remembered at %v, and is at %v", now.Addrs, lap.host.Addrs())
	}
}

func TestNames(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.node("host"), w.node("host"), w.node("host")
	w.pair(a, b, RoleRead, RoleRead)
	w.pair(a, c, RoleRead, RoleRead)
	if list := a.List(); len(list) != 2 || list[0].Name != "host" || list[1].Name != "host-2" {
		t.Errorf("%+v", list)
	}
	if _, err := a.Rename(c.id(), "host"); !errors.Is(err, ErrLimit) {
		t.Errorf("two machines of one name: %v", err)
	}
	for _, bad := range []string{"", " x", "a\nb", "a\u202eb", strings.Repeat("x", MaxName+1), "\xff"} {
		if _, err := a.Rename(c.id(), bad); !errors.Is(err, ErrLimit) {
			t.Errorf("name %q: %v", bad, err)
		}
		if ValidName(nameOf(bad)) != nil {
			t.Errorf("%q becomes %q", bad, nameOf(bad))
		}
	}
	// What was changed is there after a restart, in a file of the owner alone.
	if _, err := a.Rename(c.id(), "c"); err != nil {
		t.Fatal(err)
	}
	want := a.List()
	again, err := New(Config{Dir: a.dir})
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(want, again.List()); diff != "" {
		t.Errorf("read again (-want +got):\n%s", diff)
	}
	info, err := os.Stat(filepath.Join(a.dir, fileName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestDamagedFile(t *testing.T) {
	t.Parallel()
	id := newTestID(1)
	good := fmt.Sprintf(`{"version":1,"machines":[{"peer_id":%q,"name":"a","role":"read"}]}`, id)
	for name, text := range map[string]string{
		"cut off":  good[:len(good)-5],
		"version":  strings.Replace(good, "1,", "2,", 1),
		"role":     strings.Replace(good, `"read"`, `"owner"`, 1),
		"name":     strings.Replace(good, `"a"`, `"a\u001b"`, 1),
		"id":       strings.Replace(good, id.String(), "x", 1),
		"addrs":    strings.Replace(good, `"role"`, `"addrs":["`+strings.Repeat("a", 999)+`"],"role"`, 1),
		"large":    good + strings.Repeat(" ", maxFile),
		"no file":  "",
		"good one": good,
	} {
		dir := t.TempDir()
		if text != "" {
			if err := os.WriteFile(filepath.Join(dir, fileName), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, err := New(Config{Dir: dir})
		if fine := name == "no file" || name == "good one"; fine != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCode(t *testing.T) {
	t.Parallel()
	want := Code{Network: "talka", ID: newTestID(7), Name: "Küche", Role: RoleRead, secret: bytes.Repeat([]byte{3}, secretBytes), addrs: []string{
		"/ip4/198.51.100.7/udp/1/quic-v1", "/ip4/192.168.1.2/udp/1/quic-v1", "/ip4/198.51.100.7/tcp/1",
	}}
	text := want.text()
	got, err := ParseCode("  " + strings.ToUpper(text[:9]) + "\n " + text[9:])
	if diff := gocmp.Diff(want, got, gocmp.AllowUnexported(Code{})); diff != "" || err != nil {
		t.Errorf("%v, code (-want +got):\n%s", err, diff)
	}
	for i := range len(text) {
		for _, c := range "a7" {
			bad := text[:i] + string(c) + text[i+1:]
			if _, err := ParseCode(bad); bad != text && !errors.Is(err, ErrCode) {
				t.Fatalf("character %d is %c: %v", i, c, err)
			}
		}
	}
	for _, bad := range []string{"", "pair1", "pair2aaaa", "talka1aaaa", "x", text + text, text[:len(text)-1], "pair1" + strings.Repeat("a", 9999)} {
		if _, err := ParseCode(bad); !errors.Is(err, ErrCode) {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
	// As short as it can be, and of a length that fits a QR code.
	long := want
	long.addrs = slices.Repeat([]string{"/ip4/198.51.100.7/udp/8255/quic-v1/p2p/" + newTestID(2).String() + "/p2p-circuit"}, 9)
	t.Logf("%d characters, at most %d", len(text), len(long.text()))
	if len(text) > 200 || len(long.text()) > 700 {
		t.Error("codes are too long")
	}
}

func TestSpread(t *testing.T) {
	t.Parallel()
	got := spread([]string{"/ip4/1.1.1.1/udp/1", "/ip4/1.1.1.1/tcp/1", "/ip6/::1/tcp/1", "/ip4/1.1.1.1/tcp/2", "/ip4/2.2.2.2/tcp/1", "x", ""})
	if want := []string{"/ip4/1.1.1.1/udp/1", "/ip6/::1/tcp/1", "/ip4/2.2.2.2/tcp/1", "x"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func FuzzParseCode(f *testing.F) {
	f.Add(Code{Network: "talka", ID: newTestID(7), Name: "a", Role: RoleRead, secret: make([]byte, secretBytes)}.text())
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCode(text)
		if err == nil && c.text() != strings.ToLower(strings.Join(strings.Fields(text), "")) {
			t.Errorf("%q is read as %q", text, c.text())
		}
	})
}

// TestRemove removes one machine at another, while one that concerns it is off.
func TestRemove(t *testing.T) {
	w := newWorld(t)
	desk, server, lost, off := w.node("desk"), w.node("server"), w.node("lost"), w.node("off")
	for _, n := range []*node{server, lost, off} {
		w.pair(desk, n, RoleControl, RoleControl)
	}
	for _, r := range desk.Introduce(t.Context()) {
		if r.Error != "" {
			t.Errorf("%s: %s", r.Machine.Name, r.Error)
		}
	}
	if !server.knows(lost) || !lost.knows(off) || !off.knows(server) {
		t.Fatal("introduced machines do not know each other")
	}
	if m, err := off.Machine(lost.id()); err != nil || m.By != desk.id() || m.Role != RoleControl {
		t.Errorf("%+v, %v", m, err)
	}
	if a, err := lost.post(server); err != nil || a.Status != http.StatusOK {
		t.Errorf("%v, %v", a, err)
	}
	off.stop()
	gone, deaf, err := server.Remove(lost.id())
	if err != nil || len(gone) != 1 || gone[0].ID != lost.id() || len(deaf) > 0 {
		t.Errorf("%v, %v, %v", gone, deaf, err)
	}
	if a, err := lost.post(server); !errors.Is(err, ErrRefused) && !errors.Is(err, ErrUnknown) {
		t.Errorf("a removed machine: %v, %v", a, err)
	}
	w.until("all that are there know", func() bool { return !desk.knows(lost) && !lost.knows(server) && !lost.knows(desk) })
	if a, err := lost.post(desk); !errors.Is(err, ErrUnknown) {
		t.Errorf("a removed machine: %v, %v", a, err)
	}
	off.start("off")
	w.until("the one that was off knows", func() bool {
		// Nobody waits for it to be tried: that it asks is enough.
		_, err := off.get(desk)
		return err == nil && !off.knows(lost)
	})
	if !off.knows(server) || !desk.knows(off) {
		t.Error("others went, too")
	}
	// It comes back by a code, to stay; introductions do not bring it back.
	w.pair(desk, lost, RoleControl, RoleControl)
	desk.Introduce(t.Context())
	if server.knows(lost) {
		t.Error("an introduction brought a removed machine back")
	}
	if !desk.knows(lost) || !lost.knows(desk) {
		t.Error("a removal of before undid a pairing")
	}
}

// TestRemoveIntroducer has what a stolen machine let in go with it.
func TestRemoveIntroducer(t *testing.T) {
	w := newWorld(t)
	desk, stolen, evil, server := w.node("desk"), w.node("stolen"), w.node("evil"), w.node("server")
	w.pair(desk, stolen, RoleControl, RoleControl)
	w.pair(desk, server, RoleControl, RoleControl)
	w.pair(evil, stolen, RoleControl, RoleControl)
	stolen.Introduce(t.Context())
	if !desk.knows(evil) {
		t.Fatal("no introduction")
	}
	gone, _, err := desk.Remove(stolen.id())
	if err != nil || len(gone) != 2 || desk.knows(evil) || !desk.knows(server) {
		t.Errorf("gone %v, %v", gone, err)
	}
	if a, err := evil.post(desk); err == nil {
		t.Errorf("who came with it stays: %v", a)
	}
}

// TestLookersStayLookers sends the words of a machine that may only look.
func TestLookersStayLookers(t *testing.T) {
	w := newWorld(t)
	desk, looker, server := w.node("desk"), w.node("looker"), w.node("server")
	w.pair(desk, looker, RoleRead, RoleControl)
	w.pair(desk, server, RoleControl, RoleControl)
	w.pair(server, looker, RoleControl, RoleControl)
	for _, r := range looker.Introduce(t.Context()) {
		if (r.Error == "") != (r.Machine.ID == server.id()) {
			t.Errorf("%s: %q", r.Machine.Name, r.Error)
		}
	}
	_, deaf, err := looker.Remove(server.id())
	if err != nil || len(deaf) != 1 || deaf[0].ID != desk.id() {
		t.Errorf("deaf %v, %v", deaf, err)
	}
	w.until("it has said so", func() bool { return len(looker.pending()) == 0 })
	if !desk.knows(server) || !desk.knows(looker) || server.knows(looker) {
		t.Error("who may only look removed another machine, or did not leave")
	}
	// What it was allowed counts when it is asked, not when it was met.
	if m, err := server.Machine(desk.id()); err != nil || m.Role != RoleControl {
		t.Fatalf("%v, %v", m, err)
	}
	if err := desk.hear(Machine{ID: looker.id(), Role: RoleControl}, words{Removed: []removed{{server.id(), newWord()}}}); err == nil || !desk.knows(server) {
		t.Errorf("a role of before counts: %v", err)
	}
}

// pending are those that are still to be told something.
func (s *Set) pending() []Machine {
	wait := time.Duration(0)
	s.mu.Lock()
	clear(s.delays)
	s.mu.Unlock()
	return s.due(&wait)
}

func TestLeave(t *testing.T) {
	w := newWorld(t)
	desk, sold, server := w.node("desk"), w.node("sold"), w.node("server")
	w.pair(desk, sold, RoleRead, RoleControl)
	w.pair(desk, server, RoleControl, RoleControl)
	if err := sold.Leave(); err != nil {
		t.Fatal(err)
	}
	if a, err := desk.get(sold); !errors.Is(err, ErrRefused) && !errors.Is(err, ErrUnknown) {
		t.Errorf("a machine that left: %v, %v", a, err)
	}
	w.until("the other knows", func() bool { return !desk.knows(sold) })
	if !desk.knows(server) || !server.knows(desk) {
		t.Error("others went, too")
	}
}

func TestMany(t *testing.T) {
	t.Parallel()
	k := kept{}
	for i := range MaxMachines {
		if err := k.put(Machine{ID: newTestID(byte(i)), Name: strings.Repeat("é", MaxName/2)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.put(Machine{ID: newTestID(250), Name: "x"}); !errors.Is(err, ErrLimit) {
		t.Errorf("one too many: %v", err)
	}
	names := map[string]bool{}
	for _, m := range k.Machines {
		if err := ValidName(m.Name); err != nil || names[m.Name] {
			t.Errorf("%q: %v", m.Name, err)
		}
		names[m.Name] = true
	}
	for range 2 * maxRemovals {
		k.tell(newTestID(250), newWord(), time.Now())
	}
	if len(k.Removals) != maxRemovals || len(k.untold(newTestID(1))) != maxWords {
		t.Errorf("%d removals are kept, %d told at a time", len(k.Removals), len(k.untold(newTestID(1))))
	}
}

// TestDiskFull has a list that cannot be written: what is not kept did not happen.
func TestDiskFull(t *testing.T) {
	w := newWorld(t)
	desk, lap, third := w.node("desk"), w.node("laptop"), w.node("third")
	w.pair(desk, lap, RoleControl, RoleControl)
	if err := os.RemoveAll(desk.dir); err != nil {
		t.Fatal(err)
	}
	if _, _, err := desk.Remove(lap.id()); err == nil || !desk.knows(lap) {
		t.Errorf("removed on no disk: %v", err)
	}
	code, met := desk.offered(RoleControl)
	if _, err := third.Join(t.Context(), code, "", RoleRead); !errors.Is(err, ErrRefused) || third.knows(desk) {
		t.Errorf("joined on no disk: %v", err)
	}
	if err := <-met; err == nil || desk.knows(third) {
		t.Errorf("paired on no disk: %v", err)
	}
	// What it could not keep is told again.
	w.pair(lap, third, RoleControl, RoleControl)
	if _, _, err := lap.Remove(third.id()); err != nil {
		t.Fatal(err)
	}
	if got := lap.tellAll(t.Context()); got > lastDelay || !slices.ContainsFunc(lap.pending(), func(m Machine) bool { return m.ID == desk.id() }) {
		t.Errorf("it counts as told, next after %v", got)
	}
	if err := os.MkdirAll(desk.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w.until("it is told", func() bool {
		lap.tellAll(t.Context())
		return len(lap.pending()) == 0
	})
}

func TestWithdrawn(t *testing.T) {
	w := newWorld(t)
	desk, lap := w.node("desk"), w.node("laptop")
	ctx, cancel := context.WithCancel(t.Context())
	var code string
	if _, err := desk.Offer(ctx, "", RoleControl, func(o Offer) { code = o.Code; cancel() }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := lap.Join(t.Context(), code, "", RoleControl); !errors.Is(err, ErrRefused) {
		t.Errorf("a code that was withdrawn: %v", err)
	}
	first, met := desk.offered(RoleControl)
	second, met2 := desk.offered(RoleRead)
	if err := <-met; !errors.Is(err, ErrCode) {
		t.Errorf("a code that another replaced: %v", err)
	}
	if _, err := lap.Join(t.Context(), first, "", RoleControl); !errors.Is(err, ErrRefused) {
		t.Errorf("a code that another replaced: %v", err)
	}
	if _, err := lap.Join(t.Context(), second, "", RoleControl); err != nil {
		t.Error(err)
	}
	if err := <-met2; err != nil {
		t.Error(err)
	}
	for _, bad := range []Role{"", "admin", "owner"} {
		if _, err := desk.Offer(t.Context(), "", bad, func(Offer) { t.Error("a code is shown") }); !errors.Is(err, ErrLimit) {
			t.Errorf("role %q: %v", bad, err)
		}
		if _, err := lap.Join(t.Context(), second, "", bad); !errors.Is(err, ErrCode) {
			t.Errorf("role %q: %v", bad, err)
		}
	}
}

// TestVectors holds what machines of other versions rely on: the text of a code and the
// proofs of a pairing.
func TestVectors(t *testing.T) {
	t.Parallel()
	c := Code{Network: "talka", ID: newTestID(7), Name: "desk", Role: RoleControl, secret: bytes.Repeat([]byte{3}, secretBytes), addrs: []string{"/ip4/198.51.100.7/udp/8255/quic-v1"}}
	tr := transcript{
		Network: "talka", Maker: newTestID(7), Joiner: newTestID(8),
		Hello:     hello{Version: 1, Name: "laptop", Role: RoleRead, Nonce: bytes.Repeat([]byte{1}, nonceBytes), Addrs: []string{}},
		Challenge: challenge{Name: "desk", Role: RoleControl, Nonce: bytes.Repeat([]byte{2}, nonceBytes)},
	}
	got := []string{c.text(), hex.EncodeToString(tr.mac(c.secret, "joiner")), hex.EncodeToString(tr.mac(c.secret, "maker"))}
	want := []string{
		"pair1qzsxiylmnnqvqiahaebagaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabsgizltnntwg33oorzg63cqambqgaydambqgaydambqgaydaoauwbgggnsapeicea742az26rqta",
		"bbb0f0ccfd54a03ef554b5e7d0b77de1a63f7060f0d544e3ed52e5971f86d1f3",
		"38fa96b3a530ef4c1f9c5be8065a7a393a87441601b96a51c2fb9f1ce8aa864f",
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("vectors (-want +got):\n%s", diff)
	}
	for name, other := range map[string]transcript{
		"network": {Network: "other", Maker: tr.Maker, Joiner: tr.Joiner, Hello: tr.Hello, Challenge: tr.Challenge},
		"maker":   {Network: tr.Network, Maker: newTestID(9), Joiner: tr.Joiner, Hello: tr.Hello, Challenge: tr.Challenge},
		"joiner":  {Network: tr.Network, Maker: tr.Maker, Joiner: newTestID(9), Hello: tr.Hello, Challenge: tr.Challenge},
	} {
		if hex.EncodeToString(other.mac(c.secret, "joiner")) == got[1] {
			t.Errorf("the proof is not bound to the %s", name)
		}
	}
}

func FuzzFrames(f *testing.F) {
	for _, v := range []any{hello{Version: 1, Nonce: []byte{1}, Addrs: []string{"a"}}, challenge{Nonce: []byte{}}, proof{MAC: []byte{1}}, asked{Version: 1}, refusal("no")} {
		var b bytes.Buffer
		if err := writeFrame(&b, v); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		again(t, b, hello{})
		again(t, b, challenge{})
		again(t, b, proof{})
		again(t, b, asked{})
		again(t, b, answered{})
	})
}

// again reads a frame, which has one form.
func again[T any](t *testing.T, b []byte, _ T) {
	v, err := readFrame[T](bytes.NewReader(b), maxAsk)
	if err != nil {
		return
	}
	var w bytes.Buffer
	if err := writeFrame(&w, v); err != nil || !bytes.HasPrefix(b, w.Bytes()) {
		t.Errorf("%x is read as %x, %v", b, w.Bytes(), err)
	}
}
