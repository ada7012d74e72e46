package gridtest

import (
	"slices"

	"github.com/talka-grid/talka/grid/steward"
	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
)

// Ways of lying stewards.
const (
	crookOmits     = "omits"     // grants, and tells no fellow steward what it says
	crookWithholds = "withholds" // receipts commits and never draws
	crookDraws     = "draws"     // draws values that are not of its chain
	crookFavours   = "favours"   // grants to colluders alone, opens early, claims to keep what it has not
	crookHeads     = "heads"     // states false heads and faults, and ends others' leases
	crookForks     = "forks"     // tells its fellow stewards different things
	crookCompares  = "compares"  // answers the opposite of every comparison
	crookLazy      = "lazy"      // receipts and draws, and keeps nothing
)

// crook is a lying steward without a steward's machine: what it says is well
// formed and signed. One that omits has a machine, and its frames are filtered.
type crook struct {
	*Node
	chain    *workunits.Chain
	receipts uint32
	next     uint32 // unit to be granted
	pause    uint64 // no grant before
	other    *ledger.Author
	done     map[workunits.Ref]bool
	denied   map[workunits.Comparison]bool
}

func newCrook(n *Node) *crook {
	id := steward.Identify(workunits.Identity{Enc: n.enc(), Arch: n.Arch, Length: n.w.job.Chain}, n.w.job.Manifest, n.secret())
	c := &crook{Node: n, chain: workunits.NewChain(n.secret(), id.Length), done: map[workunits.Ref]bool{}, denied: map[workunits.Comparison]bool{}}
	if !n.author.Begun() {
		c.say(id)
	}
	return c
}

// say signs, keeps and tells statements, unless it crashed before or does of it.
func (c *crook) say(bodies ...workunits.Body) []byte {
	if !c.up {
		return nil
	}
	raw, _ := c.author.Say(bodies...)
	if c.persist([][]byte{raw}, nil) {
		c.tell(c.fellows(), raw)
	}
	return raw
}

func (c *crook) fellows() (list []*Node) {
	for _, s := range c.disk.stewards {
		if s.Node != c.ID {
			list = append(list, c.w.byID[s.Node])
		}
	}
	return list
}

func (c *crook) tell(to []*Node, raw []byte) {
	for _, n := range to {
		c.w.send(c.Node, n, wire.Push{Job: c.w.job.ID, Segments: [][]byte{raw}})
	}
}

// tick is what a crook does a few times in a second.
func (c *crook) tick() {
	for _, n := range c.fellows() {
		c.w.send(c.Node, n, wire.Pull{Job: c.w.job.ID, Have: c.ledger.Heads()})
	}
	switch {
	case c.Ways.Crook == crookHeads && c.w.rng.IntN(20) == 0:
		heads := c.ledger.Heads()
		credit := make([]uint64, len(heads))
		credit[0] = 1000
		c.say(workunits.Head{Logs: heads, Set: workunits.Sum(workunits.Encode(heads)), Credit: credit})
		for _, n := range c.w.nodes {
			for _, name := range []workunits.FaultName{workunits.FaultWrong, workunits.FaultOpening, workunits.FaultAbsent, workunits.FaultEquivocation} {
				c.say(workunits.Fault{Name: name, Against: n.ID, Evidence: [][]byte{{1, 2, 3}}})
			}
		}
		c.say(workunits.Seal{Accepted: 1}, workunits.Cancel{Reason: "false"}, workunits.Amendment{Stewards: []workunits.Steward{{Node: c.w.nodes[len(c.w.nodes)-1].ID}}})
	case c.Ways.Crook == crookForks && c.other == nil && c.ledger.Len(c.ID) > 4:
		l := ledger.New(c.w.job.Manifest.Network, c.w.job.ID)
		for _, raw := range c.ledger.Log(c.ID)[:2] {
			_, _ = l.Load(raw)
		}
		c.other = ledger.NewAuthor(c.key, l)
		raw, _ := c.other.Say(workunits.Cancel{Reason: "another history"})
		c.tell(c.fellows()[1:2], raw)
	}
}

func (c *crook) receive(from workunits.NodeID, m wire.Message) {
	switch m := m.(type) {
	case wire.WorkRequest:
		c.reply(from, m)
	case wire.Pull:
		if raw := c.ledger.Missing(m.Have, wire.MaxFrame/2); len(raw) > 0 && from != c.ID {
			c.w.send(c.Node, c.w.byID[from], wire.Push{Job: c.w.job.ID, Segments: raw[:min(len(raw), wire.MaxSegments)]})
		}
	case wire.Push:
		for _, raw := range m.Segments {
			if s, err := c.w.parse(raw); err != nil || s.Author == c.ID {
				continue // what proves its own fork is no news to it
			}
			entries, err := c.ledger.Add(raw)
			if err != nil {
				continue
			}
			c.persist([][]byte{raw}, nil)
			for _, e := range entries {
				c.read(e)
			}
			if !c.up {
				return
			}
		}
	}
}

