package replica

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/talka-grid/talka/workunits"
)

// MaxState bounds what Save writes, in bytes.
const MaxState = 64 << 20

const stateVersion = 1

// saved is what a Keeper remembers between runs: whom it met and who holds what.
type saved struct {
	Version uint32        `cbor:"version"`
	Peers   []savedPeer   `cbor:"peers"`
	Objects []savedObject `cbor:"objects"`
}

type savedPeer struct {
	_            struct{} `cbor:",toarray"`
	Node         workunits.NodeID
	Operator     string
	Net          string
	Known, Heard int64 // milliseconds since 1970
	Up, Total    int64 // milliseconds
}

type savedObject struct {
	Root   workunits.Link `cbor:"root"`
	Bytes  int64          `cbor:"bytes"`
	Leaves int            `cbor:"leaves"`
	Copies int            `cbor:"copies"`
	Most   int            `cbor:"most"`
	Avail  float64        `cbor:"available"`
	Code   []int          `cbor:"code"` // empty of a whole one
	Until  int64          `cbor:"until"`
	Known  int64          `cbor:"known"`
	Held   []savedCopy    `cbor:"held"`
}

type savedCopy struct {
	_       struct{} `cbor:",toarray"`
	Node    workunits.NodeID
	Piece   int
	Stored  bool
	Since   int64
	Audited int64
}

func fromMilli(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// Save returns what Restore brings back: peers, with their measured availability, and
// objects, with their holders. The same state gives the same bytes.
func (k *Keeper) Save() []byte {
	s := saved{Version: stateVersion, Peers: []savedPeer{}, Objects: []savedObject{}}
	for _, n := range slices.SortedFunc(maps.Keys(k.peers), workunits.NodeID.Compare) {
		p := k.peers[n]
		s.Peers = append(s.Peers, savedPeer{Node: n, Operator: p.Operator, Net: p.Net, Known: p.known.UnixMilli(), Heard: p.heard.UnixMilli(),
			Up: p.up.Milliseconds(), Total: p.total.Milliseconds()})
	}
	for _, o := range slices.SortedFunc(maps.Values(k.objects), func(a, b *object) int { return cmp.Compare(a.key, b.key) }) {
		so := savedObject{Root: workunits.Link{Cid: o.Root}, Bytes: o.Bytes, Leaves: o.Leaves, Copies: o.Goal.Copies, Most: o.Goal.Most,
			Avail: o.Goal.Available, Code: []int{}, Until: o.Until.UnixMilli(), Known: o.known.UnixMilli(), Held: []savedCopy{}}
		if c := o.Code; c.Need > 0 {
			so.Code = []int{c.Need, c.Repair, c.Total}
		}
		for _, c := range o.copies {
			if c.refused {
				continue
			}
			so.Held = append(so.Held, savedCopy{Node: c.node, Piece: c.piece, Stored: c.stored, Since: c.since.UnixMilli(), Audited: c.audited.UnixMilli()})
		}
		s.Objects = append(s.Objects, so)
	}
	return workunits.Encode(s)
}

// Restore takes back what Save returned, into a Keeper that knows nothing yet. While
// it was away nobody was heard, which is held against no peer: the time is left out.
func (k *Keeper) Restore(now time.Time, b []byte) error {
	s, err := workunits.Decode[saved](b, MaxState)
	if err != nil {
		return fmt.Errorf("replicas: %w", err)
	}
	if s.Version != stateVersion {
		return fmt.Errorf("replicas: version %d, want %d", s.Version, stateVersion)
	}
	var last time.Time
	for _, p := range s.Peers {
		if at := fromMilli(p.Heard); at.After(last) {
			last = at
		}
	}
	away := max(now.Sub(last), 0)
	for _, p := range s.Peers {
		if p.Up < 0 || p.Total < p.Up || len(k.peers) >= maxPeers {
			return errors.New("replicas: a peer was there longer than it is known")
		}
		k.peers[p.Node] = &peer{Peer: Peer{p.Node, p.Operator, p.Net}, known: fromMilli(p.Known), heard: fromMilli(p.Heard).Add(away),
			up: time.Duration(p.Up) * time.Millisecond, total: time.Duration(p.Total) * time.Millisecond}
	}
	for _, so := range s.Objects {
		o := Object{Root: so.Root.Cid, Bytes: so.Bytes, Leaves: so.Leaves, Goal: Goal{so.Copies, so.Avail, so.Most}, Until: fromMilli(so.Until)}
		if len(so.Code) == 3 {
			o.Code = Code{so.Code[0], so.Code[1], so.Code[2]}
		}
		k.Keep(fromMilli(so.Known), o)
		k.objects[o.Root].since = now // others may have come to lead it
		for _, c := range so.Held {
			if c.Piece < Whole || c.Piece >= max(o.Code.Total, 0) || o.Code.Total > maxPieces {
				return fmt.Errorf("replicas: piece %d of %d", c.Piece, o.Code.Total)
			}
			k.objects[o.Root].put(&copied{node: c.Node, piece: c.Piece, stored: c.Stored, since: fromMilli(c.Since).Add(away), audited: fromMilli(c.Audited)})
		}
	}
	return nil
}
