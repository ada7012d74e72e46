package volunteer_test

import (
	"crypto/ed25519"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/talka-grid/talka/grid/volunteer"
	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
)

const start = 1_000_000

func keyOf(name string) ed25519.PrivateKey {
	seed := workunits.Sum([]byte("volunteer test " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func idOf(name string) workunits.NodeID { return workunits.NodeIDOf(keyOf(name)) }

// world is a job of publisher p with stewards p, s and c, and volunteer v.
type world struct {
	id       workunits.JobID
	manifest workunits.Manifest
	stewards []workunits.Steward
	author   *ledger.Author
	grantor  *ledger.Author
	m        *volunteer.Machine
}

func newWorld(t *testing.T, disk ...[]byte) *world {
	m := workunits.Manifest{
		Network: "test", Publisher: idOf("p"), Project: "test", Name: "test", Units: 4, Days: 30, Active: 3, Listed: 8, Shard: 4,
		Program: workunits.Link{Cid: workunits.RawCid(workunits.Sum(nil))},
		Limits:  workunits.Limits{Memory: 1 << 20, Output: 1, Wall: 1000, Tries: 2},
		Policy:  workunits.Policy{Mode: workunits.VerifyAudit, Error: 1e-2, Share: 0.2, Price: 10, MaxAgree: 2, Compare: workunits.Comparator{Kind: workunits.CompareBytes}},
	}
	id, _, err := m.Sign(keyOf("p"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{id: id, manifest: m}
	for _, name := range []string{"p", "s", "c"} {
		pub, _ := workunits.EncryptionKey(keyOf(name))
		w.stewards = append(w.stewards, workunits.Steward{Node: idOf(name), Enc: pub})
	}
	l := ledger.New("test", id)
	for _, raw := range disk {
		if _, err := l.Load(raw); err != nil {
			t.Fatal(err)
		}
	}
	w.author = ledger.NewAuthor(keyOf("v"), l)
	w.grantor = ledger.NewAuthor(keyOf("p"), ledger.New("test", id))
	w.m = volunteer.New(volunteer.Config{Self: idOf("v"), Arch: "amd64", Canon: true, Rand: rand.NewChaCha8([32]byte{1})})
	return w
}

// join makes the machine ask for work and returns whom it asked.
func (w *world) join(t *testing.T) workunits.NodeID {
	t.Helper()
	w.m.Step(start, volunteer.SetPolicy{Policy: volunteer.Policy{Slots: 2, Memory: 1 << 20}})
	fx := w.m.Step(start, volunteer.Join{Job: w.id, Manifest: w.manifest, Stewards: w.stewards, Author: w.author,
		Identity: workunits.Identity{Length: 1, Arch: "amd64"}})
	for _, o := range fx.Send {
		if _, ok := o.Msg.(wire.WorkRequest); ok {
			return o.To
		}
	}
	t.Fatalf("asks nobody: %+v", fx.Send)
	return workunits.NodeID{}
}

// grant answers with a grant by p that change may spoil.
func (w *world) grant(now uint64, change func(*workunits.Grant)) volunteer.Effects {
	g := workunits.Grant{To: idOf("v"), Units: []uint32{0, 2}, Inputs: w.manifest.InputsDigest(), Lease: 1000,
		Custodians: []workunits.NodeID{idOf("s"), idOf("c")}, Arch: "amd64"}
	if change != nil {
		change(&g)
	}
	raw, _ := w.grantor.Say(g)
	return w.m.Step(now, volunteer.Received{From: idOf("p"), Msg: wire.WorkReply{Job: w.id, Grant: raw}})
}

func finished(r volunteer.Run, text string) volunteer.Finished {
	block, d := workunits.Outcome{How: workunits.Exited, Out: workunits.OutFile{Size: uint64(len(text)), Data: []byte(text)}}.Encode()
	return volunteer.Finished{Task: r.Task, Result: workunits.Result{Digest: d}, Block: block, Millis: 10}
}

func TestCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if to := w.join(t); to != idOf("p") {
		t.Fatalf("asks %s first", to.Short())
	}
	runs := w.grant(start+10, nil).Run
	if len(runs) != 2 {
		t.Fatalf("runs %+v", runs)
	}
	if fx := w.m.Step(start+20, finished(runs[1], "two")); len(fx.Said) > 0 {
		t.Error("commits before its grant is through")
	}
	fx := w.m.Step(start+30, finished(runs[0], "zero"))
	if len(fx.Said) != 1 || len(fx.Said[0].Blocks) != 2 {
		t.Fatalf("said %+v", fx.Said)
	}
	c := fx.Said[0].Entries[0].Body.(workunits.Commit)
	if !slices.Equal(c.Units, []uint32{0, 2}) || c.Millis != 20 || len(c.Sealed) != 2 {
		t.Errorf("commit %+v", c)
	}
	for _, s := range c.Sealed {
		name := "s"
		if s.To == idOf("c") {
			name = "c"
		}
		pub, prv := workunits.EncryptionKey(keyOf(name))
		o, err := workunits.Unseal(s.Data, pub, prv)
		if err != nil {
			t.Fatal(err)
		}
		for i, u := range c.Units {
			id := workunits.Copy{Network: "test", Job: w.id, Volunteer: idOf("v"), Unit: u}
			if id.CommitHash(o.Results[i].Digest, o.Nonce(u)) != c.Hashes[i] {
				t.Errorf("the opening for %s does not open unit %d", name, u)
			}
		}
	}
	for _, o := range fx.Send {
		if p, ok := o.Msg.(wire.Push); ok && (len(p.Blocks) > 0) != (o.To != idOf("p")) {
			t.Error("results travel to custodians and to nobody else")
		}
	}
}

func TestFinishedCopiesDoNotWaitForLong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.join(t)
	runs := w.grant(start, nil).Run
	w.m.Step(start, finished(runs[0], "zero"))
	fx := w.m.Step(start+2000, volunteer.Tick{})
	if len(fx.Said) != 1 {
		t.Fatal("a finished copy waits for a slow one")
	}
	if c := fx.Said[0].Entries[0].Body.(workunits.Commit); !slices.Equal(c.Units, []uint32{0}) {
		t.Errorf("commit %+v", c)
	}
}

func TestBadGrantsAreRefused(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*workunits.Grant){
		"for another":             func(g *workunits.Grant) { g.To = idOf("w") },
		"other inputs":            func(g *workunits.Grant) { g.Inputs = workunits.Digest{} },
		"another architecture":    func(g *workunits.Grant) { g.Arch = "arm64" },
		"a unit beyond the job":   func(g *workunits.Grant) { g.Units = []uint32{4} },
		"a custodian who is none": func(g *workunits.Grant) { g.Custodians = []workunits.NodeID{idOf("w")} },
		"no custodian":            func(g *workunits.Grant) { g.Custodians = nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.join(t)
			if fx := w.grant(start, spoil); len(fx.Run) > 0 {
				t.Errorf("executes %+v", fx.Run)
			}
		})
	}
}

func TestSilentStewardIsPassedOver(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]volunteer.Input{"unreachable": volunteer.Unreachable{Peer: idOf("p")}, "silent": volunteer.Tick{}} {
		w := newWorld(t)
		w.join(t)
		fx := w.m.Step(start+5000, in)
		if !slices.ContainsFunc(fx.Send, func(o wire.Outgoing) bool {
			_, ok := o.Msg.(wire.WorkRequest)
			return ok && o.To != idOf("p")
		}) {
			t.Errorf("%s: asks %+v next", name, fx.Send)
		}
	}
}

