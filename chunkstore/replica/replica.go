// Package replica decides who keeps replicas of content: where to place them, when
// to look whether they are there, when to make new ones.
//
// A [Keeper] is a machine without clock, chance or network. Its owner tells it what
// happens (a peer was heard, a replica was stored, an audit failed) and calls Tick
// now and then, at least every hour; Tick answers with what is to be done, in order.
//
// How many replicas an object needs follows from the measured availability of those
// who hold it: two peers that are always there do what a dozen volunteers do. They are
// spread over operators and networks where there is a choice. A replica whose holder
// was silent for a day does not count until it is back; after a month it is forgotten. Each is audited once
// a day: the holder has to show a random leaf. A peer may fetch that leaf on demand, so
// an audit makes cheating dear and proves nothing. New replicas are made within a
// budget of bytes, for what has the fewest first; audits have a tenth of it beside, the
// ones longest overdue first, so that a Keeper of very many objects looks less often
// and never sends more.
//
// Several nodes may look after one object. They all learn who holds it; the one that
// [Leads] acts, and another that comes to lead waits a while before it does.
//
// A large object that is kept for long while nobody who holds it is always there is
// cut, see [Code]: forty pieces of an eighth, of which any eight give it back, take
// the room of five copies and outlast them.
//
// A Keeper is not safe for concurrent use.
package replica

import (
	"maps"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"lukechampine.com/blake3"

	"github.com/talka-grid/talka/workunits"
)

// Times are how long a Keeper waits for what.
type Times struct {
	Silence time.Duration // of its holder, then a replica is lost
	Recent  time.Duration // who was heard since is there now
	Audit   time.Duration // of each replica, from one to the next
	Placing time.Duration // that a replica may take to be made
	Memory  time.Duration // of availability, and of replicas whose holders are silent
	Settle  time.Duration // that an object of others is led before it is acted on
	Vetting time.Duration // that an object is kept whole before it may be cut
}

// DefaultTimes are those of the package comment.
func DefaultTimes() Times {
	const day = 24 * time.Hour
	return Times{
		Silence: day, Recent: time.Hour, Audit: day, Placing: 12 * time.Hour, Memory: 30 * day,
		Settle: 10 * time.Minute, Vetting: 14 * day,
	}
}

const (
	anchorAt  = 0.95      // availability of an anchor
	newcomer  = 0.4       // availability of who was just met, as of Silence
	burst     = time.Hour // of the budget that may be saved up
	auditPart = 10        // one part in so many of the budget, beside it, is for audits
	maxLeaf   = 1 << 20   // bytes that an audit moves at most
	maxMissed = 3         // audits in a row without an answer, then a replica is given up
	maxPeers  = 4096
)

// Peer is who may hold replicas. Operator and Net, as an address and its /24, may be
// empty: then nothing is known to be shared.
type Peer struct {
	Node     workunits.NodeID
	Operator string
	Net      string
}

// Goal is what an object is to have: at least Copies replicas, and as many more as
// it takes to be Available (0 to 1) at any moment, up to Most.
type Goal struct {
	Copies    int
	Available float64
	Most      int
}

// DefaultGoal is that of inputs and results whose job asks for so many replicas.
func DefaultGoal(copies int) Goal {
	return Goal{Copies: copies, Available: 0.99, Most: max(8, copies)}
}

// Code is how an object is cut: any Need of its Total pieces give it back, and the
// lost ones are made anew when no more than Repair are left. The zero Code leaves an
// object whole.
type Code struct{ Need, Repair, Total int }

// DefaultCode is that of all objects that are cut.
func DefaultCode() Code { return Code{Need: 8, Repair: 28, Total: 40} }

// When an object is worth being cut.
const (
	CutBytes = 64 << 20
	CutTime  = 90 * 24 * time.Hour // that it is still to be kept
)

// Whole is the piece that is all of an object.
const Whole = -1

// Object is content that is kept.
type Object struct {
	Root   cid.Cid
	Group  string // objects that a peer takes or refuses alike, as those of a job
	Bytes  int64
	Leaves int // at least 1; an audit names one of them
	Goal   Goal
	Code   Code
	Until  time.Time // when nobody needs it any more
}

// cost is what making a replica moves.
func (o Object) cost() int64 {
	if o.Code.Need > 0 {
		return o.Bytes/int64(o.Code.Need) + 1
	}
	return o.Bytes
}

