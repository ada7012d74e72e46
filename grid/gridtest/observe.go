package gridtest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/talka-grid/talka/grid/steward"
	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
	"github.com/talka-grid/talka/workunits/verdict"
)

// observer gathers what happened, for transcripts and for what must hold.
type observer struct {
	frames, bytes int
	crowd         int // bytes to and from nodes that are no stewards
	types         map[wire.Type]int
	kinds         map[workunits.Kind]int
	lies, copied  int
	opened        map[uint32]workunits.Digest // the first opening of each unit
	openings      map[workunits.Ref]workunits.Opening
	accepted      map[uint32]workunits.Digest // as any steward saw it, and did not see it reopened
	last          uint32                      // the unit accepted last
	told          map[seen]int                // how often an event was printed
	heard         map[*Node]map[seen]int
}

type seen struct {
	kind string
	node workunits.NodeID
	unit uint32
}

func newObserver() observer {
	return observer{types: map[wire.Type]int{}, kinds: map[workunits.Kind]int{}, told: map[seen]int{},
		heard: map[*Node]map[seen]int{}, openings: map[workunits.Ref]workunits.Opening{}, opened: map[uint32]workunits.Digest{}, accepted: map[uint32]workunits.Digest{}}
}

func (o *observer) sent(m wire.Message, size int) {
	o.frames++
	o.bytes += size
	o.types[m.Type()]++
}

// Frames is how many frames were sent.
func (w *World) Frames() int { return w.obs.frames }

// Lies is how many copies came to a wrong result.
func (w *World) Lies() int { return w.obs.lies }

// Kinds tells how many statements of each kind were said.
func (w *World) Kinds() map[workunits.Kind]int { return w.obs.kinds }

// observe prints an event when the first node tells of it; the others tell of
// the same a little later.
func (n *Node) observe(events []steward.Event) {
	w := n.w
	for _, e := range events {
		if e.Kind == "refused" {
			w.fail("%s refused what %s sent: %s", n.Name, w.name(e.Node), e.Text)
		}
		switch e.Kind {
		case "accepted":
			n.accepted(e.Unit)
		case "reopened":
			delete(w.obs.accepted, e.Unit)
		case "disputed":
			w.deny(e.Unit)
		}
		if w.obs.heard[n] == nil {
			w.obs.heard[n] = map[seen]int{}
		}
		s := seen{e.Kind, e.Node, e.Unit}
		if e.Kind == "accepted" {
			s.node = workunits.NodeID{} // the same by whichever copy it is told
		}
		w.obs.heard[n][s]++
		if w.obs.heard[n][s] > w.obs.told[s] {
			w.obs.told[s]++
			w.printf("%s", n.tell(e))
		}
	}
}

// deny has those who lied about a unit, and are of that kind, tell a steward another
// history, in which they never did.
func (w *World) deny(u uint32) {
	for _, n := range w.nodes {
		if !n.Ways.Forks || n.denied || !n.up || n.ledger == nil || !n.lie(u) {
			continue
		}
		n.denied = true
		l := ledger.New(w.job.Manifest.Network, w.job.ID)
		_, _ = l.Load(n.ledger.Log(n.ID)[0])
		raw, _ := ledger.NewAuthor(n.key, l).Say(workunits.Cancel{Reason: "it was never there"})
		w.printf("%s tells another history", n.Name)
		w.send(n, w.byID[n.disk.stewards[1].Node], wire.Push{Job: w.job.ID, Segments: [][]byte{raw}})
	}
}

func (n *Node) tell(e steward.Event) string {
	who, text := n.w.name(e.Node), e.Text
	if text != "" {
		text = ": " + text
	}
	switch e.Kind {
	case "granted":
		return fmt.Sprintf("%s grants %s from unit %d%s", n.Name, who, e.Unit, text)
	case "committed":
		return fmt.Sprintf("%s committed unit %d", who, e.Unit)
	case "voided", "expired":
		return fmt.Sprintf("%s: unit %d %s%s", who, e.Unit, e.Kind, text)
	case "fault":
		return fmt.Sprintf("a fault of %s is stated%s", who, text)
	case "accepted", "reopened", "disputed", "failed", "retried":
		return fmt.Sprintf("unit %d %s", e.Unit, e.Kind)
	}
	return strings.TrimSpace(fmt.Sprintf("%s: %s %s%s", n.Name, e.Kind, who, text))
}

// said counts the kinds of what the node states, and holds it to the limits.
func (n *Node) said(segments [][]byte) {
	for _, raw := range segments {
		s, err := n.w.parse(raw)
		if err != nil {
			n.w.fail("%s keeps a segment that does not parse: %v", n.Name, err)
			return
		}
		if s.Author != n.ID {
			continue
		}
		for i, st := range s.Statements {
			n.w.obs.kinds[st.Kind]++
			if body, err := st.Decode(); err == nil && st.Kind == workunits.KindOpening {
				o := body.(workunits.Opening)
				n.w.obs.openings[workunits.Ref{Author: n.ID, Seq: s.Seq + uint64(i)}] = o
				for _, u := range o.Units {
					if _, ok := n.w.obs.opened[u.Unit]; !ok {
						n.w.obs.opened[u.Unit] = u.Result.Digest
					}
				}
			}
		}
	}
}

// accepted checks a unit that a steward has just come to see as accepted.
func (n *Node) accepted(u uint32) {
	v := n.steward.Book().Unit(u)
	if v.State == verdict.Accepted {
		n.w.obs.accepted[u], n.w.obs.last = v.Result.Digest, u
	}
	if n.w.colluders() {
		return
	}
	if v.State == verdict.Accepted && !n.w.job.right(n.steward.Book(), u, v.Result.Digest) {
		n.w.fail("%s accepts a wrong result of unit %d", n.Name, u)
	}
}

// block finds a result on any disk.
func (w *World) block(d workunits.Digest) []byte {
	for _, n := range w.nodes {
		if b, ok := n.disk.blocks[d]; ok {
			return b
		}
	}
	return nil
}

func (w *World) colluders() bool {
	return slices.ContainsFunc(w.nodes, func(n *Node) bool { return n.Ways.Collude })
}

// durable checks that nothing of this node's log leaves before it is on disk,
// nor a storage receipt before what it names.
func (n *Node) durable(m wire.Message) {
	var raw [][]byte
	switch m := m.(type) {
	case wire.Push:
		raw = m.Segments
	case wire.WorkReply:
		if len(m.Grant) > 0 {
			raw = [][]byte{m.Grant}
		}
	}
	for _, b := range raw {
		s, err := n.w.parse(b)
		if err != nil || s.Author != n.ID {
			continue
		}
		if !n.disk.has[workunits.Sum(b)] {
			n.w.fail("%s sends statement %d before it is durable", n.Name, s.Seq)
		}
		for _, st := range s.Statements {
			if st.Kind == workunits.KindStorageReceipt {
				n.kept(st)
			}
		}
	}
}

// kept checks that the results which a storage receipt names are on the disk.
func (n *Node) kept(st workunits.Statement) {
	body, err := st.Decode()
	if err != nil {
		return
	}
	r := body.(workunits.StorageReceipt)
	if r.Job && !n.disk.content {
		n.w.fail("%s claims to keep the job's content", n.Name)
	}
	for _, s := range r.Results {
		for _, o := range n.w.obs.openings[s.Opening].Units {
			if _, here := n.disk.blocks[o.Result.Digest]; !here && slices.Contains(s.Units, o.Unit) {
				n.w.fail("%s claims to keep the result of unit %d", n.Name, o.Unit)
			}
		}
	}
}
