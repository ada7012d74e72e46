package p2p

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/talka-grid/talka/p2p/membership"
	"github.com/talka-grid/talka/workunits"
)

// Limits of an invite.
const (
	MaxInvitePeers = 8
	maxInviteAddrs = 8       // of one peer
	maxInviteBytes = 4 << 10 // decoded
	inviteEntries  = 3       // peers that an invite of this node names
	inviteValid    = 24 * time.Hour
)

// ErrInvite is wrapped by every error about the text of an invite.
var ErrInvite = errors.New("unusable invite")

// Invite names a network and peers by which to find it, signed by the node that
// gave it out. Its text form is "talka1" and the base32 of a dag-cbor record.
type Invite struct {
	Network string
	By      workunits.NodeID // who signed it
	Peers   []Peer           // 1 to MaxInvitePeers
	Expires time.Time        // zero for never; whole seconds
	Pass    *membership.Pass // into a private network; nil for an open one
}

const (
	invitePrefix = "talka1"
	inviteDomain = "talka/1 invite\x00"
)

// inviteRecord is what an invite's text encodes. Addresses are binary
// multiaddrs, which are half as long as their text.
type inviteRecord struct {
	Network string           `cbor:"net"`
	By      workunits.NodeID `cbor:"by"`
	Peers   []invitePeer     `cbor:"peers"`
	Expires uint64           `cbor:"expires"` // seconds since 1970, 0 for never
	Pass    *membership.Pass `cbor:"pass,omitempty"`
	Sig     []byte           `cbor:"sig"`
}

type invitePeer struct {
	_     struct{} `cbor:",toarray"`
	ID    workunits.NodeID
	Addrs [][]byte
}

func inviteText() *base32.Encoding {
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
}

// signed are the bytes that the signature covers.
func (r inviteRecord) signed() []byte {
	r.Sig = nil
	d := workunits.Sum(workunits.Encode(r))
	return append([]byte(inviteDomain), d[:]...)
}

// sign returns the text of the record, signed.
func (r inviteRecord) sign(key ed25519.PrivateKey) string {
	r.Sig = ed25519.Sign(key, r.signed())
	return invitePrefix + inviteText().EncodeToString(workunits.Encode(r))
}

// name is the network's name for people.
func (i Invite) name() string {
	if i.Pass != nil {
		return fmt.Sprintf("the private network %q", i.Network)
	}
	return fmt.Sprintf("network %q", i.Network)
}

// Sign returns the text of the invite, signed with key; By is set from it.
func (i Invite) Sign(key ed25519.PrivateKey) (string, error) {
	r := inviteRecord{Network: i.Network, By: workunits.NodeIDOf(key), Pass: i.Pass}
	if !i.Expires.IsZero() {
		r.Expires = uint64(max(i.Expires.Unix(), 1))
	}
	for _, p := range i.Peers {
		info, err := p.info()
		if err != nil {
			return "", fmt.Errorf("invite: %w", err)
		}
		entry := invitePeer{ID: p.ID, Addrs: [][]byte{}}
		for _, a := range best(info.Addrs, maxInviteAddrs) {
			entry.Addrs = append(entry.Addrs, a.Bytes())
		}
		r.Peers = append(r.Peers, entry)
	}
	text := r.sign(key)
	if _, err := ParseInvite(text); err != nil {
		return "", err
	}
	return text, nil
}

