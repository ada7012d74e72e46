package gridtest

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
	"github.com/talka-grid/talka/workunits/verdict"
)

// Done reports whether every steward that is up sees the job as done.
func (w *World) Done() bool {
	up := 0
	for _, n := range w.nodes {
		if n.up && n.steward != nil && n.Ways.Crook == "" {
			up++
			if !n.steward.Book().Done() {
				return false
			}
		}
	}
	return up > 0
}

// Sealed reports whether every steward that is up knows the publisher's seal.
func (w *World) Sealed() bool {
	return w.Done() && !slices.ContainsFunc(w.nodes, func(n *Node) bool {
		return n.up && n.steward != nil && n.Ways.Crook == "" && n.steward.Book().Sealed() == nil
	})
}

// Accepted is how many units the steward that has accepted most has.
func (w *World) Accepted() (top int) {
	for _, n := range w.nodes {
		if n.up && n.steward != nil {
			top = max(top, n.steward.Book().Counts()[verdict.Accepted])
		}
	}
	return top
}

// Rested reports whether all stewards that are up hold the same ledger.
func (w *World) Rested() bool {
	var first []workunits.LogHead
	for _, n := range w.nodes {
		if !n.up || n.steward == nil || n.Ways.Crook != "" {
			continue
		}
		heads := n.ledger.Heads()
		if first == nil {
			first = heads
		}
		if !slices.Equal(heads, first) {
			return false
		}
	}
	return true
}

// Union merges what is on all disks, those of crashed nodes too.
func (w *World) Union() *ledger.Ledger {
	l := ledger.New(w.job.Manifest.Network, w.job.ID)
	for _, n := range w.nodes {
		for _, raw := range n.disk.segments {
			if _, err := l.Load(raw); err != nil && !errors.Is(err, ledger.ErrForked) {
				w.fail("the disk of %s holds a segment out of place: %v", n.Name, err)
			}
		}
	}
	return l
}

// fingerprint is everything that a book says, as bytes.
func fingerprint(b *verdict.Book, m workunits.Manifest) string {
	var units []verdict.Unit
	for u := range m.Total() {
		v := b.Unit(u)
		slices.SortFunc(v.Volunteers, workunits.NodeID.Compare)
		units = append(units, v)
	}
	return fmt.Sprintf("%v %v %v %v %d %+v", b.Results(), b.Stakes(), b.Faults(), b.Counts(), b.Copies(), units)
}

// Check holds what must be true once the stewards have come to rest: every node
// with the whole ledger gives the same verdicts, whatever the order in which it
// learned of them; no result is wrong unless volunteers collude; results are
// kept where the ledger says; and messages stayed within bounds.
func (w *World) Check() error {
	l, m := w.Union(), w.job.Manifest
	b := verdict.ReadWith(w.job.ID, m, w.job.Standing, l, l.Heads())
	want := fingerprint(b, m)
	for _, n := range w.nodes {
		if n.up && n.steward != nil && slices.Equal(n.ledger.Heads(), l.Heads()) {
			if got := fingerprint(n.steward.Book(), m); got != want {
				w.fail("%s gives other verdicts than a reading of the same ledger:\n%s\n%s", n.Name, got, want)
			}
		}
	}
	for range 5 {
		if got := fingerprint(w.shuffled(l), m); got != want {
			w.fail("another order of the same statements gives other verdicts:\n%s\n%s", got, want)
		}
	}
	for u := range m.Total() {
		w.checkUnit(b, u)
	}
	w.checkFrames(b)
	return w.err
}

func (w *World) checkUnit(b *verdict.Book, u uint32) {
	w.checkGrants(b, u)
	v := b.Unit(u)
	if v.State != verdict.Accepted {
		return
	}
	if !w.colluders() && !w.job.right(b, u, v.Result.Digest) {
		w.fail("unit %d is accepted with a wrong result", u)
	}
	kept := 0
	for _, n := range w.nodes {
		if _, here := n.disk.blocks[v.Result.Digest]; here && b.Listed(n.ID) {
			kept++
		}
	}
	listed := 0
	for _, n := range w.nodes {
		if n.up && b.Listed(n.ID) {
			listed++
		}
	}
	wanted := min(listed, b.KeepersWanted())
	for _, id := range b.KeptBy(u) {
		if w.byID[id].Ways.Crook != "" {
			wanted-- // it may only say so
		}
	}
	if kept < wanted {
		w.fail("the result of unit %d is kept by %d stewards", u, kept)
	}
}

// checkGrants fails honest stewards that granted a unit after they had executed it,
// by which they undid their own copy. It was in vain before where they had granted the
// unit already or keep another copy's openings, as when another steward granted it at
// the same time; where they had executed it for a steward that lies; and where it had
// been given up, though it may be opened yet.
func (w *World) checkGrants(b *verdict.Book, u uint32) {
	copies := b.Story(u).Copies
	for _, k := range copies {
		if k.Fate != verdict.FateConflict || k.Commit == nil || b.GivenUp(*k.Commit) || w.byID[k.Volunteer].Ways.Crook != "" || w.byID[k.Grant.Author].Ways.Crook != "" {
			continue
		}
		granted, vain := false, false
		for _, o := range copies {
			by := o.Grant.Author == k.Volunteer
			granted = granted || by && o.Grant.Seq > k.Commit.Seq
			vain = vain || by && o.Grant.Seq < k.Commit.Seq || slices.Contains(o.Keepers, k.Volunteer)
		}
		if granted && !vain {
			w.fail("%s executed unit %d and granted it then", w.byID[k.Volunteer].Name, u)
		}
	}
}

