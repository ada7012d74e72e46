package machines

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/talka-grid/talka/workunits"
)

func newTestID(b byte) workunits.NodeID { return workunits.NodeID{b, 1, 2, 3} }

// open opens a stream as a hostile node would.
func (n *node) open(to *node, name string) Stream {
	n.w.Helper()
	st, err := real{n.host, n}.Open(n.w.Context(), to.id(), to.host.Addrs(), name)
	if err != nil {
		n.w.Fatal(err)
	}
	if err := st.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		n.w.Fatal(err)
	}
	n.w.Cleanup(func() { _ = st.Close() })
	return st
}

// begin sends a hello and returns what the maker answers.
func (n *node) begin(to *node, name string) (Stream, hello, challenge) {
	n.w.Helper()
	st := n.open(to, PairStream)
	h := hello{Version: pairVersion, Name: name, Role: RoleControl, Nonce: newSecret(nonceBytes), Addrs: []string{}}
	if err := writeFrame(st, h); err != nil {
		n.w.Fatal(err)
	}
	c, err := readFrame[challenge](st, maxPairMsg)
	if err != nil {
		n.w.Fatal(err)
	}
	return st, h, c
}

// TestWrongCode guesses, until the code is void for everybody.
func TestWrongCode(t *testing.T) {
	w := newWorld(t)
	desk, lap, evil := w.node("desk"), w.node("laptop"), w.node("evil")
	code, met := desk.offered(RoleControl)
	c, err := ParseCode(code)
	if err != nil {
		t.Fatal(err)
	}
	for range maxTries {
		c.secret = newSecret(secretBytes)
		if _, err := evil.Join(t.Context(), c.text(), "", RoleControl); !errors.Is(err, ErrRefused) {
			t.Errorf("a wrong code: %v", err)
		}
	}
	if err := <-met; !errors.Is(err, ErrCode) || !strings.Contains(err.Error(), "wrong tries") {
		t.Errorf("its owner is told: %v", err)
	}
	if _, err := lap.Join(t.Context(), code, "", RoleControl); !errors.Is(err, ErrRefused) {
		t.Errorf("a void code: %v", err)
	}
	if len(desk.List()) > 0 || len(lap.List()) > 0 || len(evil.List()) > 0 {
		t.Error("somebody was let in")
	}
}

func TestUsedCode(t *testing.T) {
	w := newWorld(t)
	desk, lap, evil := w.node("desk"), w.node("laptop"), w.node("evil")
	code, met := desk.offered(RoleControl)
	// Many at once, of whom one gets in.
	var group sync.WaitGroup
	errs := make(chan error, 2)
	for _, n := range []*node{lap, evil} {
		group.Go(func() {
			_, err := n.Join(t.Context(), code, "", RoleControl)
			errs <- err
		})
	}
	group.Wait()
	if x, y := <-errs, <-errs; (x == nil) == (y == nil) {
		t.Errorf("two use one code: %v, %v", x, y)
	}
	if err := <-met; err != nil {
		t.Error(err)
	}
	if _, err := evil.Join(t.Context(), code, "", RoleControl); !errors.Is(err, ErrRefused) || len(desk.List()) != 1 {
		t.Errorf("a used code: %v", err)
	}
}

func TestExpiredCode(t *testing.T) {
	w := newWorld(t)
	desk, lap := w.node("desk"), w.node("laptop")
	code, _ := desk.offered(RoleControl)
	st, h, c := lap.begin(desk, "late") // in time, but not with its proof
	parsed, err := ParseCode(code)
	if err != nil {
		t.Fatal(err)
	}
	desk.pass(codeTime)
	tr := transcript{Network: w.name, Maker: desk.id(), Joiner: lap.id(), Hello: h, Challenge: c}
	if err := writeFrame(st, proof{MAC: tr.mac(parsed.secret, "joiner")}); err != nil {
		t.Fatal(err)
	}
	if p, err := readFrame[proof](st, maxPairMsg); err != nil || p.Refused == "" {
		t.Errorf("a proof that is late: %v, %v", p, err)
	}
	if _, err := lap.Join(t.Context(), code, "", RoleControl); !errors.Is(err, ErrRefused) || len(desk.List()) > 0 {
		t.Errorf("an expired code: %v", err)
	}
}

