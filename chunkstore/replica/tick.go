package replica

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/talka-grid/talka/workunits"
)

// Tick says what is to be done now.
func (k *Keeper) Tick(now time.Time, chance *rand.Rand) (list []Effect) {
	if !k.last.IsZero() {
		passed := now.Sub(k.last).Seconds()
		k.tokens = min(k.tokens+k.rate*passed, k.rate*burst.Seconds())
		k.looks = min(k.looks+k.rate*passed, k.rate*burst.Seconds())
	}
	k.last = now
	for r, at := range k.refused {
		if now.Sub(at) > k.times.Placing {
			delete(k.refused, r)
		}
	}
	type due struct {
		o    *object
		held []*copied
	}
	var order []due
	for _, o := range k.objects {
		k.sweep(o, now)
		if o.led && (o.since.IsZero() || now.Sub(o.since) >= k.times.Settle) {
			order = append(order, due{o, k.live(o, now, true)})
		}
	}
	slices.SortFunc(order, func(a, b due) int {
		return cmp.Or(cmp.Compare(len(a.held), len(b.held)), cmp.Compare(a.o.key, b.o.key))
	})
	for _, d := range order {
		list = append(list, k.place(d.o, d.held, now)...)
	}
	var audits []audit
	for _, d := range order {
		audits = append(audits, k.audits(d.o, now)...)
	}
	list = append(list, k.pay(audits, now, chance)...)
	for _, d := range order {
		if k.worthCutting(d.o, now) {
			list = append(list, Effect{Kind: Cut, Root: d.o.Root})
		}
	}
	return list
}

// sweep forgets what did not come and who is gone for good.
func (k *Keeper) sweep(o *object, now time.Time) {
	o.copies = slices.DeleteFunc(o.copies, func(c *copied) bool {
		return !c.stored && now.Sub(c.since) > k.times.Placing || !k.heardWithin(c, now, k.times.Memory)
	})
	if o.Code.Need == 0 {
		return
	}
	if _, pieces := count(k.live(o, now, true)); pieces <= o.Code.Repair {
		o.mending = true
	} else if pieces >= o.Code.Total {
		o.mending = false
	}
}

// place has as many replicas made as are wanted and paid for.
func (k *Keeper) place(o *object, held []*copied, now time.Time) (list []Effect) {
	if k.tokens <= 0 || k.enough(o, held, now) {
		return nil
	}
	online := k.online(held, now)
	if whole, pieces := count(online); whole == 0 && (o.Code.Need == 0 || pieces < o.Code.Need) {
		return nil
	}
	var sources []workunits.NodeID
	for _, c := range online {
		sources = append(sources, c.node)
	}
	for k.tokens > 0 && !k.enough(o, held, now) {
		p := k.choose(o, held, now)
		if p == nil {
			break
		}
		k.tokens -= float64(o.cost()) // a debt if need be, for one object may be more than an hour's
		c := &copied{node: p.Node, peer: p, piece: o.missing(held), since: now}
		o.put(c)
		held = append(held, c)
		list = append(list, Effect{Kind: Place, Root: o.Root, To: p.Node, Piece: c.piece, Sources: sources})
	}
	return list
}

// missing is the first piece that none of the holders has.
func (o *object) missing(held []*copied) int {
	if o.Code.Need == 0 {
		return Whole
	}
	var seen [maxPieces]bool
	for _, c := range held {
		if c.piece != Whole {
			seen[c.piece] = true
		}
	}
	return max(slices.Index(seen[:o.Code.Total], false), 0)
}

// choose picks who is to hold a replica next: of another operator, then of another
// network than the others; two anchors first, then anyone, by chance that is the same
// whoever asks, so that load is spread.
func (k *Keeper) choose(o *object, held []*copied, now time.Time) (best *peer) {
	operators, nets, anchors := map[string]bool{}, map[string]bool{}, 0
	for _, c := range held {
		operators[c.peer.Operator], nets[c.peer.Net] = true, true
		if k.anchor(now, c.peer) {
			anchors++
		}
	}
	type rank struct {
		shared int
		anchor int // 0 if one is wanted and this is one
		chance string
	}
	var least rank
	for n, p := range k.peers {
		if !p.within(now, k.times.Recent) || o.of(n) != nil {
			continue
		}
		if _, no := k.refused[refusal{o.Group, n}]; no {
			continue
		}
		r := rank{anchor: 1}
		if p.Operator != "" && operators[p.Operator] {
			r.shared += 2
		}
		if p.Net != "" && nets[p.Net] {
			r.shared++
		}
		if anchors < 2 && k.anchor(now, p) {
			r.anchor = 0
		}
		r.chance = score([]byte(o.key), n)
		if best == nil || cmp.Or(cmp.Compare(r.shared, least.shared), cmp.Compare(r.anchor, least.anchor), cmp.Compare(r.chance, least.chance)) < 0 {
			best, least = p, r
		}
	}
	return best
}

// audit is one that is due.
type audit struct {
	o *object
	c *copied
}

// audits lists those of an object that are due. One that is cut needs its whole
// copies no more once its pieces are there: they are left to lapse.
func (k *Keeper) audits(o *object, now time.Time) (due []audit) {
	done := false
	if o.Code.Need > 0 {
		_, pieces := count(k.live(o, now, false))
		done = pieces >= o.Code.Total
	}
	for _, c := range o.copies {
		lapses := done && c.piece == Whole
		if c.stored && !lapses && now.Sub(c.audited) >= k.times.Audit && k.here(c, now) {
			due = append(due, audit{o, c})
		}
	}
	return due
}

// pay makes as many audits as there is a budget for.
func (k *Keeper) pay(due []audit, now time.Time, chance *rand.Rand) (list []Effect) {
	slices.SortFunc(due, func(a, b audit) int {
		return cmp.Or(a.c.audited.Compare(b.c.audited), cmp.Compare(a.o.key, b.o.key), a.c.node.Compare(b.c.node))
	})
	for _, d := range due {
		if k.looks <= 0 {
			break
		}
		c, leaves := d.c, max(d.o.Leaves, 1)
		if c.piece != Whole {
			leaves = max((leaves+d.o.Code.Need-1)/d.o.Code.Need, 1)
		}
		k.looks -= auditPart * float64(min(d.o.cost(), maxLeaf))
		c.audited = now
		list = append(list, Effect{Kind: Audit, Root: d.o.Root, To: c.node, Piece: c.piece, Leaf: chance.IntN(leaves)})
	}
	return list
}

// worthCutting reports whether an object outlasts more if it is cut: it is large, kept
// for long and was for a while, without two holders that are always there, and there
// are peers enough for its pieces.
func (k *Keeper) worthCutting(o *object, now time.Time) bool {
	if o.Code.Need > 0 || o.Bytes < CutBytes || o.Until.Sub(now) < CutTime || now.Sub(o.known) < k.times.Vetting {
		return false
	}
	anchors, here := 0, 0
	for _, c := range k.live(o, now, false) {
		if k.anchor(now, c.peer) {
			anchors++
		}
	}
	for _, p := range k.peers {
		if p.within(now, k.times.Silence) {
			here++
		}
	}
	return anchors < 2 && here >= DefaultCode().Total
}
