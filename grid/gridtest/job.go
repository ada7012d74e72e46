package gridtest

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/talka-grid/talka/grid/steward"
	"github.com/talka-grid/talka/grid/volunteer"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/verdict"
)

// Job is the world's job and the truth about it, which no node knows.
type Job struct {
	ID        workunits.JobID
	Manifest  workunits.Manifest
	Publisher *Node
	Time      uint64 // milliseconds that a unit takes on a node of speed 1
	Large     bool   // results do not travel beside statements
	Split     bool   // results differ by architecture unless NaNs are canonical
}

// Ways is how a node's executions go.
type Ways struct {
	Slow float64 // times as long as they should take; 0 means 1
	Hang bool    // never end
	Void bool    // end void
	// Garbage seals openings so that no custodian can read them.
	Garbage bool
	Lies    float64 // share of units with a wrong result
	Units   []uint32
	// Colluders give the same wrong result for a unit; others each their own.
	Collude bool
}

// manifest is a job's manifest with what tests seldom care about filled in.
func manifest(units, shard uint32) workunits.Manifest {
	return workunits.Manifest{
		Network: "sim", Project: "sim", Name: "job", Created: epoch / 1000,
		Program: workunits.Link{Cid: workunits.RawCid(workunits.Sum([]byte("program")))}, Units: units,
		Limits: workunits.Limits{Memory: 1 << 20, Output: 1 << 20, Files: 16, Wall: 10_000, CPU: 10_000, Tries: 3},
		Policy: workunits.Policy{Mode: workunits.VerifyAudit, Error: 1e-3, Share: 0.2, Price: 1, MaxAgree: 2, Compare: workunits.Comparator{Kind: workunits.CompareBytes}},
		Days:   30, Active: 3, Listed: 8, Shard: shard,
	}
}

// Publish signs the job and starts it: the publisher with its stewards at once,
// volunteers as they hear of it.
func (w *World) Publish(j *Job, stewards, volunteers []*Node) error {
	j.Manifest.Publisher = j.Publisher.ID
	id, _, err := j.Manifest.Sign(j.Publisher.key)
	if err != nil {
		return err
	}
	j.ID, w.job = id, j
	j.Publisher.disk.content = true
	var list []workunits.Steward
	for _, n := range stewards {
		list = append(list, workunits.Steward{Node: n.ID, Enc: n.enc()})
	}
	for _, n := range stewards {
		n.disk.steward, n.disk.stewards = true, list
		n.open()
	}
	for _, n := range volunteers {
		n.disk.stewards, n.wants = list, true
		n.hear()
	}
	j.Publisher.stepSteward(steward.Publish{Stewards: list})
	return nil
}

// hear makes the node join the job as a volunteer once it hears of it.
func (n *Node) hear() {
	n.w.after(n, 200+n.w.rng.Uint64N(300), func() {
		n.disk.volunteer = true
		n.open()
	})
}

// lie reports whether the node gives a wrong result for the unit.
func (n *Node) lie(u uint32) bool {
	if slices.Contains(n.Ways.Units, u) {
		return true
	}
	if n.Ways.Lies == 0 {
		return false
	}
	who := n.Name
	if n.Ways.Collude {
		who = "" // colluders agree on the units, too
	}
	b := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64([]byte("lie"+who), n.w.seed), u)
	d := workunits.Sum(b)
	return float64(binary.BigEndian.Uint32(d[:]))/(1<<32) < n.Ways.Lies
}

func outcome(text string) ([]byte, workunits.Digest) {
	return workunits.Outcome{How: workunits.Exited, Out: workunits.OutFile{Size: uint64(len(text)), Data: []byte(text)}}.Encode()
}

// honest is the right result of a unit, in the second stage of its inputs.
func (j *Job) honest(u uint32, inputs workunits.Digest, arch string, canonical bool) ([]byte, workunits.Digest) {
	text := fmt.Sprintf("result of unit %d", u)
	if j.Manifest.Reduces(u) {
		text = fmt.Sprintf("result of results %x", inputs)
	}
	if j.Split && !canonical {
		text += " on " + arch
	}
	return outcome(text)
}

// right reports whether an honest copy gives the digest, of a unit with the
// inputs that the book says.
func (j *Job) right(b *verdict.Book, u uint32, d workunits.Digest) bool {
	for _, arch := range []string{"amd64", "arm64"} {
		for _, canonical := range []bool{true, false} {
			if _, h := j.honest(u, b.Inputs(u), arch, canonical); h == d {
				return true
			}
		}
	}
	return false
}

// result is what the node's copy of a unit comes to.
func (n *Node) result(t volunteer.Run) ([]byte, workunits.Digest) {
	if !n.lie(t.Unit) {
		return n.w.job.honest(t.Unit, t.Inputs, n.Arch, t.Canonical)
	}
	n.w.obs.lies++
	n.w.printf("%s lies about unit %d", n.Name, t.Unit)
	if n.Ways.Collude {
		return outcome(fmt.Sprintf("wrong result of unit %d", t.Unit))
	}
	return outcome(fmt.Sprintf("wrong result of unit %d by %s", t.Unit, n.Name))
}

// staged reports whether all that the second stage works on can be fetched: the
// record that its grant names, and the results in it.
func (n *Node) staged(r volunteer.Run) bool {
	fetch := func(d workunits.Digest) []byte {
		for _, id := range r.Hints {
			if o := n.w.byID[id]; o != nil && n.w.reaches(n, o) && o.disk.blocks[d] != nil {
				return o.disk.blocks[d]
			}
		}
		return n.disk.blocks[d]
	}
	in, err := workunits.ParseStageInputs(fetch(r.Inputs), n.w.job.Manifest.Units)
	return err == nil && !slices.ContainsFunc(in.Results, func(d workunits.Digest) bool { return fetch(d) == nil })
}

// run executes a copy.
func (n *Node) run(t volunteer.Run) {
	j := n.w.job
	if n.Ways.Hang {
		return
	}
	slow := n.Ways.Slow
	if slow == 0 {
		slow = 1
	}
	took := uint64(float64(j.Time) * slow * (0.9 + 0.2*n.w.rng.Float64()))
	var void workunits.VoidReason
	if n.Ways.Void {
		took, void = 10, workunits.VoidDisk
	} else if j.Manifest.Reduces(t.Unit) && !n.staged(t) {
		took, void = 10, workunits.VoidInput
	} else if took > j.Manifest.Limits.Wall {
		took, void = j.Manifest.Limits.Wall, workunits.VoidWall
	}
	n.finish(t, took, void, took)
}

func (n *Node) finish(t volunteer.Run, delay uint64, void workunits.VoidReason, millis uint64) {
	n.w.after(n, delay, func() {
		in := volunteer.Finished{Task: t.Task, Void: void, Millis: millis}
		if void == "" {
			block, d := n.result(t)
			n.disk.blocks[d] = block
			in.Result = workunits.Result{Digest: d}
			if !n.w.job.Large {
				in.Block = block
			}
		}
		n.stepVolunteer(in)
	})
}

// Cancel is the publisher's order to end the job.
func (n *Node) Cancel(reason string) { n.stepSteward(steward.Cancel{Reason: reason}) }
