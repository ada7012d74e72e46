package p2p

import (
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// What the node is about with a peer counts more than that the peer is of use to the
// DHT (5) or a relay (10), when connections are closed for want of room.
const (
	useTag     = "talka use"
	useValue   = 100           // a stream is open that carries data
	spokeTag   = "talka spoke" // this node has sent a frame
	spokeValue = 50            // just now; half of it is left after a minute, nothing after two
)

// inUse is a resource manager that tells the connection manager with which peers
// data is under way. Any peer can have it so by a stream of its own; those that are
// protected are kept before it all the same.
type inUse struct {
	network.ResourceManager
	conns   connmgr.ConnManager
	carries func(protocol.ID) bool

	mu      sync.Mutex
	streams map[peer.ID]int
}

// OpenStream implements network.ResourceManager.
func (u *inUse) OpenStream(p peer.ID, dir network.Direction) (network.StreamManagementScope, error) {
	s, err := u.ResourceManager.OpenStream(p, dir)
	if err != nil {
		return nil, err
	}
	return &useScope{StreamManagementScope: s, u: u, peer: p}, nil
}

func (u *inUse) count(p peer.ID, n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.streams[p] += n; u.streams[p] > 0 {
		u.conns.TagPeer(p, useTag, useValue) // again, since a new connection has no tags
		return
	}
	delete(u.streams, p)
	u.conns.UntagPeer(p, useTag)
}

// useScope is the scope of one stream.
type useScope struct {
	network.StreamManagementScope
	u    *inUse
	peer peer.ID

	mu      sync.Mutex
	done    bool
	counted bool
}

// SetProtocol implements network.StreamManagementScope. It is called when both ends
// have agreed.
func (s *useScope) SetProtocol(id protocol.ID) error {
	if err := s.StreamManagementScope.SetProtocol(id); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.done && !s.counted && s.u.carries(id) {
		s.counted = true
		s.u.count(s.peer, 1)
	}
	return nil
}

// Done implements network.StreamManagementScope. It may be called again.
func (s *useScope) Done() {
	s.StreamManagementScope.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counted && !s.done {
		s.u.count(s.peer, -1)
	}
	s.done = true
}

// carries reports whether streams of the protocol carry data, unlike those that the
// network itself is made of: they are short, or always there.
func (h *Host) carries(id protocol.ID) bool {
	name, ours := strings.CutPrefix(string(id), "/talka/"+h.cfg.Network+"/")
	if !ours {
		return strings.HasPrefix(string(id), "/ipfs/bitswap")
	}
	switch name, _, _ = strings.Cut(name, "/"); name {
	case "grid", "peers", "member", "catalogue", "meshsub", "kad":
		return false
	}
	return true
}

// spokenTag makes the mark that Send leaves on a peer.
func spokenTag(conns connmgr.ConnManager) (connmgr.DecayingTag, error) {
	decayer, ok := connmgr.SupportsDecay(conns)
	if !ok {
		return nil, errors.New("the connection manager has no marks that fade")
	}
	return decayer.RegisterDecayingTag(spokeTag, time.Minute, connmgr.DecayFixed(spokeValue/2), connmgr.BumpOverwrite())
}
