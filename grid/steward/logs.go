package steward

import (
	"errors"
	"maps"
	"slices"

	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
)

// receive handles a message from a peer.
func (m *Machine) receive(from node, msg wire.Message) {
	if m.book.Listed(from) && !m.awake(from) {
		m.acting = nil
	}
	if m.book.Listed(from) {
		m.hear(from)
	}
	switch msg := msg.(type) {
	case wire.WorkRequest:
		m.request(from, msg)
	case wire.Push:
		m.push(from, msg)
	case wire.Pull:
		m.pull(from, msg)
	}
}

// push adds segments to the ledger. A gap is answered by telling what is here, and so
// is news as large as a message may be, which a fellow steward had to cut off.
func (m *Machine) push(from node, p wire.Push) {
	for _, b := range p.Blocks {
		m.block(b)
	}
	gaps, news := map[node]bool{}, 0
	for _, raw := range p.Segments {
		if !m.hasRoom(from, raw) {
			continue
		}
		entries, err := m.ledger.Add(raw)
		var fork *ledger.ForkError
		switch {
		case errors.As(err, &fork):
			m.forked(fork.Fork)
		case errors.Is(err, ledger.ErrGap):
			if s, err := workunits.Decode[workunits.Segment](raw, workunits.MaxSegment); err == nil { // its signature was checked
				gaps[s.Author] = gaps[s.Author] || m.book.Listed(from) || s.Author == from
				m.claimed(s.Author, s.Seq+uint64(len(s.Statements)), raw)
			}
		case errors.Is(err, ledger.ErrForked):
			// Nothing after the fork is taken from anyone.
		case err != nil:
			m.event("refused", from, 0, err.Error())
		case len(entries) > 0:
			m.fx.Segments = append(m.fx.Segments, raw)
			m.unread = append(m.unread, entries...)
			news++
		}
	}
	if news > 0 && len(p.Segments) == wire.MaxSegments && m.book.Listed(from) {
		m.send(from, wire.Pull{Job: m.Job, Have: m.ledger.Heads()})
	}
	if len(gaps) > 0 {
		ask := wire.Pull{Job: m.Job, Part: true}
		for _, a := range slices.SortedFunc(maps.Keys(gaps), node.Compare) {
			if gaps[a] {
				ask.Have = append(ask.Have, m.ledger.Head(a))
			}
		}
		if len(ask.Have) > 0 {
			m.send(from, ask)
		}
	}
}

// mostAuthors is how many logs volunteers may have in a ledger; stewards have a place
// in any case. Once half of them are taken, logs of whom nobody granted anything are
// taken from fellow stewards alone, so that no crowd of keys takes the places.
const mostAuthors = ledger.MaxAuthors - workunits.MaxStewards

// hasRoom reports whether a segment may begin a log here, if it does.
func (m *Machine) hasRoom(from node, raw []byte) bool {
	if m.ledger.Count() < mostAuthors/2 || m.book.Listed(from) {
		return true
	}
	s, err := workunits.Decode[workunits.Segment](raw, workunits.MaxSegment)
	return err == nil && (m.ledger.Len(s.Author) > 0 || m.grantees[s.Author] || m.book.Listed(s.Author))
}

// readUp reads what pushes brought. Commits among it are receipted at once, as a
// copy follows those alone that were receipted before its grant.
func (m *Machine) readUp() {
	list := m.unread
	if m.unread = nil; len(list) == 0 {
		return
	}
	m.entries(list)
	if m.doubt == nil && len(m.thin) > 0 {
		m.sayAll()
	}
}

// forked reads the ledger anew without what was cut off, and accuses the author
// with the proof, if that fits into a statement; the ledger has it in any case.
func (m *Machine) forked(f ledger.Fork) {
	m.readUp()
	m.fx.Segments = append(m.fx.Segments, f.Proof[1])
	book := m.readBook()
	if book == nil {
		return // as the ledger cannot be read
	}
	m.book = book
	clear(m.wanting)
	m.ready = ready{}
	for u := range m.Manifest.Total() {
		if m.book.Named(u) {
			m.unit(u)
			m.want(u)
			m.relend(u) // what answered a grant may be cut off
		}
	}
	fault := workunits.Fault{Name: workunits.FaultEquivocation, Against: f.Author}
	if len(f.Proof[0])+len(f.Proof[1]) <= workunits.MaxBody/2 {
		fault.Evidence = f.Proof[:]
	}
	m.accuse(fault)
	m.event("forked", f.Author, 0, "signed two histories")
}

// mute reports whether this node says nothing: its own log may go on elsewhere,
// or was cut, since its key signs elsewhere too.
func (m *Machine) mute() bool { return m.doubt != nil || m.ledger.Forked(m.self) }

// block keeps a result that travels beside a statement until it is opened.
func (m *Machine) block(b []byte) {
	if o, err := workunits.ParseOutcome(b); err == nil && len(o.Links()) == 0 && len(m.blocks) < 1<<16 {
		m.blocks[workunits.Sum(b)] = b
	}
}

// pull answers what the peer lacks. Until the job is over a volunteer gets only
// its own log's state: the rest would show it who else has its units.
func (m *Machine) pull(from node, p wire.Pull) {
	var behind []workunits.LogHead
	for _, h := range p.Have {
		if m.ledger.Len(h.Author) < h.Len {
			behind = append(behind, m.ledger.Head(h.Author))
		}
		if h.Author == from {
			m.claimed(from, h.Len, nil)
		}
	}
	offer := len(p.Have) == 1 && p.Have[0].Author == from // a volunteer's log
	if m.book.Listed(from) || m.over() && !offer {
		if raw := m.missing(p); len(raw) > 0 {
			m.send(from, wire.Push{Job: m.Job, Segments: raw[:min(len(raw), wire.MaxSegments)]})
		}
		if p.Ask {
			m.send(from, wire.Pull{Job: m.Job, Have: m.ledger.Heads()})
		} else if len(behind) > 0 {
			m.send(from, wire.Pull{Job: m.Job, Have: behind, Part: true})
		}
		return
	}
	if len(behind) > 0 {
		m.send(from, wire.Pull{Job: m.Job, Have: []workunits.LogHead{
			{Author: from, Len: m.ledger.Len(from), Hash: m.ledger.Last(from)}}, Part: true})
	}
}

// missing lists segments that the sender of a pull lacks.
func (m *Machine) missing(p wire.Pull) [][]byte {
	if p.Part {
		return m.ledger.MissingOf(p.Have, wire.MaxFrame/2)
	}
	return m.ledger.Missing(p.Have, wire.MaxFrame/2)
}