// ParseInvite reads and checks the text of an invite, with any space around it
// and in either case. Whether it has expired is for the caller, who knows the
// time. The error wraps ErrInvite and says what is wrong.
func ParseInvite(text string) (Invite, error) {
	text = strings.ToLower(strings.TrimSpace(text))
	body, ok := strings.CutPrefix(text, invitePrefix)
	switch {
	case !ok && strings.HasPrefix(text, "talka"):
		return Invite{}, fmt.Errorf("%w: it was made by another version of Talka; this one reads invites that begin with %q", ErrInvite, invitePrefix)
	case !ok:
		return Invite{}, fmt.Errorf("%w: an invite begins with %q", ErrInvite, invitePrefix)
	case inviteText().DecodedLen(len(body)) > maxInviteBytes:
		return Invite{}, fmt.Errorf("%w: %d characters are too many", ErrInvite, len(text))
	}
	b, err := inviteText().DecodeString(body)
	if err != nil || inviteText().EncodeToString(b) != body {
		return Invite{}, fmt.Errorf("%w: it is damaged or incomplete; copy it again", ErrInvite)
	}
	r, err := workunits.Decode[inviteRecord](b, maxInviteBytes)
	if err != nil {
		return Invite{}, fmt.Errorf("%w: it is damaged or incomplete; copy it again: %w", ErrInvite, err)
	}
	if len(r.Sig) != ed25519.SignatureSize || !ed25519.Verify(r.By[:], r.signed(), r.Sig) {
		return Invite{}, fmt.Errorf("%w: its signature is wrong; copy it again, or ask for a new one", ErrInvite)
	}
	i, err := r.invite()
	if err != nil {
		return Invite{}, fmt.Errorf("%w: %w", ErrInvite, err)
	}
	return i, nil
}

func (r inviteRecord) invite() (Invite, error) {
	i := Invite{Network: r.Network, By: r.By, Pass: r.Pass}
	if err := workunits.ValidName(r.Network); err != nil {
		return i, fmt.Errorf("network: %w", err)
	}
	if len(r.Peers) == 0 || len(r.Peers) > MaxInvitePeers {
		return i, fmt.Errorf("it names %d peers, want 1 to %d", len(r.Peers), MaxInvitePeers)
	}
	if r.Expires > 1<<40 {
		return i, fmt.Errorf("it expires at second %d, beyond all reason", r.Expires)
	}
	if r.Pass != nil {
		if err := r.Pass.Check(r.Network); err != nil {
			return i, err
		}
	}
	if r.Expires > 0 {
		i.Expires = time.Unix(int64(r.Expires), 0).UTC()
	}
	for _, entry := range r.Peers {
		id, err := peerID(entry.ID)
		if err != nil {
			return i, err
		}
		if len(entry.Addrs) == 0 || len(entry.Addrs) > maxInviteAddrs {
			return i, fmt.Errorf("it names %d addresses of %s, want 1 to %d", len(entry.Addrs), entry.ID, maxInviteAddrs)
		}
		p := Peer{ID: entry.ID}
		for _, b := range entry.Addrs {
			a, err := ma.NewMultiaddrBytes(b)
			if err == nil {
				_, err = parseAddr(a.String(), id)
			}
			if err != nil {
				return i, fmt.Errorf("an address of %s is malformed", entry.ID)
			}
			p.Addrs = append(p.Addrs, a.String())
		}
		i.Peers = append(i.Peers, p)
	}
	return i, nil
}

// Invite returns the text by which others join the network through this node and
// up to two others, for the given time, rounded down to seconds. Zero is for ever in
// an open network and a day in a private one, where an invite makes members: only
// who has the network key can make one (else the error wraps ErrIssuer), for one
// node or for whoever has the text if that is zero.
func (h *Host) Invite(valid time.Duration, to workunits.NodeID) (string, error) {
	if h.club == nil && !to.IsZero() {
		return "", fmt.Errorf("invite: network %q is open: an invite lets in whoever has it", h.cfg.Network)
	}
	i := Invite{Network: h.cfg.Network, Peers: h.entries()}
	if len(i.Peers) == 0 {
		return "", errors.New("invite: this node has no address at which it could be reached")
	}
	if h.club != nil {
		valid = cmp.Or(valid, inviteValid)
		var err error
		if i.Pass, err = h.club.pass(to, valid); err != nil {
			return "", fmt.Errorf("invite: %w", err)
		}
	}
	if valid != 0 {
		i.Expires = time.Now().Add(valid)
	}
	return i.Sign(h.cfg.Key)
}