// read answers commits with receipts, and with draws as its way is.
func (c *crook) read(e ledger.Entry) {
	switch b := e.Body.(type) {
	case workunits.Commit:
		c.receipts++
		c.say(workunits.Receipt{Commit: e.Ref, Hash: e.Hash, Index: c.receipts})
		switch c.Ways.Crook {
		case crookDraws:
			c.say(workunits.Draw{Commit: e.Ref, Index: c.receipts, Value: workunits.Sum([]byte("chosen"))})
		case crookFavours, crookForks, crookHeads, crookCompares, crookLazy:
			c.say(workunits.Draw{Commit: e.Ref, Index: c.receipts, Value: c.chain.Value(c.receipts)})
		}
		if c.Ways.Crook == crookFavours {
			c.open(e.Ref, b)
		}
	case workunits.Grant, workunits.Expiry:
		if g, ok := e.Body.(workunits.Grant); ok && c.Ways.Crook == crookHeads && g.To != c.ID {
			c.say(workunits.Expiry{Grant: e.Ref})
		}
	case workunits.Comparison:
		if b.Equal = !b.Equal; c.Ways.Crook == crookCompares && !b.Program.IsZero() && !c.denied[b] {
			c.denied[b] = true
			c.say(b)
		}
	case workunits.Opening:
		if c.Ways.Crook == crookFavours && !c.done[e.Ref] {
			c.done[e.Ref] = true
			var units []uint32
			for _, u := range b.Units {
				units = append(units, u.Unit)
			}
			c.say(workunits.StorageReceipt{Results: []workunits.StoredUnits{{Opening: e.Ref, Units: units}}})
		}
	}
}

// open opens at once what was sealed to the crook.
func (c *crook) open(r workunits.Ref, b workunits.Commit) {
	pub, prv := workunits.EncryptionKey(c.key)
	for _, s := range b.Sealed {
		box, err := workunits.Unseal(s.Data, pub, prv)
		if s.To != c.ID || err != nil || len(box.Results) != len(b.Units) {
			continue
		}
		var o workunits.Opening
		o.Commit = r
		for i, u := range b.Units {
			o.Units = append(o.Units, workunits.OpenUnit{Unit: u, Nonce: box.Nonce(u), Result: box.Results[i]})
		}
		c.say(o)
	}
}

// reply grants the next units, one by one and again and again, to colluders alone.
func (c *crook) reply(from workunits.NodeID, w wire.WorkRequest) {
	n := c.w.byID[from]
	r := wire.WorkReply{Job: w.Job, Reason: "not you", Retry: 500}
	if c.Ways.Crook == crookFavours && n.Ways.Collude && c.w.now >= c.pause {
		c.pause = c.w.now + 1500
		var keep []workunits.NodeID
		for _, f := range c.fellows() {
			if f.Ways.Crook == "" {
				keep = append(keep, f.ID)
			}
		}
		u := c.next / 3 % c.w.job.Manifest.Units // each to three of them in a row
		c.next++
		r = wire.WorkReply{Job: w.Job, Grant: c.say(workunits.Grant{To: from, Units: []uint32{u}, Inputs: c.w.job.Manifest.InputsDigest(),
			Lease: 5000, Custodians: append([]workunits.NodeID{c.ID}, keep[0]), Arch: w.Arch})}
	}
	c.w.send(c.Node, n, r)
}

// omit takes out of a frame what a steward that omits does not tell its fellows.
func (n *Node) omit(to workunits.NodeID, m wire.Message) wire.Message {
	if n.Ways.Crook != crookOmits || !slices.ContainsFunc(n.disk.stewards, func(s workunits.Steward) bool { return s.Node == to }) {
		return m
	}
	switch m := m.(type) {
	case wire.Push:
		m.Segments = slices.DeleteFunc(slices.Clone(m.Segments), func(raw []byte) bool {
			s, err := n.w.parse(raw)
			return err != nil || s.Author == n.ID
		})
		return m
	case wire.Pull:
		m.Have = slices.DeleteFunc(slices.Clone(m.Have), func(h workunits.LogHead) bool { return h.Author == n.ID })
		return m
	}
	return m
}
