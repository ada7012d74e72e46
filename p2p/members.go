package p2p

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/talka-grid/talka/p2p/membership"
	"github.com/talka-grid/talka/workunits"
)

// Limits of memberships.
const (
	memberTime  = 10 * time.Second // for an exchange of what is new
	memberLook  = time.Minute      // between two looks at whose membership has ended, at most
	memberFrame = membership.MaxProof + membership.MaxRemovals + 64
	// renewFirst and renewRarely are the times between attempts to reach the
	// issuer, the first and the longest.
	renewFirst  = time.Minute
	renewRarely = time.Hour
	// visitTime is how long somebody may stay for whom a member speaks: AutoNAT's
	// hosts dial, say one thing and are gone.
	visitTime = 30 * time.Second
	// maxPerInvite is how many nodes get certificates of their own by one invite.
	maxPerInvite = 64
	// issueEvery is the least time between two certificates of one node.
	issueEvery = time.Minute
)

// Private makes a host's network private. See package membership.
type Private struct {
	// State is the node's membership as it was saved last.
	State membership.State
	// Issuer is the network key, nil for members that do not issue.
	Issuer ed25519.PrivateKey
	// Valid is how long the certificates of an issuer are, 90 days if zero.
	Valid time.Duration
	// Save keeps the state when it has changed. It is called serially; what it
	// fails to keep does not count.
	Save func(membership.State) error
}

// club is the private network of a host: who has shown what. Nil in an open one.
type club struct {
	Private
	self workunits.NodeID
	key  ed25519.PrivateKey

	woken chan struct{} // has one when somebody is to be looked at
	news  chan struct{} // has one when all are to be told

	mu     sync.Mutex
	state  membership.State
	shown  map[peer.ID]shown
	behind map[peer.ID]bool // who has an older list of removals
}

// shown is what a peer has shown.
type shown struct {
	proof membership.Proof
	at    time.Time
}

func (p *Private) open(self workunits.NodeID, key ed25519.PrivateKey, name string) (*club, error) {
	if p == nil {
		return nil, nil
	}
	c := &club{
		Private: *p, self: self, key: key, state: p.State,
		woken: make(chan struct{}, 1), news: make(chan struct{}, 1), shown: map[peer.ID]shown{}, behind: map[peer.ID]bool{},
	}
	if c.Valid == 0 {
		c.Valid = 90 * 24 * time.Hour
	}
	switch {
	case p.State.Network != name:
		return nil, fmt.Errorf("the membership is of network %q, not of %q", p.State.Network, name)
	case p.State.Own.Node != self:
		return nil, fmt.Errorf("the membership is of node %s, not of this one, %s", p.State.Own.Node, self)
	case p.Issuer != nil && membership.KeyOf(p.Issuer) != p.State.Key:
		return nil, fmt.Errorf("the network key is not that of network %q", name)
	}
	return c, nil
}

// change does f to the state and keeps it, unless f says that nothing changed.
func (c *club) change(f func(s *membership.State) (bool, error)) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.state
	changed, err := f(&s)
	if err != nil || !changed {
		return false, err
	}
	if c.Save != nil {
		if err := c.Save(s); err != nil {
			return false, fmt.Errorf("keep the membership: %w", err)
		}
	}
	c.state = s
	return true, nil
}

func (c *club) now() membership.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// hello is what this node says first. AutoNAT's hosts have identities of their
// own; the node speaks for them.
func (c *club) hello(local peer.ID) (membership.Hello, membership.Key, error) {
	s := c.now()
	own := s.Own
	if id, ok := nodeID(local); !ok {
		return membership.Hello{}, s.Key, errors.New("the connection's own identity is no node's")
	} else if id != c.self {
		if own.Cert.Invite {
			return membership.Hello{}, s.Key, errors.New("who came by an invite speaks for nobody else")
		}
		own = own.Cert.For(c.key, id)
	}
	return membership.Hello{Version: 1, Proof: own, Removals: s.Removals.Number}, s.Key, nil
}

// admit takes a peer's hello and notes what it has shown.
func (c *club) admit(p peer.ID, h membership.Hello) error {
	if err := c.takes(p, h.Proof); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.Removals < c.state.Removals.Number {
		c.behind[p] = true
	}
	return nil
}

