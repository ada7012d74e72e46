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
// budget of bytes, for what has the fewest first.
//
// A Keeper is not safe for concurrent use.
package replica

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"lukechampine.com/blake3"

	"github.com/talka-grid/talka/workunits"
)

// What is measured and how long it is waited for.
const (
	silence    = 24 * time.Hour      // then a replica is lost
	recent     = time.Hour           // who was heard since is there now
	auditEvery = 24 * time.Hour      // of each replica
	placing    = 12 * time.Hour      // that a replica may take to be made
	memory     = 30 * 24 * time.Hour // of availability
	anchorAt   = 0.95                // availability of an anchor
	newcomer   = 0.4                 // availability of who was just met, as of a day
	burst      = time.Hour           // of the budget that may be saved up
	maxPeers   = 4096
)

// Peer is who may hold replicas. Operator and Net, as a /24 or /64, may be empty:
// then nothing is known to be shared.
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

// Object is content that is kept.
type Object struct {
	Root   cid.Cid
	Bytes  int64
	Leaves int // at least 1; an audit names one of them
	Goal   Goal
}

// Kind says what an effect is.
type Kind string

// The kinds of effect.
const (
	Place Kind = "place" // have To fetch the object from Sources and keep it
	Audit Kind = "audit" // have To show a leaf
	Free  Kind = "free"  // tell To that it need not keep the object
)

// Effect is what is to be done. The owner answers a Place with Stored or Failed, an
// Audit with Passed or Failed, or with nothing if To is away.
type Effect struct {
	Kind    Kind
	Root    cid.Cid
	To      workunits.NodeID
	Sources []workunits.NodeID // of a Place: holders that are there, by id
	Leaf    int                // of an Audit
}

// State is how an object fares.
type State string

// The states.
const (
	Healthy   State = "healthy"
	Repairing State = "repairing"
	AtRisk    State = "at risk" // the next loss may be the last
)

// Health tells how an object fares.
type Health struct {
	State     State
	Replicas  int     // whose holders were heard within a day
	Online    int     // whose holders are there now
	Wanted    int     // replicas more that are wanted
	Available float64 // chance that one of them is there at any moment
}

// Keeper looks after the replicas of objects. Make it with New.
type Keeper struct {
	rate   float64 // bytes a second that repair may take
	tokens float64
	last   time.Time // of the budget

	peers   map[workunits.NodeID]*peer
	objects map[cid.Cid]*object
}

type peer struct {
	Peer
	known, heard time.Time
	up, total    time.Duration
}

type object struct {
	Object
	key    string // of the root, to sort by
	copies map[workunits.NodeID]*copied
}

type copied struct {
	stored  bool
	since   time.Time // when it was asked for
	audited time.Time
}

// New returns a keeper whose repairs take at most so many bytes a second, as a tenth
// of the uplink.
func New(rate float64) *Keeper {
	return &Keeper{rate: rate, peers: map[workunits.NodeID]*peer{}, objects: map[cid.Cid]*object{}}
}

// Keep takes an object up, with those who hold it already. Of one that is there it
// changes the goal.
func (k *Keeper) Keep(now time.Time, o Object, holders ...workunits.NodeID) {
	if old := k.objects[o.Root]; old != nil {
		old.Object = o
	} else {
		k.objects[o.Root] = &object{o, o.Root.KeyString(), map[workunits.NodeID]*copied{}}
	}
	for _, n := range holders {
		k.objects[o.Root].copies[n] = &copied{stored: true, since: now, audited: now}
	}
}

// Release gives an object up: its publisher has it, or its time is over.
func (k *Keeper) Release(root cid.Cid) (list []Effect) {
	o := k.objects[root]
	if o == nil {
		return nil
	}
	for n := range o.copies {
		list = append(list, Effect{Kind: Free, Root: root, To: n})
	}
	slices.SortFunc(list, func(a, b Effect) int { return a.To.Compare(b.To) })
	delete(k.objects, root)
	return list
}

