package p2p

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/talka-grid/talka/p2p/membership"
)

// In a private network both ends of a connection show their membership before
// libp2p has it: after the security handshake of TCP connections and of those
// through relays, on the first stream of a QUIC connection. Until then there is
// nothing on it to talk to. Whoever dials goes first; who was dialled answers
// members only, and says nothing to others but that it hangs up.
const (
	greetTime  = 10 * time.Second // for both to show their membership
	maxGreeted = 64               // QUIC connections that have not yet, at a time
)

// greeter does so. Local is the identity that the connection has, which is not
// the node's own where AutoNAT dials.
type greeter struct {
	club  *club
	local peer.ID
}

// transports are the ways to connect. In a private network the greeting is put
// into each of them; the one through relays uses the security of TCP.
func (h *Host) transports() []libp2p.Option {
	options := []libp2p.Option{libp2p.Transport(tcp.NewTCPTransport)}
	if h.club == nil {
		return append(options, libp2p.Transport(quic.NewTransport))
	}
	return append(options,
		libp2p.Transport(func(key crypto.PrivKey, conns *quicreuse.ConnManager, psk pnet.PSK, gater connmgr.ConnectionGater, limits network.ResourceManager) (transport.Transport, error) {
			t, err := quic.NewTransport(key, conns, psk, gater, limits)
			if err != nil {
				return nil, err
			}
			local, err := peer.IDFromPrivateKey(key)
			return privateQUIC{t, greeter{h.club, local}}, err
		}),
		libp2p.Security(noise.ID, func(id protocol.ID, key crypto.PrivKey, muxers []upgrader.StreamMuxer) (sec.SecureTransport, error) {
			t, err := noise.New(id, key, muxers)
			return h.club.secure(t, key, err)
		}),
		libp2p.Security(libp2ptls.ID, func(id protocol.ID, key crypto.PrivKey, muxers []upgrader.StreamMuxer) (sec.SecureTransport, error) {
			t, err := libp2ptls.New(id, key, muxers)
			return h.club.secure(t, key, err)
		}))
}

func (c *club) secure(t sec.SecureTransport, key crypto.PrivKey, err error) (sec.SecureTransport, error) {
	if err != nil {
		return nil, err
	}
	local, err := peer.IDFromPrivateKey(key)
	return privateSecurity{t, greeter{c, local}}, err
}

// wire is what a greeting goes over.
type wire interface {
	io.ReadWriter
	SetDeadline(t time.Time) error
}

// greet shows this node's membership and asks for the peer's. The peer's identity
// is proven already.
func (g greeter) greet(ctx context.Context, w wire, remote peer.ID, first bool) error {
	if err := w.SetDeadline(time.Now().Add(greetTime)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = w.SetDeadline(time.Unix(1, 0)) }) // ends both reads and writes
	err := g.say(w, remote, first)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = w.SetDeadline(time.Time{})
	}
	if err != nil {
		return fmt.Errorf("membership: %w", err)
	}
	return nil
}

func (g greeter) say(w wire, remote peer.ID, first bool) error {
	var nonce [membership.NonceSize]byte
	_, _ = rand.Read(nonce[:]) // never fails
	hello, key, err := g.club.hello(g.local)
	if err != nil {
		return err
	}
	own := hello.Seal(key, nonce)
	if first {
		if err := writeFrame(w, own, membership.MaxHello); err != nil {
			return err
		}
	}
	b, err := readFrame(w, membership.MaxHello, nil)
	if errors.Is(err, io.EOF) {
		return errors.New("the peer hung up: it may not take this node for a member")
	}
	if err != nil {
		return err
	}
	theirs, err := membership.OpenHello(key, b)
	if err != nil {
		return err
	}
	if err := g.club.admit(remote, theirs); err != nil {
		return err
	}
	if !first {
		return writeFrame(w, own, membership.MaxHello)
	}
	return nil
}

// privateSecurity greets over a connection that has been secured.
type privateSecurity struct {
	sec.SecureTransport
	greeter
}