// takes checks a peer's proof, and notes it.
func (c *club) takes(p peer.ID, proof membership.Proof) error {
	now := time.Now()
	id, ok := nodeID(p)
	if !ok {
		return membership.ErrNoMember
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.state.Check(proof, id, now); err != nil {
		return err
	}
	if old, known := c.shown[p]; known && old.proof.Cert.Until > proof.Cert.Until && c.state.Stands(old.proof, now) == nil {
		proof = old.proof
	}
	c.shown[p] = shown{proof, now}
	wake(c.woken)
	return nil
}

// visits reports whether a member speaks for the peer, which is none itself.
func (s shown) visits() bool { return s.proof.Node != s.proof.Cert.Subject && !s.proof.Cert.Invite }

// removed reports whether the peer is on the list of removals, and has shown nothing
// newer. There are none in an open network.
func (c *club) removed(p peer.ID) bool {
	if c == nil {
		return false
	}
	id, _ := nodeID(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	listed := slices.ContainsFunc(c.state.Removals.Nodes, func(r membership.Removed) bool { return r.Node == id })
	s, known := c.shown[p]
	return listed && (!known || c.state.Stands(s.proof, time.Now()) != nil)
}

// outstay returns the connected peers that may not stay any longer, and when the
// next one's time is over. Others that are gone are forgotten.
func (c *club) outstay(connected []peer.ID, now time.Time) (gone []peer.ID, next time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next = memberLook
	for _, p := range connected {
		s, known := c.shown[p]
		left := min(s.proof.Cert.Ends().Sub(now), memberLook)
		if s.visits() {
			left = min(left, s.at.Add(visitTime).Sub(now))
		}
		if !known || left <= 0 || c.state.Stands(s.proof, now) != nil {
			gone = append(gone, p)
			continue
		}
		next = min(next, left)
	}
	maps.DeleteFunc(c.shown, func(p peer.ID, s shown) bool { return now.Sub(s.at) > memberLook && !slices.Contains(connected, p) })
	maps.DeleteFunc(c.behind, func(p peer.ID, _ bool) bool { _, known := c.shown[p]; return !known })
	return gone, next
}

// keepMembers cuts off peers whose membership has ended, and keeps this node's own.
func (h *Host) keepMembers() {
	if h.club == nil {
		return
	}
	h.spawn(h.tellNews)
	wait, due := renewFirst, time.Now()
	for {
		next := h.cutOff()
		if now := time.Now(); !now.Before(due) {
			if h.renew(now) {
				wait = renewFirst
			}
			due = now.Add(jitter(wait))
			wait = min(2*wait, renewRarely)
		}
		select {
		case <-time.After(min(next, max(time.Until(due), time.Second))):
		case <-h.club.woken:
		case <-h.ctx.Done():
			return
		}
	}
}

// cutOff ends the connections of who may not stay any longer. It returns how long
// the others may, or a minute.
func (h *Host) cutOff() time.Duration {
	gone, next := h.club.outstay(h.base.Network().Peers(), time.Now())
	for _, p := range gone {
		h.log.Info("a peer is no member any longer", "peer", p)
		_ = h.base.Network().ClosePeer(p) // it is gone either way
	}
	return next
}

// renew gets the node a new certificate if it needs one. It reports false if that
// has failed.
func (h *Host) renew(now time.Time) bool {
	own := h.club.now().Own
	if !own.Due(now) {
		return true
	}
	if err := h.club.now().Stands(own, now); err != nil {
		h.log.Warn("this node is no member of its network; ask for an invite", "issuer", own.Cert.By, "error", err)
	}
	if h.club.Issuer != nil {
		renewed, err := h.club.change(func(s *membership.State) (bool, error) {
			err := s.RenewOwn(h.club.Issuer, now, h.club.Valid)
			return err == nil, err
		})
		if err != nil {
			h.log.Error("cannot renew the membership of this node", "error", err)
		}
		if renewed {
			wake(h.club.news)
		}
		return renewed
	}
	issuer, err := peerID(own.Cert.By)
	if err == nil {
		ctx, cancel := context.WithTimeout(h.ctx, dialTime)
		defer cancel()
		if err = h.connect(ctx, peer.AddrInfo{ID: issuer}); err == nil {
			err = h.show(ctx, issuer)
		}
	}
	if err != nil && h.ctx.Err() == nil {
		h.log.Debug("the issuer of this node's membership is not reached", "issuer", own.Cert.By, "until", own.Cert.Ends(), "error", err)
	}
	return !h.club.now().Own.Due(now)
}

// memberNews is both messages of an exchange: what the sender shows, or a new
// certificate for who is asking; and its list of removals.
type memberNews struct {
	Proof    []membership.Proof  `cbor:"proof"` // at most one
	Removals membership.Removals `cbor:"removals"`
}

func readNews(r io.Reader) (m memberNews, err error) {
	b, err := readFrame(r, memberFrame, nil)
	if err != nil {
		return m, err
	}
	if m, err = workunits.Decode[memberNews](b, memberFrame); err == nil && len(m.Proof) > 1 {
		err = errProtocol("%d proofs, at most one is allowed", len(m.Proof))
	}
	return m, err
}

// show tells a member what is new, and takes what it answers: a certificate if it
// is an issuer and one is due, and its removals if they are newer.
func (h *Host) show(ctx context.Context, p peer.ID) error {
	ctx, cancel := context.WithTimeout(ctx, memberTime)
	defer cancel()
	s, err := h.base.NewStream(network.WithNoDial(network.WithAllowLimitedConn(ctx, "talka"), "talka"), p, h.protocol("member"))
	if err != nil {
		return err
	}
	defer func() { _ = s.Reset() }() // all is read, or has failed
	defer context.AfterFunc(ctx, func() { _ = s.Reset() })()
	own := h.club.now()
	if err := writeFrame(s, workunits.Encode(memberNews{[]membership.Proof{own.Own}, own.Removals}), memberFrame); err != nil {
		return err
	}
	answer, err := readNews(s)
	if err != nil {
		return err
	}
	h.club.mu.Lock()
	delete(h.club.behind, p)
	h.club.mu.Unlock()
	for _, proof := range answer.Proof {
		renewed, err := h.club.change(func(s *membership.State) (bool, error) { return s.Renewed(proof.Cert, time.Now()) })
		if err != nil {
			return err
		}
		if renewed {
			h.log.Info("this node's membership was renewed", "until", proof.Cert.Ends())
			wake(h.club.news)
		}
	}
	return h.takeRemovals(answer.Removals)
}

// hear is the other end of show.
func (h *Host) hear(p peer.ID, s network.Stream) {
	err := h.hearOn(p, s)
	if err != nil {
		h.log.Debug("news of a membership failed", "peer", p, "error", err)
		_ = s.Reset()
		return
	}
	_ = s.Close() // all is read
}

func (h *Host) hearOn(p peer.ID, s network.Stream) error {
	if err := s.SetDeadline(time.Now().Add(memberTime)); err != nil {
		return err
	}
	news, err := readNews(s)
	if err != nil {
		return err
	}
	if err := h.takeRemovals(news.Removals); err != nil {
		return err
	}
	answer := memberNews{Proof: []membership.Proof{}}
	for _, proof := range news.Proof {
		if err := h.club.takes(p, proof); err != nil {
			return err
		}
		c, renewed, err := h.club.renewal(proof, time.Now())
		if err != nil {
			return err
		}
		if renewed {
			h.log.Info("renewed a membership", "peer", p, "until", c.Ends())
			answer.Proof = append(answer.Proof, membership.Proof{Cert: c, Node: proof.Node})
		}
	}
	answer.Removals = h.club.now().Removals
	return writeFrame(s, workunits.Encode(answer), memberFrame)
}

// renewal issues a member a new certificate, if this node is an issuer and one is
// due.
func (c *club) renewal(p membership.Proof, now time.Time) (cert membership.Certificate, renewed bool, err error) {
	if c.Issuer == nil || p.Node == c.self {
		return cert, false, nil
	}
	renewed, err = c.change(func(s *membership.State) (done bool, err error) {
		came := 0
		for _, i := range s.Issued {
			if i.Subject == p.Node && now.Sub(time.UnixMilli(int64(i.At))) < issueEvery {
				return false, nil
			}
			if p.Cert.Invite && i.Via == p.Cert.Subject {
				came++
			}
		}
		if came >= maxPerInvite {
			return false, fmt.Errorf("%d nodes came by one invite already", came)
		}
		cert, done, err = s.Renew(c.Issuer, c.self, p, now, c.Valid)
		return done, err
	})
	return cert, renewed, err
}

// takeRemovals takes a list, cuts off whom it names and passes it on, if it is
// newer than the one that is known.
func (h *Host) takeRemovals(r membership.Removals) error {
	news, err := h.club.change(func(s *membership.State) (bool, error) { return s.Take(r) })
	if news {
		wake(h.club.woken)
		wake(h.club.news)
	}
	return err
}

// tellNews shows all peers what is new.
func (h *Host) tellNews() {
	for {
		select {
		case <-h.club.news:
		case <-h.ctx.Done():
			return
		}
		var group sync.WaitGroup
		for _, p := range h.members() {
			group.Go(func() {
				if err := h.show(h.ctx, p); err != nil && h.ctx.Err() == nil {
					h.log.Debug("showing a membership failed", "peer", p, "error", err)
				}
			})
		}
		group.Wait()
	}
}

// showSoon is called for a peer that was met: one that lacks a removal is told of
// it, an issuer is asked if a certificate is due.
func (h *Host) showSoon(p peer.ID) {
	if h.club == nil {
		return
	}
	id, _ := nodeID(p)
	h.club.mu.Lock()
	own := h.club.state.Own
	want := h.club.behind[p] || own.Cert.By == id && own.Due(time.Now())
	h.club.mu.Unlock()
	if !want {
		return
	}
	h.spawn(func() {
		if err := h.show(h.ctx, p); err != nil && h.ctx.Err() == nil {
			h.log.Debug("showing a membership failed", "peer", p, "error", err)
		}
	})
}

// ErrIssuer means that only a node with the network key can do what was asked.
var ErrIssuer = errors.New("this node does not issue memberships")

// Membership is the node's place in a private network; false in an open one.
func (h *Host) Membership() (s membership.State, private bool) {
	if h.club == nil {
		return s, false
	}
	return h.club.now(), true
}

// Remove takes back the membership of a node and all invites that are out, and cuts
// the node off. Other members do so as they hear of it, at once. The error wraps ErrIssuer if this node has
// no network key.
func (h *Host) Remove(id workunits.NodeID) error {
	if h.club == nil || h.club.Issuer == nil {
		return fmt.Errorf("remove %s: %w", id, ErrIssuer)
	}
	_, err := h.club.change(func(s *membership.State) (bool, error) {
		err := s.Remove(h.club.Issuer, id, time.Now())
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	h.cutOff()
	wake(h.club.news)
	return nil
}

// pass makes what an invite carries: for a node, or for whoever has it if that is
// zero.
func (c *club) pass(to workunits.NodeID, valid time.Duration) (*membership.Pass, error) {
	if c.Issuer == nil {
		return nil, fmt.Errorf("%w: %s does", ErrIssuer, c.now().Own.Cert.By)
	}
	p := &membership.Pass{Key: c.now().Key}
	cert := membership.Certificate{Subject: to, By: c.self}
	if to.IsZero() {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		cert.Subject, cert.Invite, p.Secret = workunits.NodeIDOf(key), true, key.Seed()
	}
	_, err := c.change(func(s *membership.State) (_ bool, err error) {
		p.Cert, err = s.Issue(c.Issuer, cert, workunits.NodeID{}, time.Now(), valid)
		return err == nil, err
	})
	return p, err
}

// readmit takes the pass of an invite to the network that the node is in already.
func (c *club) readmit(p membership.Pass) error {
	now := time.Now()
	changed, err := c.change(func(s *membership.State) (bool, error) {
		fresh, err := p.Admit(c.self, now)
		switch {
		case err != nil:
			return false, err
		case fresh.Key != s.Key:
			return false, fmt.Errorf("the invite is for another network of the same name: %w", ErrNetwork)
		case s.Stands(fresh.Own, now) != nil:
			return false, s.Stands(fresh.Own, now)
		case s.Own.Cert.Issued >= fresh.Own.Cert.Issued && s.Stands(s.Own, now) == nil:
			return false, nil
		}
		s.Own = fresh.Own
		return true, nil
	})
	if changed {
		wake(c.news)
	}
	return err
}
