package steward_test

import (
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/talka-grid/talka/grid/steward"
	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
)

const start = 1_000_000

func keyOf(name string) ed25519.PrivateKey {
	seed := workunits.Sum([]byte("steward test " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func idOf(name string) workunits.NodeID { return workunits.NodeIDOf(keyOf(name)) }

// job is a job of publisher p with stewards p and s.
type job struct {
	id       workunits.JobID
	manifest workunits.Manifest
}

func newJob(t *testing.T) job {
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
	return job{id, m}
}

// machine starts the publisher's machine over what its disk holds.
func (j job) machine(t *testing.T, disk ...[]byte) (*steward.Machine, *ledger.Ledger) {
	l := ledger.New("test", j.id)
	for _, raw := range disk {
		if _, err := l.Load(raw); err != nil {
			t.Fatal(err)
		}
	}
	secret := [32]byte{1}
	m := steward.New(steward.Config{Key: keyOf("p"), Job: j.id, Manifest: j.manifest, Author: ledger.NewAuthor(keyOf("p"), l),
		Identity: steward.Identify(workunits.Identity{Arch: "amd64"}, j.manifest, secret), Secret: secret, Rand: rand.NewChaCha8([32]byte{2})})
	return m, l
}

// publish starts the job; s is not there, so that the publisher is primary.
func (j job) publish(m *steward.Machine) {
	m.Step(start, steward.Publish{Stewards: []workunits.Steward{{Node: idOf("p")}, {Node: idOf("s")}}})
	m.Step(start, steward.Unreachable{Peer: idOf("s")})
}

// published is a job with its publisher's machine.
func published(t *testing.T) (job, *steward.Machine) {
	j := newJob(t)
	m, _ := j.machine(t)
	j.publish(m)
	return j, m
}

// log is a peer's log in the job.
func (j job) log(name string) *ledger.Author {
	return ledger.NewAuthor(keyOf(name), ledger.New("test", j.id))
}

func (j job) request(name string) steward.Received {
	return steward.Received{From: idOf(name), Msg: wire.WorkRequest{Job: j.id, Units: 2, Arch: "amd64", Memory: 1 << 20}}
}

func (j job) push(from string, raw ...[]byte) steward.Received {
	return steward.Received{From: idOf(from), Msg: wire.Push{Job: j.id, Segments: raw}}
}

func reply(t *testing.T, fx steward.Effects) wire.WorkReply {
	t.Helper()
	for _, o := range fx.Send {
		if r, ok := o.Msg.(wire.WorkReply); ok {
			return r
		}
	}
	t.Fatal("no reply")
	return wire.WorkReply{}
}

func TestGrantsAreDurableBeforeTheyLeave(t *testing.T) {
	t.Parallel()
	j, m := published(t)
	fx := m.Step(start+1, j.request("v"))
	r := reply(t, fx)
	if len(r.Grant) == 0 || !slices.ContainsFunc(fx.Segments, func(raw []byte) bool { return slices.Equal(raw, r.Grant) }) {
		t.Errorf("the grant is not among what is to be durable: %+v", r)
	}
	other := reply(t, m.Step(start+2, j.request("w")))
	g, err := workunits.ParseSegment(other.Grant)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := g.Statements[0].Decode()
	if units := body.(workunits.Grant).Units; !slices.Equal(units, []uint32{2}) {
		t.Errorf("another volunteer got units %v, want a share of what is left", units)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	j, m := published(t)
	small := j.request("v")
	small.Msg = wire.WorkRequest{Job: j.id, Units: 2, Arch: "amd64", Memory: 1}
	if r := reply(t, m.Step(start, small)); len(r.Grant) > 0 || !strings.Contains(r.Reason, "memory") {
		t.Errorf("too little memory: %+v", r)
	}
	fx := m.Step(start, steward.Cancel{Reason: "enough"})
	if fx.Announce == nil || !fx.Announce.Ended {
		t.Error("the end is not announced")
	}
	if r := reply(t, m.Step(start, j.request("v"))); len(r.Grant) > 0 || !r.Ended || r.Reason == "" {
		t.Errorf("after the end: %+v", r)
	}
}

// TestPullKeepsSecrets: a volunteer must not learn who else has its units.
func TestPullKeepsSecrets(t *testing.T) {
	t.Parallel()
	j, m := published(t)
	m.Step(start, j.request("w"))
	fx := m.Step(start+1, steward.Received{From: idOf("v"), Msg: wire.Pull{Job: j.id}})
	if len(fx.Send) > 0 {
		t.Errorf("a volunteer that pulls gets %+v", fx.Send)
	}
	fx = m.Step(start+1, steward.Received{From: idOf("s"), Msg: wire.Pull{Job: j.id}})
	if len(fx.Send) != 1 || fx.Send[0].To != idOf("s") {
		t.Errorf("a steward that pulls gets %+v", fx.Send)
	}
}

// TestForkedPeer: evidence of any size is taken without harm, and the author
// gets no units.
func TestForkedPeer(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 250} { // statements; the latter fill a segment
		j := newJob(t)
		m, _ := j.machine(t)
		j.publish(m)
		var histories [2][]byte
		for i := range histories {
			words := make([]workunits.Body, size)
			for k := range words {
				seal := make([]byte, 1000)
				seal[0] = byte(i)
				words[k] = workunits.Commit{Units: []uint32{0}, Hashes: []workunits.Digest{{}},
					Sealed: []workunits.Sealed{{To: idOf("p"), Data: seal}}}
			}
			histories[i], _ = j.log("v").Say(words...)
		}
		m.Step(start, j.push("v", histories[0]))
		fx := m.Step(start, j.push("v", histories[1]))
		if !slices.ContainsFunc(fx.Events, func(e steward.Event) bool { return e.Kind == "forked" && e.Node == idOf("v") }) {
			t.Fatalf("no fork noticed: %+v", fx.Events)
		}
		if len(fx.Segments) < 2 {
			t.Error("neither the proof nor the fault is to be durable")
		}
		if r := reply(t, m.Step(start, j.request("v"))); len(r.Grant) > 0 {
			t.Error("an equivocator got units")
		}
	}
}

// TestForkedSelf: a node whose key signs elsewhere falls silent.
func TestForkedSelf(t *testing.T) {
	t.Parallel()
	j := newJob(t)
	m, l := j.machine(t)
	j.publish(m)
	other, _ := j.log("p").Say(workunits.Cancel{Reason: "from another machine"})
	fx := m.Step(start, j.push("s", other))
	if !l.Forked(idOf("p")) {
		t.Fatal("no fork of the own log")
	}
	for _, in := range []steward.Input{steward.Tick{}, j.request("v"), steward.Cancel{Reason: "enough"}} {
		next := m.Step(start+1000, in)
		fx.Segments = append(fx.Segments, next.Segments...)
	}
	for _, raw := range fx.Segments {
		if s, err := workunits.ParseSegment(raw); err == nil && s.Author == idOf("p") && !slices.Equal(raw, other) {
			t.Error("it went on with its log")
		}
	}
}

func TestPeersCannotEndLeases(t *testing.T) {
	t.Parallel()
	j := newJob(t)
	m, l := j.machine(t)
	j.publish(m)
	m.Step(start, j.request("v"))
	lease := m.Leases()
	raw, _ := j.log("w").Say(workunits.Identity{Length: 1}, workunits.Expiry{Grant: lease[0]})
	m.Step(start, j.push("w", raw))
	if len(m.Leases()) != 1 || len(m.Book().Outstanding(0)) != 1 || l.Len(idOf("w")) != 2 {
		t.Error("a volunteer ended another's lease")
	}
}

// TestCrowdOfKeys: keys that were granted nothing take no more than half of the places
// in a ledger, and who is granted a unit has one.
func TestCrowdOfKeys(t *testing.T) {
	t.Parallel()
	j := newJob(t)
	m, l := j.machine(t)
	j.publish(m)
	const half = (ledger.MaxAuthors - workunits.MaxStewards) / 2
	for i := range half + 20 {
		raw, _ := j.log(fmt.Sprint("key ", i)).Say(workunits.Identity{Arch: "amd64", Length: 1})
		m.Step(start, j.push("key 0", raw))
	}
	if n := l.Count(); n < half-10 || n > half {
		t.Errorf("%d logs, want about %d", n, half)
	}
	reply(t, m.Step(start, j.request("v")))
	raw, _ := j.log("v").Say(workunits.Identity{Arch: "amd64", Length: 1})
	if m.Step(start, j.push("key 0", raw)); l.Len(idOf("v")) != 1 {
		t.Error("a volunteer with units has no place")
	}
}

// TestCutNews: a steward that gets as much news as a message holds asks for the rest,
// from a fellow steward that it has them from, and only while they are news.
func TestCutNews(t *testing.T) {
	t.Parallel()
	j, m := published(t)
	var raw [][]byte
	for i := range wire.MaxSegments {
		one, _ := j.log(fmt.Sprint("key ", i)).Say(workunits.Identity{Arch: "amd64", Length: 1})
		raw = append(raw, one)
	}
	asks := func(from string, raw [][]byte) bool {
		return slices.ContainsFunc(m.Step(start, j.push(from, raw...)).Send, func(o wire.Outgoing) bool {
			p, ok := o.Msg.(wire.Pull)
			return ok && !p.Part && o.To == idOf(from)
		})
	}
	if asks("v", raw[:2]) || asks("s", raw[:wire.MaxSegments/2]) {
		t.Error("it asks for more where nothing was cut off")
	}
	if !asks("s", raw) {
		t.Error("it does not ask for what was cut off")
	}
	if asks("s", raw) {
		t.Error("it asks for more of what it has")
	}
}

// TestRestart: a machine made from the disk knows what the one before it did.
func TestRestart(t *testing.T) {
	t.Parallel()
	j := newJob(t)
	m, l := j.machine(t)
	j.publish(m)
	m.Step(start, j.request("v"))
	again, _ := j.machine(t, l.Log(idOf("p"))...)
	fx := again.Step(start+5000, steward.Tick{})
	if len(again.Leases()) != 1 || len(again.Book().Outstanding(0)) != 1 {
		t.Errorf("leases %v", again.Leases())
	}
	for _, raw := range fx.Segments {
		if s, err := workunits.ParseSegment(raw); err != nil || s.Seq != l.Len(idOf("p")) {
			t.Errorf("it does not continue its log: %d, %v", s.Seq, err)
		}
	}
}