// TestReplay plays what was recorded of a good pairing again, to the same machine, and
// to itself.
func TestReplay(t *testing.T) {
	w := newWorld(t)
	desk, lap, evil := w.node("desk"), w.node("laptop"), w.node("evil")
	code, met := desk.offered(RoleControl)
	parsed, err := ParseCode(code)
	if err != nil {
		t.Fatal(err)
	}
	st, h, c := lap.begin(desk, "laptop")
	tr := transcript{Network: w.name, Maker: desk.id(), Joiner: lap.id(), Hello: h, Challenge: c}
	mac := tr.mac(parsed.secret, "joiner")
	// Another node with the proof of this one, on a stream of its own.
	other, _, _ := evil.begin(desk, "laptop")
	if err := writeFrame(other, proof{MAC: mac}); err != nil {
		t.Fatal(err)
	}
	if p, err := readFrame[proof](other, maxPairMsg); err != nil || p.Refused == "" {
		t.Errorf("the proof of another: %v, %v", p, err)
	}
	if err := writeFrame(st, proof{MAC: mac}); err != nil {
		t.Fatal(err)
	}
	p, err := readFrame[proof](st, maxPairMsg)
	if err != nil || p.Refused != "" {
		t.Fatalf("the real one: %v, %v", p, err)
	}
	if err := <-met; err != nil {
		t.Fatal(err)
	}
	if string(p.MAC) == string(mac) {
		t.Error("the maker's proof is the joiner's: it could be played back")
	}
	// The same machine and words again, with the code used, and with another live.
	for range 2 {
		st, _, c := lap.begin(desk, "laptop")
		if c.Refused == "" {
			if err := writeFrame(st, proof{MAC: mac}); err != nil {
				t.Fatal(err)
			}
			if p, err := readFrame[proof](st, maxPairMsg); err != nil || p.Refused == "" {
				t.Errorf("a proof played again: %v, %v", p, err)
			}
		}
		desk.offered(RoleControl)
	}
	if len(desk.List()) != 1 || desk.knows(evil) {
		t.Errorf("%v", desk.List())
	}
}

