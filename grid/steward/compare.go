package steward

import (
	"cmp"
	"maps"
	"slices"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/compare"
	"github.com/talka-grid/talka/workunits/verdict"
)

// Compare asks whether two results of a unit agree, as the job's comparator says.
// The machine itself knows it only of numbers in results that came beside
// statements.
type Compare struct {
	Unit  uint32
	A, B  workunits.Digest // of the results' records, the one that was open first before the other
	Hints []workunits.NodeID
}

// Compared answers a Compare, sooner or later; it is asked again if it Failed.
type Compared struct {
	Compare Compare
	Equal   bool
	Failed  bool
}

func (Compared) input() {}

// pair is two results of a unit that differ.
type pair struct {
	unit uint32
	a, b workunits.Digest
}

func comparePairs(x, y pair) int {
	return cmp.Or(cmp.Compare(x.unit, y.unit), slices.Compare(x.a[:], y.a[:]), slices.Compare(x.b[:], y.b[:]))
}

// told is a steward's answer to a comparison.
type told struct {
	by     node
	answer workunits.Comparison
}

// maxUnproved bounds how many answers of one author about a unit wait for the
// results that they are about.
const maxUnproved = 16

func (m *Machine) hearAnswer(by node, c workunits.Comparison) {
	n := 0
	for _, t := range m.unproved[c.Unit] {
		if t.by == by {
			n++
		}
	}
	if n < maxUnproved && c.Unit < m.Manifest.Total() && c.Program == m.Manifest.Policy.Compare.ID() && c.Program != (workunits.Digest{}) {
		m.unproved[c.Unit] = append(m.unproved[c.Unit], told{by, c})
	}
}

// compare answers whether results that differ agree by the job's comparator, and
// checks what others answered.
func (m *Machine) compare(u uint32, v verdict.Unit) {
	m.check(u)
	if !m.isActive() {
		return
	}
	for _, p := range v.Compare {
		c := workunits.Comparison{Program: m.Manifest.Policy.Compare.ID(), Unit: u, A: p[0], B: p[1]}
		if m.answers[c] {
			continue
		}
		if equal, known := m.agree(pair{u, c.A, c.B}); known {
			m.answers[c] = true
			c.Equal = equal
			m.say = append(m.say, c)
		}
	}
}

// agree tells whether two results agree, or has it found out. Only about results
// that were opened anything is found out.
func (m *Machine) agree(p pair) (equal, known bool) {
	if equal, known = m.agrees[p]; known {
		return equal, true
	}
	a, b := m.blocks[p.a], m.blocks[p.b]
	if how := m.Manifest.Policy.Compare; how.Kind == workunits.CompareNumbers && a != nil && b != nil {
		equal, err := compare.Outcomes(a, b, how)
		m.agrees[p] = equal && err == nil
		return m.agrees[p], true
	}
	opened := m.book.Digests(p.unit)
	if _, asked := m.asked[p]; !asked && slices.Contains(opened, p.a) && slices.Contains(opened, p.b) {
		m.asked[p] = underWay
		volunteers, stewards := m.book.Touched(p.unit)
		m.fx.Compare = append(m.fx.Compare, Compare{p.unit, p.a, p.b, append(volunteers, stewards...)})
	}
	return false, false
}

// compareAgain asks again what could not be found out.
func (m *Machine) compareAgain() {
	for _, p := range slices.SortedFunc(maps.Keys(m.asked), comparePairs) {
		if m.now >= m.asked[p] {
			delete(m.asked, p)
			m.unit(p.unit)
		}
	}
}

func (m *Machine) comparedTo(in Compared) {
	p := pair{in.Compare.Unit, in.Compare.A, in.Compare.B}
	if p.unit >= m.Manifest.Total() {
		return
	}
	if in.Failed {
		m.asked[p] = m.now + 2*retrySoon
		return
	}
	delete(m.asked, p)
	m.agrees[p] = in.Equal
	m.unit(p.unit)
}

// check drops stewards whose answers about a unit are false; answers about results
// that are not here wait.
func (m *Machine) check(u uint32) {
	var wait []told
	for _, t := range m.unproved[u] {
		if !m.book.Listed(t.by) {
			wait = append(wait, t) // its word counts for nothing
			continue
		}
		switch equal, known := m.agree(pair{u, t.answer.A, t.answer.B}); {
		case !known:
			wait = append(wait, t)
		case equal != t.answer.Equal:
			m.untrue[t.by], m.acting = true, nil
			m.accuse(workunits.Fault{Name: workunits.FaultComparison, Against: t.by, Unit: u})
		}
	}
	if m.unproved[u] = wait; len(wait) == 0 {
		delete(m.unproved, u)
	}
}
