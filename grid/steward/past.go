package steward

import (
	"maps"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
	"github.com/talka-grid/talka/workunits/verdict"
)

// past is a book over a part of the ledger, for what heads of fellow stewards
// refer to. It reads on where the next part holds the last one.
type past struct {
	book *verdict.Book
	read map[node]uint64 // statements of each author
}

// at is the book over the given logs, nil if the ledger does not hold all of them.
// It is good until the next call.
func (p *past) at(m *Machine, logs []workunits.LogHead) *verdict.Book {
	if p.book == nil || !p.within(logs) {
		p.begin(m, logs)
	}
	if !m.ledger.WalkSince(p.read, logs, func(e ledger.Entry) { p.book.Learn(e) }) {
		return nil
	}
	for _, h := range logs {
		p.read[h.Author] = h.Len
		if m.ledger.Forked(h.Author) && h == m.ledger.Head(h.Author) {
			p.book.Forked(h.Author) // as who stated these logs knew
		}
	}
	return p.book
}

// begin makes the book anew, of the snapshot if that is within the logs.
func (p *past) begin(m *Machine, logs []workunits.LogHead) {
	if p.read = maps.Clone(m.base); p.read != nil && p.within(logs) {
		if p.book = m.restore(); p.book != nil {
			return
		}
	}
	p.book, p.read = verdict.NewWith(m.Job, m.Manifest, m.Standing), map[node]uint64{}
}

// within reports whether logs hold all that was read.
func (p *past) within(logs []workunits.LogHead) bool {
	n := 0
	for _, h := range logs {
		if p.read[h.Author] > h.Len {
			return false
		}
		if _, ok := p.read[h.Author]; ok {
			n++
		}
	}
	return n == len(p.read)
}