// Heard tells that a peer is there. It is told at least every half hour while so.
func (k *Keeper) Heard(now time.Time, p Peer) {
	at := k.peers[p.Node]
	if at == nil {
		if len(k.peers) >= maxPeers {
			k.forget()
		}
		k.peers[p.Node] = &peer{Peer: p, known: now, heard: now}
		return
	}
	at.Peer = p
	gap := now.Sub(at.heard)
	if gap <= recent {
		at.up += gap
	}
	if at.total += gap; at.total > memory {
		at.up, at.total = at.up/2, at.total/2
	}
	at.heard = now
}

// forget drops the peer that was silent longest. Its replicas are forgotten too.
func (k *Keeper) forget() {
	var oldest *peer
	for _, p := range k.peers {
		if oldest == nil || cmp.Or(p.heard.Compare(oldest.heard), p.Node.Compare(oldest.Node)) < 0 {
			oldest = p
		}
	}
	delete(k.peers, oldest.Node)
	for _, o := range k.objects {
		delete(o.copies, oldest.Node)
	}
}

// Stored tells that a peer holds all of an object.
func (k *Keeper) Stored(now time.Time, root cid.Cid, n workunits.NodeID) {
	if o := k.objects[root]; o != nil {
		o.copies[n] = &copied{stored: true, since: now, audited: now}
	}
}

// Passed tells that a peer showed the leaf.
func (k *Keeper) Passed(now time.Time, root cid.Cid, n workunits.NodeID) {
	if o := k.objects[root]; o != nil && o.copies[n] != nil {
		o.copies[n].audited = now
	}
}

// Failed tells that a peer refused an object, or does not have it: it showed a wrong
// leaf or none although it was there.
func (k *Keeper) Failed(root cid.Cid, n workunits.NodeID) {
	if o := k.objects[root]; o != nil {
		delete(o.copies, n)
	}
}

// availability is the share of its time that a peer is there.
func (k *Keeper) availability(n workunits.NodeID, now time.Time) float64 {
	p := k.peers[n]
	if p == nil {
		return 0
	}
	up, total := p.up.Hours()+newcomer*24, (p.total+now.Sub(p.heard)).Hours()+24
	return up / total
}

func (k *Keeper) heardWithin(n workunits.NodeID, now time.Time, d time.Duration) bool {
	p := k.peers[n]
	return p != nil && now.Sub(p.heard) <= d
}

// live lists the holders of replicas that count, those on the way too if coming is
// set, by id.
func (k *Keeper) live(o *object, now time.Time, coming bool) (list []workunits.NodeID) {
	for n, c := range o.copies {
		if k.heardWithin(n, now, silence) && (c.stored || coming) {
			list = append(list, n)
		}
	}
	slices.SortFunc(list, workunits.NodeID.Compare)
	return list
}

func (k *Keeper) available(list []workunits.NodeID, now time.Time) float64 {
	away := 1.0
	for _, n := range list {
		away *= 1 - k.availability(n, now)
	}
	return 1 - away
}

func (k *Keeper) enough(g Goal, list []workunits.NodeID, now time.Time) bool {
	return len(list) >= g.Copies && (len(list) >= g.Most || k.available(list, now) >= g.Available)
}

// Health tells how an object fares; false if it is not kept.
func (k *Keeper) Health(now time.Time, root cid.Cid) (h Health, ok bool) {
	o := k.objects[root]
	if o == nil {
		return h, false
	}
	list := k.live(o, now, false)
	h = Health{State: Healthy, Replicas: len(list), Available: k.available(list, now)}
	for _, n := range list {
		if k.heardWithin(n, now, recent) {
			h.Online++
		}
	}
	if !k.enough(o.Goal, list, now) {
		h.State, h.Wanted = Repairing, max(o.Goal.Copies-len(list), 1)
	}
	if len(list) <= 1 && o.Goal.Copies > 1 || 2*len(list) < o.Goal.Copies {
		h.State = AtRisk
	}
	return h, true
}