// Kind says what an effect is.
type Kind string

// The kinds of effect.
const (
	Place Kind = "place" // have To fetch the piece from Sources, or from what can be made of theirs, and keep it
	Audit Kind = "audit" // have To show a leaf of its piece; it keeps it for a longer time then
	Cut   Kind = "cut"   // the object is to be cut: call Keep with its Code
	Free  Kind = "free"  // tell To that it need not keep the object
)

// Effect is what is to be done. The owner answers a Place with Stored or Failed, an
// Audit with Passed, Missed or Failed, or with nothing if To is away.
type Effect struct {
	Kind    Kind
	Root    cid.Cid
	To      workunits.NodeID
	Piece   int                // Whole of an object that is not cut
	Sources []workunits.NodeID // of a Place: holders that are there, by id
	Leaf    int                // of an Audit, from 0 below the object's Leaves
}

// Keeper looks after the replicas of objects. Make it with New.
type Keeper struct {
	times  Times
	rate   float64 // bytes a second that repair may take
	tokens float64 // of it
	looks  float64 // of it for audits
	last   time.Time

	peers   map[workunits.NodeID]*peer
	objects map[cid.Cid]*object
	refused map[refusal]time.Time
}

// refusal is a peer's of a group of objects.
type refusal struct {
	group string
	node  workunits.NodeID
}

type object struct {
	Object
	key     string    // of the root, to sort by
	known   time.Time // since
	led     bool      // this Keeper acts for it
	since   time.Time // led is true, zero if it always was
	mending bool      // of one that is cut: pieces are made until all are there
	copies  []*copied // by node
}

// copied is a replica, or a piece, that a node holds or is to hold.
type copied struct {
	node    workunits.NodeID
	peer    *peer // nil until it is met
	piece   int
	stored  bool
	since   time.Time // when it was asked for
	audited time.Time
	missed  int  // audits in a row
	refused bool // it does not hold it, and is not asked for a while
}

// New returns a keeper whose repairs take at most so many bytes a second, as a tenth
// of the uplink.
func New(rate float64, t Times) *Keeper {
	return &Keeper{times: t, rate: rate, peers: map[workunits.NodeID]*peer{}, objects: map[cid.Cid]*object{}, refused: map[refusal]time.Time{}}
}

// SetRate changes how many bytes a second repairs may take, from the next Tick on. What
// was saved up beyond the new rate is lost.
func (k *Keeper) SetRate(rate float64) { k.rate = rate }

// Keep takes an object up, with those who hold all of it already. Of one that is
// there it changes all but that.
func (k *Keeper) Keep(now time.Time, o Object, holders ...workunits.NodeID) {
	if old := k.objects[o.Root]; old != nil {
		old.Object = o
	} else {
		k.objects[o.Root] = &object{Object: o, key: o.Root.KeyString(), known: now, led: true}
	}
	for _, n := range holders {
		k.Stored(now, o.Root, n, Whole)
	}
}

// Lead tells whether this Keeper is to act for an object; it is unless told otherwise.
func (k *Keeper) Lead(now time.Time, root cid.Cid, lead bool) {
	if o := k.objects[root]; o != nil && o.led != lead {
		o.led, o.since = lead, now
	}
}

// Leads reports whether self is the one of those who are up that acts for what has
// this key (rendezvous hashing, as in Thaler and Ravishankar 1998). It is if no other
// is up.
func Leads(self workunits.NodeID, up []workunits.NodeID, key []byte) bool {
	best, most := self, score(key, self)
	for _, n := range up {
		if s := score(key, n); s > most || s == most && n.Compare(best) > 0 {
			best, most = n, s
		}
	}
	return best == self
}

// score is a number by chance that is the same whoever asks.
func score(key []byte, n workunits.NodeID) string {
	sum := blake3.Sum256(append(slices.Clone(key), n[:]...))
	return string(sum[:])
}

// Roots lists the objects, in no order.
func (k *Keeper) Roots() []cid.Cid { return slices.Collect(maps.Keys(k.objects)) }

