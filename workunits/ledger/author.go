package ledger

import (
	"crypto/ed25519"
	"fmt"

	"github.com/talka-grid/talka/workunits"
)

// Author writes this node's own log in a ledger. All roles of a node in a job
// share one Author, since a log has one order.
type Author struct {
	ID   workunits.NodeID
	sign func(*workunits.Segment)
	l    *Ledger
}

// NewAuthor continues the key's log in l.
func NewAuthor(key ed25519.PrivateKey, l *Ledger) *Author {
	return &Author{ID: workunits.NodeIDOf(key), sign: func(s *workunits.Segment) { s.Sign(key) }, l: l}
}

// SignWith replaces the signature by the key; sign sets the author, too. It goes
// with Ledger.ParseWith.
func (a *Author) SignWith(sign func(*workunits.Segment)) { a.sign = sign }

// Ledger is the ledger that the author writes to.
func (a *Author) Ledger() *Ledger { return a.l }

// Begun reports whether the log has its identity statement.
func (a *Author) Begun() bool { return a.l.Len(a.ID) > 0 }

// Say appends one signed segment with the statements, at most
// workunits.MaxStatements of them, and returns its bytes and its entries.
func (a *Author) Say(bodies ...workunits.Body) ([]byte, []Entry) {
	s := workunits.Segment{
		Network: a.l.network, Job: a.l.job, Law: workunits.LawVersion,
		Seq: a.l.Len(a.ID), Prev: a.l.Last(a.ID),
	}
	s.Statements = make([]workunits.Statement, 0, len(bodies))
	for _, b := range bodies {
		s.Statements = append(s.Statements, workunits.State(b))
	}
	a.sign(&s)
	raw := s.Encode()
	entries, err := a.l.add(s, raw)
	if err != nil {
		panic(fmt.Sprintf("own log: %v", err)) // only this author writes it
	}
	return raw, entries
}