// TestFalseMaker has a maker that does not know the secret, and one that says other
// than its code.
func TestFalseMaker(t *testing.T) {
	w := newWorld(t)
	desk, lap := w.node("desk"), w.node("laptop")
	for name, change := range map[string]func(*offer){
		"secret": func(o *offer) { o.code.secret = newSecret(secretBytes) },
		"role":   func(o *offer) { o.told.Role = RoleRead },
		"name":   func(o *offer) { o.told.Name = "a\nb" },
	} {
		code, _ := desk.offered(RoleControl)
		desk.Set.mu.Lock()
		change(desk.Set.offer)
		desk.Set.mu.Unlock()
		if _, err := lap.Join(t.Context(), code, "", RoleControl); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(lap.List()) > 0 {
		t.Error("it is on the list")
	}
	code, _ := desk.offered(RoleControl)
	if _, err := desk.Join(t.Context(), code, "", RoleControl); !errors.Is(err, ErrCode) {
		t.Errorf("with itself: %v", err)
	}
	elsewhere := Code{Network: "other", ID: desk.id(), Name: "x", Role: RoleRead, secret: newSecret(secretBytes)}
	if _, err := lap.Join(t.Context(), elsewhere.text(), "", RoleControl); !errors.Is(err, ErrCode) || !strings.Contains(err.Error(), `network "other"`) {
		t.Errorf("another network: %v", err)
	}
	away := Code{Network: w.name, ID: newTestID(9), Name: "x", Role: RoleRead, secret: newSecret(secretBytes)}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if _, err := lap.Join(ctx, away.text(), "", RoleControl); !errors.Is(err, ErrAway) {
		t.Errorf("nobody there: %v", err)
	}
}

// TestHostilePairing sends what no joiner does.
func TestHostilePairing(t *testing.T) {
	w := newWorld(t)
	desk, lap, evil := w.node("desk"), w.node("laptop"), w.node("evil")
	code, met := desk.offered(RoleControl)
	good := hello{Version: pairVersion, Name: "x", Role: RoleRead, Nonce: newSecret(nonceBytes), Addrs: []string{}}
	for name, change := range map[string]func(*hello){
		"version": func(h *hello) { h.Version = 2 },
		"name":    func(h *hello) { h.Name = "<script>\x1b[2J" },
		"role":    func(h *hello) { h.Role = "admin" },
		"nonce":   func(h *hello) { h.Nonce = []byte{1} },
		"addrs":   func(h *hello) { h.Addrs = make([]string, 100) },
	} {
		h := good
		change(&h)
		st := evil.open(desk, PairStream)
		if err := writeFrame(st, h); err != nil {
			t.Fatal(err)
		}
		if c, err := readFrame[challenge](st, maxPairMsg); err != nil || c.Refused == "" {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	for name, raw := range map[string][]byte{
		"large":    binary.BigEndian.AppendUint32(nil, maxPairMsg+1),
		"no CBOR":  append(binary.BigEndian.AppendUint32(nil, 3), 1, 2, 3),
		"cut":      {0, 0},
		"not ours": append(binary.BigEndian.AppendUint32(nil, 1), 0xa0),
	} {
		st := evil.open(desk, PairStream)
		if _, err := st.Write(raw); err != nil {
			t.Fatal(err)
		}
		if name == "cut" {
			_ = st.Close()
			continue
		}
		if b, err := io.ReadAll(st); err == nil || len(b) > 0 {
			t.Errorf("%s is answered: %q, %v", name, b, err)
		}
	}
	// Those that say nothing hold a few places, not the code.
	for range maxPeer {
		if _, err := evil.open(desk, PairStream).Write([]byte{0}); err != nil {
			t.Fatal(err)
		}
	}
	w.until("all places are taken", func() bool {
		desk.Set.mu.Lock()
		defer desk.Set.mu.Unlock()
		return desk.Set.pairs[evil.id()] == maxPeer
	})
	if _, _, c := evil.begin(desk, "x"); c.Refused == "" {
		t.Error("one more is served")
	}
	if _, err := lap.Join(t.Context(), code, "", RoleRead); err != nil {
		t.Errorf("nobody else is: %v", err)
	}
	if err := <-met; err != nil {
		t.Error(err)
	}
}

// TestStranger asks without being paired, after being removed, and beyond its role.
func TestStranger(t *testing.T) {
	w := newWorld(t)
	desk, evil := w.node("desk"), w.node("evil")
	ask := asked{Version: askVersion, Request: Request{http.MethodPost, "/v1/pause", []byte("{}")}}
	if a, err := evil.send(t.Context(), Machine{ID: desk.id(), Addrs: desk.host.Addrs()}, ask); !errors.Is(err, ErrRefused) {
		t.Errorf("a stranger: %v, %v", a, err)
	}
	for _, w := range []words{
		{Removed: []removed{{desk.id(), newWord()}}},
		{Introduced: []introduced{{ID: evil.id(), Name: "evil", Role: RoleControl, Gives: RoleControl}}},
	} {
		if a, err := evil.send(t.Context(), Machine{ID: desk.id(), Addrs: desk.host.Addrs()}, asked{Version: askVersion, Request: Request{Body: []byte{}}, Words: w}); !errors.Is(err, ErrRefused) {
			t.Errorf("a stranger's words: %v, %v", a, err)
		}
	}
	if len(desk.heard()) > 0 || len(desk.List()) > 0 {
		t.Errorf("asked %v, list %v", desk.heard(), desk.List())
	}
	w.pair(desk, evil, RoleControl, RoleControl)
	if _, err := evil.post(desk); err != nil {
		t.Error(err)
	}
	known, err := evil.Machine(desk.id())
	if err != nil {
		t.Fatal(err)
	}
	// A request that was begun before it was removed, and ends after that.
	var begun bytes.Buffer
	if err := writeFrame(&begun, ask); err != nil {
		t.Fatal(err)
	}
	early := evil.open(desk, OwnerStream)
	if _, err := early.Write(begun.Next(10)); err != nil {
		t.Fatal(err)
	}
	w.until("it is being served", func() bool {
		desk.Set.mu.Lock()
		defer desk.Set.mu.Unlock()
		return desk.Set.busy[evil.id()] > 0
	})
	if _, _, err := desk.Remove(evil.id()); err != nil {
		t.Fatal(err)
	}
	if _, err := early.Write(begun.Bytes()); err != nil {
		t.Fatal(err)
	}
	if a, err := readFrame[answered](early, maxAnswer); err != nil || a.Refused != notPaired {
		t.Errorf("a request of before: %v, %v", a, err)
	}
	if a, err := evil.send(t.Context(), known, ask); !errors.Is(err, ErrRefused) || len(desk.heard()) != 1 {
		t.Errorf("a removed machine: %v, %v", a, err)
	}
}

// TestHostileWords has a machine that may control this one say what none does.
func TestHostileWords(t *testing.T) {
	w := newWorld(t)
	desk, evil := w.node("desk"), w.node("evil")
	w.pair(desk, evil, RoleControl, RoleControl)
	known, err := evil.Machine(desk.id())
	if err != nil {
		t.Fatal(err)
	}
	intro := func(i introduced) words { return words{Introduced: []introduced{i}} }
	for name, bad := range map[string]words{
		"name":  intro(introduced{ID: newTestID(1), Name: "a\x1b[2J", Role: RoleRead, Gives: RoleRead}),
		"role":  intro(introduced{ID: newTestID(1), Name: "a", Role: "owner", Gives: RoleRead}),
		"id":    intro(introduced{Name: "a", Role: RoleRead, Gives: RoleRead}),
		"word":  {Removed: []removed{{newTestID(1), "../../etc"}}},
		"whom":  {Removed: []removed{{Word: newWord()}}}, // everybody who was introduced by nobody
		"many":  {Removed: make([]removed, maxWords+1)},
		"addrs": intro(introduced{ID: newTestID(1), Name: "a", Role: RoleRead, Gives: RoleRead, Addrs: make([]string, 99)}),
	} {
		if _, err := evil.send(t.Context(), known, asked{Version: askVersion, Request: Request{Body: []byte{}}, Words: bad}); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(desk.List()) != 1 {
		t.Errorf("%v", desk.List())
	}
}

// TestFullList has a machine that may control this one say as much as it can for the
// list: the next start reads it.
func TestFullList(t *testing.T) {
	t.Parallel()
	s := fresh(t, t.TempDir())
	s.kept.Machines = []Machine{{ID: newTestID(2), Name: "evil", Role: RoleControl}}
	say := func(w words) {
		q := framed(t, asked{Version: askVersion, Request: Request{Body: []byte{}}, Words: w})
		told, _ := said(t, func(st Stream) { s.ServeOwner(newTestID(2), st) }, q, false)
		if a, err := readFrame[answered](bytes.NewReader(told), maxAnswer); err != nil || a.Refused != "" {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	for i := range MaxMachines / 16 {
		var w words
		for j := range byte(16) {
			addrs := slices.Repeat([]string{strings.Repeat("<", maxAddrLen)}, maxAddrs)
			w.Introduced = append(w.Introduced, introduced{newTestID(byte(16*i) + 3 + j), strings.Repeat("<", MaxName), RoleControl, RoleControl, addrs})
		}
		say(w)
	}
	for range maxRemovals / maxWords {
		var w words
		for range maxWords {
			w.Removed = append(w.Removed, removed{newTestID(255), newWord()})
		}
		say(w)
	}
	if len(s.kept.Machines) != MaxMachines || len(s.kept.Removals) != maxRemovals {
		t.Fatalf("%d machines, %d removals", len(s.kept.Machines), len(s.kept.Removals))
	}
	onDisk(t, s)
}

// TestBounds sends and answers more than is taken.
func TestBounds(t *testing.T) {
	w := newWorld(t)
	desk, evil := w.node("desk"), w.node("evil")
	w.pair(desk, evil, RoleControl, RoleControl)
	if a, err := evil.Ask(t.Context(), desk.id(), Request{"GET", "/v1/status", make([]byte, maxAsk)}); !errors.Is(err, ErrAway) || len(desk.heard()) > 0 {
		t.Errorf("a large request: %v, %v", a.Status, err)
	}
	evil.large = maxAnswer + 1
	if a, err := desk.get(evil); !errors.Is(err, ErrRefused) {
		t.Errorf("a large answer of an honest machine: %v, %v", a.Status, err)
	}
	raw := func(b []byte) {
		evil.host.Handle(OwnerStream, func(_ workunits.NodeID, s p2pStream) {
			_, _ = s.Write(b)
			_ = s.Close()
		})
	}
	for name, b := range map[string][]byte{
		"large":     binary.BigEndian.AppendUint32(nil, maxAnswer+1<<11),
		"no CBOR":   append(binary.BigEndian.AppendUint32(nil, 3), 1, 2, 3),
		"truncated": {0, 0, 1, 0, 7},
	} {
		raw(b)
		if a, err := desk.get(evil); !errors.Is(err, ErrAway) {
			t.Errorf("%s: %v, %v", name, a.Status, err)
		}
	}
	// One that says nothing holds nobody for longer than the caller wants.
	evil.host.Handle(OwnerStream, func(_ workunits.NodeID, s p2pStream) { _, _ = io.Copy(io.Discard, s) })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := desk.Ask(ctx, evil.id(), Request{Method: "GET", Path: "/v1/status"}); !errors.Is(err, ErrAway) {
		t.Errorf("a silent machine: %v", err)
	}
	// Open streams of one machine are few.
	for range maxBusy {
		if _, err := evil.open(desk, OwnerStream).Write([]byte{0}); err != nil {
			t.Fatal(err)
		}
	}
	w.until("they are served", func() bool {
		desk.Set.mu.Lock()
		defer desk.Set.mu.Unlock()
		return desk.Set.busy[evil.id()] == maxBusy
	})
	if a, err := evil.get(desk); !errors.Is(err, ErrAway) || !strings.Contains(err.Error(), "at a time") {
		t.Errorf("one stream more: %v, %v", a, err)
	}
}
