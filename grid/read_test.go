package grid

import (
	"bytes"
	"slices"
	"testing"

	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
	"github.com/talka-grid/talka/workunits/verdict"
)

// Whoever does not look after a job reads its ledger once it is over, from several
// stewards and from the volunteers, and comes to the same verdicts.
func TestReadByOutsider(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c, pub, _, id := settled(ctx, t, 20)
	outsider := c.start(Config{})
	if _, err := outsider.Job(ctx, id); err != nil { // it hears of the job
		t.Fatal(err)
	}
	if err := outsider.await(ctx, func() bool { return len(outsider.jobs[id].list) > 1 }); err != nil {
		t.Fatal(err)
	}
	story, err := outsider.Story(ctx, id, 3)
	if err != nil || story.State != "accepted" || len(story.Copies) == 0 {
		t.Fatalf("story %+v, %v", story, err)
	}
	info, err := outsider.Job(ctx, id)
	if err != nil || info.Units.Accepted != 20 || !info.Settled || info.Read == nil {
		t.Fatalf("job %+v, %v", info, err)
	}
	stewards, volunteers := 0, 0
	for _, from := range info.Read.From {
		if slices.Contains(info.Stewards, from) {
			stewards++
		} else {
			volunteers++
		}
	}
	if stewards < 2 || volunteers < 1 || info.Read.Missing > 0 {
		t.Errorf("read from %d stewards and %d volunteers, %d statements are missing", stewards, volunteers, info.Read.Missing)
	}
	x, err := outsider.Ledger(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := ledger.WriteExport(&b, x); err != nil {
		t.Fatal(err)
	}
	read, err := ledger.ReadExport(&b)
	if err != nil {
		t.Fatal(err)
	}
	var want workunits.Digest
	if err := pub.do(ctx, func() { want = pub.jobs[id].steward.Book().Results() }); err != nil {
		t.Fatal(err)
	}
	if got := verdict.ReadWith(id, read.Manifest, read.Standing, read.Ledger, read.Ledger.Heads()).Results(); got != want {
		t.Error("the export comes to other results than the publisher's book")
	}
}

// TestEndedElsewhere: that a job which others look after has ended does not say how,
// until who wants to know has read it.
func TestEndedElsewhere(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := newCluster(t)
	pub, project := c.publisher(Config{})
	c.start(Config{Steward: true, Trust: []workunits.ProjectID{project}})
	v := c.start(Config{Slots: 1, Trust: []workunits.ProjectID{project}}) // one copy of a unit is not enough
	id, err := pub.Submit(ctx, testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, 4), progress(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := v.await(ctx, func() bool { return v.jobs[id] != nil && v.jobs[id].joined }); err != nil {
		t.Fatal(err)
	}
	if err := pub.Cancel(ctx, id, "a typo"); err != nil {
		t.Fatal(err)
	}
	if err := v.await(ctx, func() bool { return v.jobs[id].ended }); err != nil {
		t.Fatal(err)
	}
	if list := v.Jobs(); len(list) != 1 || list[0].State != JobEnded || list[0].Units != (UnitCounts{Total: 4}) {
		t.Errorf("jobs %+v", list)
	}
	if info, err := v.WaitJob(ctx, id); err != nil || info.State != JobCancelled || info.Units.Accepted > 0 {
		t.Errorf("job %+v, %v", info, err)
	}
}

// While a job runs its volunteers do not see who else has its units; they are told
// so at once.
func TestRunningJobIsNotShown(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := newCluster(t)
	pub, project := c.publisher(Config{})
	c.start(Config{Steward: true, Trust: []workunits.ProjectID{project}})
	c.start(Config{Steward: true, Trust: []workunits.ProjectID{project}})
	id, err := pub.Submit(ctx, testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, 4), progress(t))
	if err != nil {
		t.Fatal(err)
	}
	v := c.start(Config{Trust: []workunits.ProjectID{project}}) // it has no slots: nothing ever ends
	if _, err := v.Job(ctx, id); err != nil {
		t.Fatal(err)
	}
	if err := v.await(ctx, func() bool { return v.jobs[id].joined }); err != nil {
		t.Fatal(err)
	}
	if s, err := v.Story(ctx, id, 0); err == nil {
		t.Errorf("a volunteer is told %+v", s)
	}
}

// What a steward hides of a volunteer's log the volunteer shows, and what nobody
// shows is told to be missing.
func TestStewardHidesALog(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c, pub, peer, id := settled(ctx, t, 20)
	outsider := c.start(Config{})
	x, err := pub.Ledger(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	j := job{id: id, block: x.Manifest, list: []workunits.Steward{{Node: peer.self}}}
	if err := pub.do(ctx, func() { j.manifest = pub.jobs[id].manifest }); err != nil {
		t.Fatal(err)
	}
	whole, shown := ledger.New(j.manifest.Network, id), ledger.New(j.manifest.Network, id)
	addTo(whole, x.Segments)
	victim := slices.IndexFunc(whole.Authors(), func(a workunits.NodeID) bool {
		return len(whole.Log(a)) > 1 && !slices.ContainsFunc(verdictOf(j, whole).Stewards(), func(s workunits.Steward) bool { return s.Node == a })
	})
	who := whole.Authors()[victim]
	log := whole.Log(who)
	hidden := log[len(log)-1]
	for _, raw := range x.Segments {
		if !bytes.Equal(raw, hidden) {
			addTo(shown, [][]byte{raw})
		}
	}
	for _, volunteerShows := range []bool{true, false} {
		heard := make(chan heardLog, readBacklog)
		heard <- heardLog{peer.self, wire.Push{Job: id, Segments: shown.Segments()}}
		heard <- heardLog{peer.self, wire.Pull{Job: id, Have: whole.Heads()}}
		heard <- heardLog{peer.self, wire.Pull{Job: id, Have: shown.Heads()}}
		for _, a := range whole.Authors() {
			answer := wire.Push{Job: id}
			if a == who && volunteerShows {
				answer.Segments = log
			}
			heard <- heardLog{a, answer}
		}
		r, err := outsider.readFrom(ctx, &j, heard)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.ledger.Len(who) == whole.Len(who); got != volunteerShows || (r.info.Missing > 0) == volunteerShows {
			t.Errorf("volunteer shows %v: its log is whole %v, %d statements are missing", volunteerShows, got, r.info.Missing)
		}
	}
}

func verdictOf(j job, l *ledger.Ledger) *verdict.Book {
	return verdict.Read(j.id, j.manifest, l, l.Heads())
}