// Release gives an object up: its publisher has it, or its time is over.
func (k *Keeper) Release(root cid.Cid) (list []Effect) {
	o := k.objects[root]
	if o == nil {
		return nil
	}
	for _, c := range o.copies {
		if c.refused {
			continue
		}
		list = append(list, Effect{Kind: Free, Root: root, To: c.node, Piece: c.piece})
	}
	delete(k.objects, root)
	return list
}

// Stored tells that a peer holds a piece of an object, or the Whole of it.
func (k *Keeper) Stored(now time.Time, root cid.Cid, n workunits.NodeID, piece int) {
	o := k.objects[root]
	if o == nil {
		return
	}
	if old := o.of(n); old != nil && old.stored && old.piece == piece {
		return // it is audited in its turn
	}
	o.put(&copied{node: n, peer: k.peers[n], piece: piece, stored: true, since: now, audited: now})
}

func (o *object) find(n workunits.NodeID) (i int, found bool) {
	return slices.BinarySearchFunc(o.copies, n, func(c *copied, n workunits.NodeID) int { return c.node.Compare(n) })
}

// of is a node's replica, nil if it has none.
func (o *object) of(n workunits.NodeID) *copied {
	if i, found := o.find(n); found {
		return o.copies[i]
	}
	return nil
}

// put notes a node's replica in place of the one before.
func (o *object) put(c *copied) {
	i, found := o.find(c.node)
	if found {
		o.copies[i] = c
		return
	}
	o.copies = slices.Insert(o.copies, i, c)
}

func (o *object) drop(n workunits.NodeID) {
	if i, found := o.find(n); found {
		o.copies = slices.Delete(o.copies, i, i+1)
	}
}

// Passed tells that a peer showed the leaf.
func (k *Keeper) Passed(now time.Time, root cid.Cid, n workunits.NodeID) {
	if o := k.objects[root]; o != nil {
		if c := o.of(n); c != nil {
			c.audited, c.missed = now, 0
		}
	}
}

// Missed tells that a peer that is there did not answer an audit in time. After a few
// in a row its replica is given up.
func (k *Keeper) Missed(now time.Time, root cid.Cid, n workunits.NodeID) {
	o := k.objects[root]
	if o == nil || o.of(n) == nil {
		return
	}
	c := o.of(n)
	if c.missed++; c.missed >= maxMissed {
		k.Failed(now, root, n)
	}
}

// Failed tells that a peer refused an object, or does not have it: it showed a wrong
// leaf or none although it was there. It is not asked again for as long as a replica
// may take to be made.
func (k *Keeper) Failed(now time.Time, root cid.Cid, n workunits.NodeID) {
	if o := k.objects[root]; o != nil {
		o.put(&copied{node: n, peer: k.peers[n], piece: Whole, since: now, refused: true})
	}
}

// Refused tells that a peer does not want an object, nor others of its group: it is
// asked for none for as long as a replica may take to be made.
func (k *Keeper) Refused(now time.Time, root cid.Cid, n workunits.NodeID) {
	k.Failed(now, root, n)
	if o := k.objects[root]; o != nil && o.Group != "" {
		k.refused[refusal{o.Group, n}] = now
	}
}

// Piece is what a peer holds of an object, or is to hold; Whole if nothing.
func (k *Keeper) Piece(root cid.Cid, n workunits.NodeID) int {
	if o := k.objects[root]; o != nil {
		if c := o.of(n); c != nil {
			return c.piece
		}
	}
	return Whole
}

// Coming reports whether a peer was asked for a replica that it has neither refused nor
// made yet.
func (k *Keeper) Coming(root cid.Cid, n workunits.NodeID) bool {
	o := k.objects[root]
	if o == nil {
		return false
	}
	c := o.of(n)
	return c != nil && !c.stored && !c.refused
}

// Holder is who holds an object or a piece of it.
type Holder struct {
	Node  workunits.NodeID
	Piece int
}

// Holders lists who is known to hold an object or a piece of it, by id: those heard
// of within the day first.
func (k *Keeper) Holders(now time.Time, root cid.Cid) (list []Holder) {
	o := k.objects[root]
	if o == nil {
		return nil
	}
	var silent []Holder
	for _, c := range o.copies {
		switch h := (Holder{c.node, c.piece}); {
		case !c.stored:
		case k.heardWithin(c, now, k.times.Silence):
			list = append(list, h)
		default:
			silent = append(silent, h)
		}
	}
	return append(list, silent...)
}