// TestShunnedStewardIsNotAsked: two stewards' word, or the publisher's, keeps a
// volunteer from asking another; one steward's alone does not.
func TestShunnedStewardIsNotAsked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		shuns   map[string][]string // by who says so
		without string
	}{
		"one says so":           {map[string][]string{"s": {"c"}}, ""},
		"two say so":            {map[string][]string{"s": {"c"}, "d": {"c"}}, "c"},
		"the publisher says so": {map[string][]string{"p": {"s"}}, "s"},
		"it says so itself":     {map[string][]string{"c": {"c"}, "s": {"c"}}, ""},
		"it was taken back":     {map[string][]string{"s": {"c"}, "d": {}}, ""},
	} {
		w := newWorld(t)
		pub, _ := workunits.EncryptionKey(keyOf("d"))
		w.stewards, w.manifest.Active = append(w.stewards, workunits.Steward{Node: idOf("d"), Enc: pub}), 4
		asked := map[workunits.NodeID]bool{w.join(t): true}
		var step func(now uint64, in volunteer.Input)
		say := func(now uint64, by workunits.NodeID) {
			step(now, volunteer.Received{From: by, Msg: wire.WorkReply{Job: w.id, Reason: "nothing", Retry: 5000, Shuns: shunsOf(c.shuns, by)}})
		}
		step = func(now uint64, in volunteer.Input) {
			for _, o := range w.m.Step(now, in).Send {
				if _, ok := o.Msg.(wire.WorkRequest); ok {
					asked[o.To] = true
					say(now, o.To)
				}
			}
		}
		for by := range c.shuns {
			say(start, idOf(by))
		}
		clear(asked)
		for now := uint64(start); now < start+200_000; now += 5000 {
			step(now, volunteer.Tick{})
		}
		for _, n := range []string{"p", "s", "c", "d"} {
			if asked[idOf(n)] == (n == c.without) {
				t.Errorf("%s: %s is asked: %t", name, n, asked[idOf(n)])
			}
		}
	}
}