// SecureInbound implements sec.SecureTransport.
func (s privateSecurity) SecureInbound(ctx context.Context, insecure net.Conn, p peer.ID) (sec.SecureConn, error) {
	c, err := s.SecureTransport.SecureInbound(ctx, insecure, p)
	return s.over(ctx, c, err, false)
}

// SecureOutbound implements sec.SecureTransport.
func (s privateSecurity) SecureOutbound(ctx context.Context, insecure net.Conn, p peer.ID) (sec.SecureConn, error) {
	c, err := s.SecureTransport.SecureOutbound(ctx, insecure, p)
	return s.over(ctx, c, err, true)
}

func (s privateSecurity) over(ctx context.Context, c sec.SecureConn, err error, first bool) (sec.SecureConn, error) {
	if err != nil {
		return nil, err
	}
	if err := s.greet(ctx, c, c.RemotePeer(), first); err != nil {
		_ = c.Close() // it is of no use
		return nil, err
	}
	return c, nil
}

// privateQUIC greets on the first stream of each connection.
type privateQUIC struct {
	transport.Transport
	greeter
}

// ListenOrder is that of QUIC: swarms ask for it.
func (t privateQUIC) ListenOrder() int { return quic.ListenOrder }

// Close ends the transport, as swarms do.
func (t privateQUIC) Close() error {
	if c, ok := t.Transport.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Dial implements transport.Transport. Of two that dial each other to get through
// their routers one is dialled, as QUIC sees it.
func (t privateQUIC) Dial(ctx context.Context, to ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	c, err := t.Transport.Dial(ctx, to, p)
	if err != nil {
		return nil, err
	}
	both, client, _ := network.GetSimultaneousConnect(ctx)
	if err := t.over(ctx, c, !both || client); err != nil {
		_ = c.CloseWithError(network.ConnGated) // it is of no use
		return nil, err
	}
	return c, nil
}

func (t privateQUIC) over(ctx context.Context, c transport.CapableConn, first bool) error {
	ctx, cancel := context.WithTimeout(ctx, greetTime)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = c.CloseWithError(network.ConnGated) })()
	var s network.MuxedStream
	var err error
	if first {
		s, err = c.OpenStream(ctx)
	} else {
		s, err = c.AcceptStream()
	}
	if err != nil {
		return err
	}
	if err := t.greet(ctx, s, c.RemotePeer(), first); err != nil {
		return err
	}
	_ = s.Close() // all is said, whatever becomes of the stream
	return nil
}

// Listen implements transport.Transport.
func (t privateQUIC) Listen(at ma.Multiaddr) (transport.Listener, error) {
	inner, err := t.Transport.Listen(at)
	if err != nil {
		return nil, err
	}
	return listenPrivate(inner, t), nil
}

func listenPrivate(inner transport.Listener, t privateQUIC) *privateListener {
	l := &privateListener{Listener: inner, t: t, ready: make(chan transport.CapableConn), places: make(chan struct{}, maxGreeted)}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	l.group.Go(l.accept)
	return l
}

// privateListener hands out connections whose ends have greeted each other.
type privateListener struct {
	transport.Listener
	t      privateQUIC
	ready  chan transport.CapableConn
	places chan struct{}
	ctx    context.Context // ends with the listener, with the cause
	cancel context.CancelCauseFunc
	group  sync.WaitGroup
}

func (l *privateListener) accept() {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			l.cancel(err)
			return
		}
		select {
		case l.places <- struct{}{}:
		default:
			_ = c.CloseWithError(network.ConnResourceLimitExceeded) // whoever it is
			continue
		}
		l.group.Go(func() {
			err := l.t.over(l.ctx, c, false)
			<-l.places
			if err == nil {
				select {
				case l.ready <- c:
					return
				case <-l.ctx.Done():
				}
			}
			_ = c.CloseWithError(network.ConnGated) // it is of no use
		})
	}
}

// Accept implements transport.Listener.
func (l *privateListener) Accept() (transport.CapableConn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.ctx.Done():
		return nil, context.Cause(l.ctx)
	}
}

// Close implements transport.Listener.
func (l *privateListener) Close() error {
	err := l.Listener.Close()
	l.cancel(transport.ErrListenerClosed)
	l.group.Wait()
	return err
}
