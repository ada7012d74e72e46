package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/record"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/talka-grid/talka/workunits"
)

// Limits of peer exchange.
const (
	maxTold        = 16      // peers that one answer tells of
	maxRecordBytes = 4 << 10 // of a signed record
	peersFrame     = maxTold*(maxRecordBytes+8) + 64
	peersTime      = 10 * time.Second
	maxIntroduced  = maxHeard    // peers that are remembered from answers
	askedAtOnce    = 3           // peers that are asked when the node looks for more
	askAgain       = time.Minute // until one peer is asked again
)

// introductions is the answer of the peers protocol: peers of the network, each
// with its addresses as it signed them itself (libp2p's signed peer record), so
// that whoever answers can leave out and repeat, but not invent.
type introductions struct {
	Peers [][]byte `cbor:"peers"`
}

func (m introductions) check() error {
	if len(m.Peers) > maxTold {
		return errProtocol("%d peers, at most %d are allowed", len(m.Peers), maxTold)
	}
	for _, r := range m.Peers {
		if len(r) == 0 || len(r) > maxRecordBytes {
			return errProtocol("record of %d bytes, want 1 to %d", len(r), maxRecordBytes)
		}
	}
	return nil
}

// introduced are peers that others told of. They are dialled like any other
// candidate: in random order, and rather far from those that are there.
type introduced struct {
	heard
	asked map[peer.ID]time.Time // the lock is heard's
}

// tell answers whoever asks for peers: with some of the members, at random.
func (h *Host) tell(to peer.ID, s network.Stream) {
	defer s.Close()
	if err := s.SetDeadline(time.Now().Add(peersTime)); err != nil {
		return
	}
	if err := writeFrame(s, workunits.Encode(h.introductionsFor(to)), peersFrame); err != nil {
		h.log.Debug("telling of peers failed", "peer", to, "error", err)
		_ = s.Reset()
	}
}

func (h *Host) introductionsFor(to peer.ID) introductions {
	out := introductions{Peers: [][]byte{}}
	book, ok := h.base.Peerstore().(peerstore.CertifiedAddrBook)
	if !ok {
		return out // libp2p's own peerstore is one
	}
	have := h.members()
	shuffle(have)
	for _, p := range have {
		if len(out.Peers) == maxTold {
			break
		}
		signed := book.GetPeerRecord(p)
		if p == to || signed == nil {
			continue
		}
		if b, err := signed.Marshal(); err == nil && len(b) <= maxRecordBytes {
			out.Peers = append(out.Peers, b)
		}
	}
	return out
}

// noteRecord keeps the record by which a peer has told its addresses, for others.
func (h *Host) noteRecord(p peer.ID, signed *record.Envelope) {
	book, ok := h.base.Peerstore().(peerstore.CertifiedAddrBook)
	if !ok || signed == nil {
		return
	}
	if _, err := book.ConsumePeerRecord(signed, peerstore.RecentlyConnectedAddrTTL); err != nil {
		h.log.Debug("the record of a peer is unusable", "peer", p, "error", err)
	}
}

// askAround asks some members for theirs.
func (h *Host) askAround() {
	now := time.Now()
	have := h.members()
	shuffle(have)
	asked := 0
	var group sync.WaitGroup
	for _, p := range have {
		if asked == askedAtOnce {
			break
		}
		if !h.introduced.mayAsk(p, now) {
			continue
		}
		asked++
		group.Go(func() {
			if err := h.ask(h.ctx, p); err != nil && h.ctx.Err() == nil {
				h.log.Debug("asking for peers failed", "peer", p, "error", err)
			}
		})
	}
	group.Wait()
}

// ask asks one member for its peers.
func (h *Host) ask(ctx context.Context, p peer.ID) error {
	ctx, cancel := context.WithTimeout(ctx, peersTime)
	defer cancel()
	s, err := h.base.NewStream(network.WithNoDial(network.WithAllowLimitedConn(ctx, "talka"), "talka"), p, h.protocol("peers"))
	if err != nil {
		return err
	}
	defer func() { _ = s.Reset() }() // all is read, or has failed
	defer context.AfterFunc(ctx, func() { _ = s.Reset() })()
	if err := s.CloseWrite(); err != nil {
		return err
	}
	b, err := readFrame(s, peersFrame, nil)
	if errors.Is(err, io.EOF) {
		return errors.New("no answer")
	}
	if err != nil {
		return err
	}
	all, err := readIntroductions(b)
	if err != nil {
		return err
	}
	h.meet(all, onLAN(h.base.Network().ConnsToPeer(p)))
	return nil
}

// readIntroductions reads and checks an answer, signatures too.
func readIntroductions(b []byte) (all []*peer.PeerRecord, err error) {
	m, err := workunits.Decode[introductions](b, peersFrame)
	if err != nil {
		return nil, err
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	for _, raw := range m.Peers {
		signed, body, err := record.ConsumeEnvelope(raw, peer.PeerRecordEnvelopeDomain)
		if err != nil {
			return nil, errProtocol("record: %w", err)
		}
		told, ok := body.(*peer.PeerRecord)
		if !ok || !told.PeerID.MatchesPublicKey(signed.PublicKey) || len(told.Addrs) > maxAddrs*4 {
			return nil, errProtocol("record of %s", fmt.Sprintf("%T", body))
		}
		all = append(all, told)
	}
	return all, nil
}

// meet remembers the peers with their addresses; private ones mean something
// only if they come from the LAN.
func (h *Host) meet(all []*peer.PeerRecord, lan bool) {
	for _, told := range all {
		addrs := slices.DeleteFunc(slices.Clone(told.Addrs), func(a ma.Multiaddr) bool { return !lan && manet.IsPrivateAddr(a) })
		if _, ok := nodeID(told.PeerID); ok && told.PeerID != h.base.ID() && len(addrs) > 0 {
			h.introduced.add(peer.AddrInfo{ID: told.PeerID, Addrs: best(addrs, maxAddrs)})
		}
	}
}

// mayAsk reports whether the peer has not been asked lately, and notes that it
// is being asked.
func (i *introduced) mayAsk(p peer.ID, now time.Time) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if now.Sub(i.asked[p]) < askAgain {
		return false
	}
	for old, at := range i.asked {
		if now.Sub(at) >= askAgain {
			delete(i.asked, old)
		}
	}
	i.asked[p] = now
	return true
}