func shunsOf(shuns map[string][]string, by workunits.NodeID) (list []workunits.NodeID) {
	for name, names := range shuns {
		if idOf(name) == by {
			for _, n := range names {
				list = append(list, idOf(n))
			}
		}
	}
	return list
}

func TestPauseAndLeave(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.join(t)
	runs := w.grant(start, nil).Run
	w.m.Step(start, volunteer.SetPolicy{})
	fx := w.m.Step(start, finished(runs[0], "zero"))
	if len(fx.Run) > 0 {
		t.Error("starts a unit while it is paused")
	}
	fx = w.m.Step(start, volunteer.Leave{Job: w.id})
	if len(fx.Stop) != 1 || fx.Stop[0] != runs[1].Task {
		t.Errorf("stops %+v", fx.Stop)
	}
	if fx := w.m.Step(start, volunteer.Finished{Task: runs[1].Task, Void: workunits.VoidCancelled}); len(fx.Said) > 0 {
		t.Error("commits to a job that it left")
	}
}

// TestCommitOutlivesCrash: after a restart the log is offered, and pushed to the
// steward that lacks it.
func TestCommitOutlivesCrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.join(t)
	runs := w.grant(start, nil).Run
	w.m.Step(start, finished(runs[0], "zero"))
	w.m.Step(start, finished(runs[1], "two"))
	again := newWorld(t, w.author.Ledger().Log(idOf("v"))...)
	again.join(t)
	fx := again.m.Step(start+10_000, volunteer.Received{From: idOf("s"), Msg: wire.Pull{Job: w.id,
		Have: []workunits.LogHead{{Author: idOf("v"), Len: 1, Hash: w.author.Ledger().At(idOf("v"), 1)}}}})
	offered, pushed := false, false
	for _, o := range fx.Send {
		switch msg := o.Msg.(type) {
		case wire.Pull:
			offered = offered || msg.Have[0].Len == 2
		case wire.Push:
			pushed = pushed || o.To == idOf("s") && len(msg.Segments) > 0
		}
	}
	if !offered || !pushed {
		t.Errorf("offered %t, pushed %t: %+v", offered, pushed, fx.Send)
	}
}

func TestForkedSelfFallsSilent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.join(t)
	runs := w.grant(start, nil).Run
	other, _ := ledger.NewAuthor(keyOf("v"), ledger.New("test", w.id)).Say(workunits.Cancel{Reason: "from another machine"})
	if _, err := w.author.Ledger().Add(other); err == nil || !w.author.Ledger().Forked(idOf("v")) {
		t.Fatalf("no fork: %v", err)
	}
	for _, r := range runs {
		if fx := w.m.Step(start+1, finished(r, "x")); len(fx.Said) > 0 {
			t.Error("it went on with its log")
		}
	}
}

// TestHearsThatItWasWrong: that a copy of its own was wrong a volunteer believes the
// publisher, or two other stewards, and tells once.
func TestHearsThatItWasWrong(t *testing.T) {
	t.Parallel()
	type word struct {
		by    string
		wrong bool
	}
	for name, c := range map[string]struct {
		words []word
		told  int
	}{
		"nobody says so":             {[]word{{"p", false}, {"s", false}}, 0},
		"one says so, again":         {[]word{{"s", true}, {"s", true}}, 0},
		"two say so":                 {[]word{{"s", true}, {"c", true}, {"s", true}}, 1},
		"it was taken back":          {[]word{{"s", true}, {"s", false}, {"c", true}}, 0},
		"the publisher says so":      {[]word{{"p", true}, {"p", true}, {"s", true}}, 1},
		"who is no steward says so":  {[]word{{"x", true}, {"y", true}}, 0},
		"a stranger and one steward": {[]word{{"x", true}, {"s", true}}, 0},
	} {
		w := newWorld(t)
		w.join(t)
		told := 0
		for i, say := range c.words {
			fx := w.m.Step(start+uint64(i), volunteer.Received{From: idOf(say.by), Msg: wire.WorkReply{Job: w.id, Wrong: say.wrong}})
			told += len(fx.Wrong)
		}
		if told != c.told {
			t.Errorf("%s: told %d times, want %d", name, told, c.told)
		}
	}
}