// Tick says what is to be done now.
func (k *Keeper) Tick(now time.Time, chance *rand.Rand) (list []Effect) {
	if !k.last.IsZero() {
		k.tokens = min(k.tokens+k.rate*now.Sub(k.last).Seconds(), k.rate*burst.Seconds())
	}
	k.last = now
	type due struct {
		o    *object
		held []workunits.NodeID
	}
	var order []due
	for _, o := range k.objects {
		for n, c := range o.copies {
			if !c.stored && now.Sub(c.since) > placing || !k.heardWithin(n, now, memory) {
				delete(o.copies, n)
			}
		}
		order = append(order, due{o, k.live(o, now, true)})
	}
	slices.SortFunc(order, func(a, b due) int {
		return cmp.Or(cmp.Compare(len(a.held), len(b.held)), cmp.Compare(a.o.key, b.o.key))
	})
	for _, d := range order {
		list = append(list, k.place(d.o, d.held, now)...)
	}
	for _, d := range order {
		list = append(list, k.audit(d.o, now, chance)...)
	}
	return list
}

// place has as many replicas made as are wanted and paid for.
func (k *Keeper) place(o *object, held []workunits.NodeID, now time.Time) (list []Effect) {
	if k.enough(o.Goal, held, now) {
		return nil
	}
	var sources []workunits.NodeID
	for _, n := range k.live(o, now, false) {
		if k.heardWithin(n, now, recent) {
			sources = append(sources, n)
		}
	}
	if len(sources) == 0 {
		return nil
	}
	for !k.enough(o.Goal, held, now) && k.tokens > 0 {
		n, ok := k.choose(o, held, now)
		if !ok {
			break
		}
		k.tokens -= float64(o.Bytes) // a debt if need be, for one object may be more than an hour's
		o.copies[n] = &copied{since: now}
		held = append(held, n)
		list = append(list, Effect{Kind: Place, Root: o.Root, To: n, Sources: sources})
	}
	return list
}

// choose picks who is to hold a replica next: of another operator, then of another
// network than the others; two anchors first, then anyone, by chance that is the same
// whoever asks, so that load is spread.
func (k *Keeper) choose(o *object, held []workunits.NodeID, now time.Time) (best workunits.NodeID, ok bool) {
	operators, nets, anchors := map[string]bool{}, map[string]bool{}, 0
	for _, n := range held {
		operators[k.peers[n].Operator], nets[k.peers[n].Net] = true, true
		if k.availability(n, now) >= anchorAt {
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
		if _, holds := o.copies[n]; holds || now.Sub(p.heard) > recent {
			continue
		}
		r := rank{anchor: 1}
		if p.Operator != "" && operators[p.Operator] {
			r.shared += 2
		}
		if p.Net != "" && nets[p.Net] {
			r.shared++
		}
		if anchors < 2 && k.availability(n, now) >= anchorAt {
			r.anchor = 0
		}
		sum := blake3.Sum256(append([]byte(o.Root.KeyString()), n[:]...))
		r.chance = string(sum[:])
		if !ok || cmp.Or(cmp.Compare(r.shared, least.shared), cmp.Compare(r.anchor, least.anchor), cmp.Compare(r.chance, least.chance)) < 0 {
			best, least, ok = n, r, true
		}
	}
	return best, ok
}

func (k *Keeper) audit(o *object, now time.Time, chance *rand.Rand) (list []Effect) {
	var due []workunits.NodeID
	for n, c := range o.copies {
		if c.stored && now.Sub(c.audited) >= auditEvery && k.heardWithin(n, now, recent) {
			due = append(due, n)
		}
	}
	slices.SortFunc(due, workunits.NodeID.Compare)
	for _, n := range due {
		o.copies[n].audited = now
		list = append(list, Effect{Kind: Audit, Root: o.Root, To: n, Leaf: chance.IntN(max(o.Leaves, 1))})
	}
	return list
}
