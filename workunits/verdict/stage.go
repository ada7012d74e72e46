package verdict

import "github.com/talka-grid/talka/workunits"

// stage is what the second stage of a job waits for, or works on.
type stage struct {
	state  State  // Open: every unit below has a result; Failed: one has failed
	inputs digest // of the record of those results, if Open
	stale  bool   // to be worked out again
}

// restage works out what the second stage works on. A stage over units of which
// one failed fails with it: nothing is made from a part of the results.
func (b *Book) restage() {
	n := b.counts
	n[b.unit(b.manifest.Units).state]--
	b.stage = stage{state: Pending}
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
		s.Results = append(s.Results, b.look(u).result)
	}
	return s
}

// StageInputs is the record that copies of the second stage are made from; ok is
// false while a unit below it has no accepted result.
func (b *Book) StageInputs() (s workunits.StageInputs, ok bool) {
	b.settle()
	if b.manifest.Reduce == nil || b.stage.state != Open {
		return s, false
	}
	return b.stageInputs(), true
}

// Inputs is the digest of its inputs that a unit's grants must name; it is zero
// while the second stage has none.
func (b *Book) Inputs(u uint32) workunits.Digest {
	if b.manifest.Reduces(u) {
		b.settle()
		return b.stage.inputs
	}
	return b.inputs
}

// binds reports whether a grant is of the inputs that the unit has now. Copies of
// other inputs are void: they count neither for nor against anyone.
func (b *Book) binds(g *grant, u uint32) bool {
	if b.manifest.Reduces(u) {
		return b.stage.state == Open && g.body.Inputs == b.stage.inputs
	}
	return g.body.Inputs == b.inputs
}

// judgeStage works out the second stage after other units were, and returns the
// units with it among them if it may have changed. No verdict rests on it.
func (b *Book) judgeStage(units []uint32) []uint32 {
	if b.manifest.Reduce == nil {
		return units
	}
	was, named := b.stage, false
	for _, u := range units {
		named = named || b.manifest.Reduces(u)
	}
	if b.stage.stale {
		b.restage()
	}
	if !named && was.state == b.stage.state && was.inputs == b.stage.inputs {
		return units
	}
	b.judge(b.manifest.Units)
	return append(units, b.manifest.Units)
}