// Survives checks that what any steward accepted is still agreed on by the
// ledger on the disks that are left, and that one of them holds its result.
func (w *World) Survives() error {
	l := w.Union()
	b := verdict.ReadWith(w.job.ID, w.job.Manifest, w.job.Standing, l, l.Heads())
	for _, u := range slices.Sorted(maps.Keys(w.obs.accepted)) {
		if v := b.Unit(u); v.Result.Digest != w.obs.accepted[u] {
			w.fail("unit %d was accepted and is %s now", u, v.State)
		}
		if !slices.ContainsFunc(w.nodes, func(n *Node) bool {
			_, here := n.disk.blocks[w.obs.accepted[u]]
			return here && b.Listed(n.ID)
		}) {
			w.fail("unit %d was accepted and no steward has its result", u)
		}
	}
	return w.err
}

// checkFrames fails runs that talk more than their work and their time explain.
func (w *World) checkFrames(b *verdict.Book) {
	stewards, volunteers := len(b.Stewards()), len(w.nodes)
	seconds := int(w.Elapsed()/1000) + 1
	// A copy is asked for, granted, committed, receipted, drawn, opened and
	// stored, each told to the stewards. By the second, each steward tells each
	// other how far it is, and idle volunteers ask the active ones for work.
	bound := (b.Copies()+b.Expired())*(8+6*stewards*stewards) + seconds*(4*stewards*stewards+8*int(w.job.Manifest.Active)*volunteers)
	if w.obs.frames > bound {
		w.fail("%d frames for %d copies in %d s, bound %d: %v", w.obs.frames, b.Copies(), seconds, bound, w.obs.types)
	}
}

// shuffled reads the ledger's statements in a random order that keeps each
// author's, some of them twice.
func (w *World) shuffled(l *ledger.Ledger) *verdict.Book {
	logs := map[workunits.NodeID][]ledger.Entry{}
	l.Walk(l.Heads(), func(e ledger.Entry) { logs[e.Author] = append(logs[e.Author], e) })
	authors := l.Authors()
	next := map[workunits.NodeID]int{}
	b := verdict.NewWith(w.job.ID, w.job.Manifest, w.job.Standing)
	for _, f := range l.Forks() {
		b.Forked(f.Author)
	}
	for len(authors) > 0 {
		i := w.rng.IntN(len(authors))
		a := authors[i]
		if next[a] == len(logs[a]) {
			authors = slices.Delete(authors, i, i+1)
			continue
		}
		for range 1 + w.rng.IntN(20) {
			if next[a] < len(logs[a]) {
				b.Apply(logs[a][next[a]])
				next[a]++
			}
		}
		b.Apply(logs[a][w.rng.IntN(next[a])])
	}
	return b
}

// Table prints the verdict over everything that was said.
func (w *World) Table(out io.Writer) {
	l := w.Union()
	b := verdict.ReadWith(w.job.ID, w.job.Manifest, w.job.Standing, l, l.Heads())
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "unit\tstate\tresult\tsupport\tcopies\tvoids\tvolunteers")
	for u := range w.job.Manifest.Total() {
		v := b.Unit(u)
		result := "-"
		if v.Agreed() {
			if result = "wrong"; w.job.right(b, u, v.Result.Digest) {
				result = "right"
			}
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%d\t%d\t%d\t%s\n", u, v.State, result, v.Support, v.Copies, v.Voids, w.names(v.Volunteers))
	}
	t.Flush()
	seal := b.Sealed()
	fmt.Fprintf(out, "accepted %d, copies %d, expired %d, lies %d, sealed %t\n", b.Counts()[verdict.Accepted], b.Copies(), b.Expired(),
		w.obs.lies, seal != nil && seal.Results == b.Results())
	for _, id := range l.Authors() {
		if stake := b.Stake(id); b.Burned(id) {
			fmt.Fprintf(out, "stake of %s: %d, burned\n", w.name(id), stake)
		} else if stake > 0 {
			fmt.Fprintf(out, "stake of %s: %d\n", w.name(id), stake)
		}
	}
}

// Explain prints what each steward that is up sees of the units that are not
// done, for runs that do not end.
func (w *World) Explain(out io.Writer) {
	for u := range w.job.Manifest.Total() {
		for _, n := range w.nodes {
			if !n.up || n.steward == nil {
				continue
			}
			b := n.steward.Book()
			v := b.Unit(u)
			if v.State == verdict.Accepted || v.State == verdict.Failed {
				continue
			}
			volunteers, stewards := b.Touched(u)
			fmt.Fprintf(out, "%s on unit %d: %s, agreed %t, contested %t, canonical %t, unsealed %d; granted to %s by or through %s; outstanding",
				n.Name, u, v.State, v.Agreed(), v.Contested, v.Canonical, len(v.Unsealed), w.names(volunteers), w.names(stewards))
			for _, r := range b.Outstanding(u) {
				g, _ := b.Grant(r)
				fmt.Fprintf(out, " %s's to %s", w.name(r.Author), w.name(g.To))
			}
			fmt.Fprintln(out)
		}
	}
}