// entries are the peers that an invite names: this node, and members with public
// addresses that this node has dialled.
func (h *Host) entries() (all []Peer) {
	if me := peerOf(h.self, best(h.base.Addrs(), maxInviteAddrs)); len(me.Addrs) > 0 {
		all = append(all, me)
	}
	have := h.members()
	shuffle(have)
	for _, p := range have {
		if id, ok := nodeID(p); ok && len(all) > 0 && len(all) < inviteEntries {
			for _, c := range h.base.Network().ConnsToPeer(p) {
				if c.Stat().Direction == network.DirOutbound && !c.Stat().Limited && manet.IsPublicAddr(c.RemoteMultiaddr()) {
					all = append(all, peerOf(id, []ma.Multiaddr{c.RemoteMultiaddr()}))
					break
				}
			}
		}
	}
	return all
}

// Join connects to the peers of an invite; one of them suffices. It wraps
// ErrInvite for an unusable text, ErrNetwork for an invite of another network,
// and ErrUnreachable if none of the peers answers.
func (h *Host) Join(ctx context.Context, text string) error {
	i, err := ParseInvite(text)
	if err != nil {
		return err
	}
	if private := h.club != nil; i.Network != h.cfg.Network || private != (i.Pass != nil) {
		return fmt.Errorf("the invite is for %s, this node is in %q: %w", i.name(), h.cfg.Network, ErrNetwork)
	}
	if !i.Expires.IsZero() && time.Now().After(i.Expires) {
		return fmt.Errorf("%w: it expired at %s; ask %s for a new one", ErrInvite, i.Expires.Format(time.RFC3339), i.By)
	}
	if i.Pass != nil {
		if err := h.club.readmit(*i.Pass); err != nil {
			return fmt.Errorf("%w: %w", ErrInvite, err)
		}
	}
	var infos []peer.AddrInfo
	for _, p := range i.Peers {
		info, err := p.info()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrInvite, err)
		}
		if info.ID != h.base.ID() {
			infos = append(infos, info)
		}
	}
	if len(infos) == 0 {
		return nil // our own invite: we are there already
	}
	if err = h.connectAny(ctx, infos); i.Pass == nil {
		return err
	}
	for begun, wait := time.Now(), rejoinFirst; err != nil && ctx.Err() == nil && time.Since(begun) < rejoinTime; wait *= 2 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		err = h.connectAny(ctx, infos)
	}
	return err
}

// An attempt with an older membership may have been under way when a pass was taken.
// All that join it get its error, and so do those who come before the last of them has
// seen it.
const (
	rejoinFirst = 20 * time.Millisecond // until the next attempt, then twice that, and so on
	rejoinTime  = 2 * time.Second       // after which no attempt begins
)

// connectAny connects to all, and succeeds with the first that it reaches. Somebody
// has asked for it, so that it does not matter what was in vain a moment ago.
func (h *Host) connectAny(ctx context.Context, infos []peer.AddrInfo) error {
	results := make(chan error, len(infos))
	for _, info := range infos {
		if s, ok := h.base.Network().(*swarm.Swarm); ok {
			s.Backoff().Clear(info.ID)
		}
		h.spawn(func() {
			ctx, cancel := context.WithTimeout(h.ctx, dialTime)
			defer cancel()
			results <- h.connect(ctx, info)
		})
	}
	var errs []error
	for range infos {
		select {
		case err := <-results:
			if err == nil {
				return nil
			}
			errs = append(errs, err)
		case <-ctx.Done():
			return fmt.Errorf("join: %w: %w", ErrUnreachable, ctx.Err())
		case <-h.ctx.Done():
			return fmt.Errorf("join: %w", ErrClosed)
		}
	}
	return errors.Join(errs...)
}
