package p2p

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	msmux "github.com/multiformats/go-multistream"
)

const (
	probeTimeout  = 5 * time.Second // silence after which a doubted connection is closed
	strangerGrace = 5 * time.Second // time for a new peer to show the network's protocols
)

// watch follows connections: it greets members, rejects strangers and forgets
// those who left.
func (h *Host) watch(events event.Subscription) {
	defer events.Close()
	for {
		select {
		case e := <-events.Out():
			switch e := e.(type) {
			case event.EvtPeerIdentificationCompleted:
				h.noteRecord(e.Peer, e.SignedPeerRecord)
				h.met(e.Peer, e.Conn)
			case event.EvtPeerProtocolsUpdated:
				h.met(e.Peer, nil)
			case event.EvtPeerIdentificationFailed:
				h.rejectLater(e.Peer)
			case event.EvtPeerConnectednessChanged:
				if e.Connectedness == network.NotConnected {
					h.links.drop(e.Peer)
				}
				h.manager.wake()
			}
		case <-h.ctx.Done():
			return
		}
	}
}

// met is called for a peer that has told its protocols; conn is nil if it was
// connected before.
func (h *Host) met(p peer.ID, conn network.Conn) {
	if !h.member(p) {
		h.rejectLater(p)
		return
	}
	h.manager.wake()
	h.showSoon(p)
	if conn == nil {
		return
	}
	select {
	case h.newcomer <- struct{}{}:
	default:
	}
	h.probe(conn)
	h.assume(conn)
	if conn.Stat().Direction == network.DirOutbound {
		h.pullSoon(p)
	}
}

// rejectLater disconnects a peer that is no member, unless it becomes one: a
// node that has just begun may not have told all its protocols yet.
func (h *Host) rejectLater(p peer.ID) {
	if h.cfg.Guests && h.club == nil {
		return
	}
	h.spawn(func() {
		select {
		case <-time.After(strangerGrace):
		case <-h.ctx.Done():
			return
		}
		if !h.member(p) && h.base.Network().Connectedness(p) != network.NotConnected {
			h.log.Debug("disconnecting a stranger", "peer", p)
			_ = h.base.Network().ClosePeer(p) // it is gone either way
		}
	})
}

// doubted is called for each new connection. If the peer had others, it has
// probably restarted and they are dead, which their transport would notice half
// a minute later only.
func (h *Host) doubted(_ network.Network, conn network.Conn) {
	for _, c := range h.base.Network().ConnsToPeer(conn.RemotePeer()) {
		if c.ID() != conn.ID() {
			h.probe(c)
		}
	}
}

// probe pings over the connection, on a goroutine of its own, and closes it if
// nothing at all comes back. It measures the peer's latency on the way.
func (h *Host) probe(conn network.Conn) {
	h.mu.Lock()
	_, busy := h.probing[conn.ID()]
	h.probing[conn.ID()] = struct{}{}
	h.mu.Unlock()
	if busy {
		return
	}
	h.spawn(func() {
		ctx, cancel := context.WithTimeout(h.ctx, probeTimeout)
		defer cancel()
		took, err := roundTrip(ctx, conn)
		h.mu.Lock()
		delete(h.probing, conn.ID())
		h.mu.Unlock()
		switch {
		case err == nil:
			h.base.Peerstore().RecordLatency(conn.RemotePeer(), took)
		case ctx.Err() == nil || h.ctx.Err() != nil:
			// Refused, here or there; whoever refuses lives.
		default:
			h.log.Debug("closing a dead connection", "peer", conn.RemotePeer(), "error", err)
			_ = conn.Close() // it is gone either way
		}
	})
}

// roundTrip speaks libp2p's ping protocol once over this very connection.
func roundTrip(ctx context.Context, conn network.Conn) (time.Duration, error) {
	s, err := conn.NewStream(network.WithAllowLimitedConn(ctx, "ping"))
	if err != nil {
		return 0, err
	}
	defer func() { _ = s.Reset() }() // nothing is in flight
	defer context.AfterFunc(ctx, func() { _ = s.Reset() })()
	if err := s.SetProtocol(ping.ID); err != nil {
		return 0, err
	}
	if err := msmux.SelectProtoOrFail(ping.ID, s); err != nil {
		return 0, err
	}
	var sent, got [ping.PingSize]byte
	_, _ = rand.Read(sent[:]) // never fails
	begun := time.Now()
	if _, err := s.Write(sent[:]); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(s, got[:]); err != nil {
		return 0, err
	}
	if !bytes.Equal(sent[:], got[:]) {
		return 0, errors.New("the echo differs")
	}
	return time.Since(begun), nil
}

// streamHandler makes a libp2p handler of f: it waits for Run, and Close waits
// for it. The stream is reset when the host ends.
func (h *Host) streamHandler(f func(from peer.ID, s network.Stream)) network.StreamHandler {
	return func(s network.Stream) {
		if !h.enter() {
			_ = s.Reset()
			return
		}
		defer h.group.Done()
		defer context.AfterFunc(h.ctx, func() { _ = s.Reset() })()
		select {
		case <-h.started:
			f(s.Conn().RemotePeer(), s)
		case <-h.ctx.Done():
		}
	}
}

// errProtocol reports a peer that breaks a protocol of this package.
func errProtocol(format string, args ...any) error {
	return fmt.Errorf("peer breaks the protocol: "+format, args...)
}
