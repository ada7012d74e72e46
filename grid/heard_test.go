package grid

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/talka-grid/talka/workunits"
)

func authorOf(i int) (id workunits.NodeID) {
	binary.BigEndian.PutUint64(id[:], uint64(i+1))
	return id
}

// An author is passed on as fast as it may announce, after a burst, and takes
// nothing from others.
func TestPace(t *testing.T) {
	t.Parallel()
	var p pace
	begun := time.Now()
	allowed := func(who int, at time.Duration, tries int) (n int) {
		for range tries {
			if p.allows(authorOf(who), begun.Add(at)) {
				n++
			}
		}
		return n
	}
	if n := allowed(0, 0, 1000); n != authorBurst {
		t.Errorf("%d at once, want %d", n, authorBurst)
	}
	if n := allowed(0, 10*time.Second, 1000); n != 10*authorRate {
		t.Errorf("%d after ten seconds, want %d", n, 10*authorRate)
	}
	if n := allowed(0, 5*time.Second, 10); n != 0 {
		t.Errorf("%d in the past", n)
	}
	if n := allowed(1, 10*time.Second, 5); n != 5 {
		t.Errorf("%d of another author, want all 5", n)
	}
	for i := range 2 * maxAuthors {
		allowed(i, 10*time.Second, 1)
	}
	if n := len(p.all); n != maxAuthors {
		t.Errorf("%d authors are remembered, want %d", n, maxAuthors)
	}
	if n := allowed(3*maxAuthors, 20*time.Second, 1); n != 1 || len(p.all) > maxAuthors {
		t.Errorf("%d of a new author once others are quiet, want 1; %d are remembered", n, len(p.all))
	}
}

// However many announcements one author floods the node with, others' are heard.
func TestRoomFor(t *testing.T) {
	t.Parallel()
	n := &Node{seen: map[workunits.JobID]workunits.Announcement{}, catalogue: catalogue{live: map[workunits.JobID]liveAnnouncement{}}}
	jobs := uint64(0)
	hear := func(author int) bool {
		if !n.roomFor(authorOf(author)) {
			return false
		}
		jobs++
		a := workunits.Announcement{Author: authorOf(author), Time: jobs}
		binary.BigEndian.PutUint64(a.Job[:], jobs)
		n.seen[a.Job] = a
		n.catalogue.put(a.Job, []byte{1}, 1<<62)
		return true
	}
	for i := range 2 * maxPerAuthor {
		if hear(0) != (i < maxPerAuthor) {
			t.Fatalf("announcement %d of one author", i)
		}
	}
	for author := 1; len(n.seen) < maxSeen; author++ {
		for range maxPerAuthor - 1 {
			hear(author)
		}
	}
	if !hear(1000) || len(n.seen) != maxSeen {
		t.Errorf("a newcomer is not heard among %d", len(n.seen))
	}
	if _, there := n.seen[workunits.JobID{7: 1}]; there || len(n.catalogue.list(0)) != maxSeen {
		t.Error("want the oldest announcement of the most talkative author to go, from the catalogue as well")
	}
	if hear(0); hear(0) {
		t.Error("the most talkative author takes the place of others")
	}
}

// Where the network asks for work, authors that show none are not passed on, nor is
// who did blamed for it.
func TestUnprovenAuthor(t *testing.T) {
	t.Parallel()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	author := workunits.NodeIDOf(key)
	n := &Node{cfg: Config{Network: "test", Work: 8}}
	a := workunits.Announcement{Network: "test", Project: "p", Time: now(), Expires: now() + 60_000, Stewards: []workunits.NodeID{author}}
	if err := n.RelayAnnouncement(a.Sign(key)); !errors.Is(err, ErrUnproven) {
		t.Errorf("without work: %v, want %v", err, ErrUnproven)
	}
	a.Proof = workunits.FindWork("another", author, 8, 0, 1<<20)
	if err := n.RelayAnnouncement(a.Sign(key)); !errors.Is(err, ErrUnproven) && workunits.Work("test", author, a.Proof) < 8 {
		t.Errorf("work for another network: %v, want %v", err, ErrUnproven)
	}
	a.Proof = workunits.FindWork("test", author, 8, 0, 1<<20)
	data, begun := a.Sign(key), time.Now()
	for i := range authorBurst + 1 {
		err := n.RelayAnnouncement(data)
		slow := time.Since(begun) >= time.Second/authorRate // then it may announce once more
		if i < authorBurst && err != nil || i == authorBurst && !slow && !errors.Is(err, ErrPace) {
			t.Fatalf("announcement %d: %v", i, err)
		}
	}
}

// Who announces somebody else's job, dated ahead, does not keep its stewards from
// being heard of.
func TestSpoofedAnnouncement(t *testing.T) {
	t.Parallel()
	c, ctx := newCluster(t), testContext(t)
	v := c.start(Config{Slots: 1})
	job := workunits.JobID{1}
	announce := func(seed byte, ahead uint64) workunits.NodeID {
		key := ed25519.NewKeyFromSeed(append(make([]byte, ed25519.SeedSize-1), seed))
		a := workunits.Announcement{
			Network: v.cfg.Network, Job: job, Project: "p", Owner: workunits.NodeID{9}, Time: now() + ahead, Expires: now() + ahead + 60_000,
			Stewards: []workunits.NodeID{workunits.NodeIDOf(key)},
		}
		if err := v.Learn(a.Sign(key)); err != nil {
			t.Fatal(err)
		}
		return workunits.NodeIDOf(key)
	}
	spoofer := announce(1, 9*60*1000)
	if err := v.await(ctx, func() bool { return v.seen[job].Author == spoofer }); err != nil {
		t.Fatal(err)
	}
	for begun := now(); now() == begun; {
		runtime.Gosched() // until it is later
	}
	steward := announce(2, 0)
	if err := v.await(ctx, func() bool { return v.seen[job].Author == steward }); err != nil {
		t.Errorf("the steward is not heard of: %v", err)
	}
}
