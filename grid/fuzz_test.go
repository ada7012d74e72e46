package grid

import (
	"bytes"
	"crypto/ed25519"
	"slices"
	"testing"
	"time"

	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
)

// crowd is a publisher with a job of which nobody executes anything, its steward, and a
// node that only knows of it.
type crowd struct {
	job   workunits.JobID
	nodes [3]*member
	from  [3]workunits.NodeID // a stranger, the publisher, the steward
}

func newCrowd(f *testing.F) *crowd {
	f.Helper()
	key := func(b byte) ed25519.PrivateKey {
		return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))
	}
	c, ctx := newCluster(f), testContext(f)
	pub, project := c.publisher(Config{Key: key(1)})
	trust := []workunits.ProjectID{project}
	x := &crowd{nodes: [3]*member{pub, c.start(Config{Key: key(2), Steward: true, Trust: trust}), c.start(Config{Key: key(3), Trust: trust})}}
	x.from = [3]workunits.NodeID{workunits.NodeIDOf(key(9)), pub.host.id, x.nodes[1].host.id}
	var err error
	if x.job, err = pub.Submit(ctx, testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, 40), func(string) {}); err != nil {
		f.Fatal(err)
	}
	for _, n := range x.nodes {
		if err := n.await(ctx, func() bool { return n.jobs[x.job] != nil && len(n.jobs[x.job].list) == 2 }); err != nil {
			f.Fatal(err)
		}
	}
	return x
}

// aJob stands for the job in the corpus: it is another in each run.
var aJob = bytes.Repeat([]byte{0xaa}, len(workunits.JobID{}))

// messages are of every kind, with what is true where there is such a thing.
func (x *crowd) messages(f *testing.F) (list []wire.Message) {
	f.Helper()
	id, pub := x.job, x.nodes[0]
	var block []byte
	var segments [][]byte
	err := pub.do(f.Context(), func() {
		j := pub.jobs[id]
		block, segments = j.block, j.ledger.Holding(x.from[1], workunits.KindIdentity, workunits.KindAmendment)
	})
	if err != nil || len(segments) == 0 {
		f.Fatal(segments, err)
	}
	program := pub.jobs[id].manifest.Program
	object := wire.Object{Root: program, Run: 1, Bytes: 7, Leaves: 1}
	return []wire.Message{
		wire.WorkRequest{Job: id, Units: 4, Arch: "amd64", Memory: 1 << 30}, wire.WorkReply{Job: id, Reason: "no", Retry: 1000, Credit: 1},
		wire.WorkReply{Job: id, Grant: segments[0], Hints: x.from[:], Ended: true}, wire.Push{Job: id, Segments: segments, Blocks: [][]byte{block}},
		wire.Pull{Job: id}, wire.JobRequest{Job: id}, wire.JobReply{Job: id, Manifest: block, Segments: segments}, wire.Ask{Job: id, Manifest: block},
		wire.Answer{Job: id, Yes: true, Enc: [32]byte{1}}, wire.PointerAsk{Job: id, Owner: x.from[1], Project: "p"}, wire.Pointer{Job: id, Pointer: []byte("pointer")},
		wire.Keep{Job: id, Objects: []wire.Object{object}, Until: uint64(time.Now().Add(time.Hour).UnixMilli()), Sources: x.from[:]},
		wire.Kept{Job: id, Objects: []wire.KeptObject{{Object: object, Holders: x.from[:]}}, Refused: []workunits.Link{program}, Reason: "no room"},
		wire.Free{Job: id, Proof: segments[0]}, wire.LogAsk{Job: id, Unit: 7}, wire.LogReply{Job: id, Unit: 7, How: "exit 3", Text: []byte("no")},
	}
}

// FuzzFrame hands nodes any message, from a stranger or from those who have a say in the
// job. Whatever it is, the node goes on, and a job of which nothing was executed has no
// result. A stranger ends nothing, appoints nobody and accuses none but itself.
func FuzzFrame(f *testing.F) {
	// What those who have a say do to their job is no stranger's doing.
	strange, mighty := newCrowd(f), newCrowd(f)
	for _, m := range strange.messages(f) {
		body := bytes.ReplaceAll(workunits.Encode(m), strange.job[:], aJob)
		for who := range byte(len(strange.from)) {
			for whom := range byte(len(strange.nodes)) {
				f.Add(byte(m.Type()), body, who, whom)
			}
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, body []byte, who, whom byte) {
		x := mighty
		if int(who)%len(x.from) == 0 {
			x = strange
		}
		from, n := x.from[int(who)%len(x.from)], x.nodes[int(whom)%len(x.nodes)]
		n.Frame(from, workunits.Encode(struct {
			_       struct{} `cbor:",toarray"`
			Version uint8
			Type    wire.Type
			Body    []byte
		}{Version: wire.Version, Type: wire.Type(kind), Body: bytes.ReplaceAll(body, aJob, x.job[:])}))
		for _, n := range x.nodes {
			var info JobInfo
			if err := n.do(t.Context(), func() { info = n.info(n.jobs[x.job]) }); err != nil {
				t.Fatal(err)
			}
			if info.Units.Accepted > 0 || info.Settled {
				t.Errorf("the job came to %+v", info)
			}
			another := func(f FaultInfo) bool { return f.Node != from }
			if x == strange && (info.State != JobRunning || !slices.Equal(info.Stewards, x.from[1:]) || slices.ContainsFunc(info.Faults, another)) {
				t.Errorf("by a stranger's word the job became %+v", info)
			}
		}
	})
}
