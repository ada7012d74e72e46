package verdict

import "github.com/talka-grid/talka/workunits"

// stage is what the second stage of a job waits for, or works on.
type stage struct {
	state  State  // Open: every unit below has a result; Failed: one has failed
	inputs digest // of the record of those results, if Open
	stale  bool   // to be worked out again

	// contended is whether its copies of equal inputs ever differed. Who is burned
	// for that depends on every unit below, so each change of them settles anew.
	contended bool
}

// restage works out what the second stage works on, if units below it changed.
// A stage over units of which one failed fails with it: nothing is made from a
// part of the results.
func (b *Book) restage() {
	if !b.stage.stale {
		return
	}
	n := b.counts
	if own, ok := b.units[b.manifest.Units]; ok {
		n[own.State]--
	}
	b.stage.stale, b.stage.state, b.stage.inputs = false, Pending, digest{}
	switch {
	case n[Failed] > 0:
		b.stage.state = Failed
	case n[Accepted] == int(b.manifest.Units):
		b.stage.state = Open
		_, b.stage.inputs = b.stageInputs().Encode()
	}
}

func (b *Book) stageInputs() (s workunits.StageInputs) {
	for u := range b.manifest.Units {
		s.Results = append(s.Results, b.Unit(u).Result.Digest)
	}
	return s
}

// StageInputs is the record that copies of the second stage are made from; ok is
// false while a unit below it has no accepted result.
func (b *Book) StageInputs() (s workunits.StageInputs, ok bool) {
	if b.manifest.Reduce == nil || b.stage.state != Open {
		return s, false
	}
	return b.stageInputs(), true
}

// Inputs is the digest of its inputs that a unit's grants must name; it is zero
// while the second stage has none.
func (b *Book) Inputs(u uint32) workunits.Digest {
	if b.manifest.Reduces(u) {
		return b.stage.inputs
	}
	return b.inputs
}

// binds reports whether a grant is of the inputs that the unit has now. Copies of
// other inputs are void: they count neither for nor against anyone.
func (b *Book) binds(g *grant, u uint32) bool {
	return g.Inputs == b.Inputs(u) && (!b.manifest.Reduces(u) || b.stage.state == Open)
}

// below tells the second stage of the changed verdict on a unit.
func (b *Book) below(u uint32, old, v Unit) {
	if b.manifest.Reduce != nil && u < b.manifest.Units && (old.State != v.State || old.Result.Digest != v.Result.Digest) {
		b.stage.stale = true
	}
}

// judgeStage works out the second stage if statements name it or what it works on
// changed. It reports whether it has anything to say, and whether disputes are to
// be settled.
func (b *Book) judgeStage(named bool) (changed, disputed bool) {
	if b.manifest.Reduce == nil {
		return false, false
	}
	u, was := b.manifest.Units, b.stage
	b.restage()
	if named {
		b.contend(u)
	}
	if !named && was.state == b.stage.state && was.inputs == b.stage.inputs {
		return false, b.stage.contended
	}
	before := b.mixed[u]
	return true, b.judge(u) || before || b.mixed[u] || b.stage.contended
}

// contend notes whether copies of equal inputs opened to different results.
func (b *Book) contend(u uint32) {
	first := map[digest]digest{} // by inputs
	for _, r := range b.byUnit[u] {
		c := b.commits[r]
		g := b.grants[c.Grant]
		if g == nil {
			continue
		}
		for _, o := range c.opened[u] {
			if d, ok := first[g.Inputs]; ok && d != o.Result.Digest {
				b.stage.contended = true
			}
			first[g.Inputs] = o.Result.Digest
		}
	}
}
