package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/talka-grid/talka/workunits"
)

// Limits of the catalogue protocol.
const (
	maxCatalogue    = 1024      // announcements that are compared at a time
	maxTransfer     = 256 << 10 // bytes of announcements that travel at a time, each way
	maxEntries      = 512       // announcements that travel at a time, each way
	catalogueTime   = 15 * time.Second
	catalogueFrame  = maxTransfer + maxEntries*8 + maxCatalogue*(len(short{})+1) + 64
	cataloguePullsN = 2 // pulls at a time
)

// Catalogue owns the live announcements. Its methods are called on several
// goroutines.
type Catalogue interface {
	// Live returns the announcements to pass on, each of 1 to
	// workunits.MaxAnnouncement bytes. The host does not change them.
	Live() [][]byte
	// Learn takes an announcement from a peer that may be anything at all. An
	// error means that it is not worth keeping; the host drops it.
	Learn(data []byte) error
}

// SetCatalogue sets the owner of the announcements. Without one the host serves
// none and learns none. Call before Run.
func (h *Host) SetCatalogue(c Catalogue) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.handlers.catalogue = c
}

// short names an announcement within one exchange.
type short [16]byte

func shortOf(data []byte) (s short) {
	d := workunits.Sum(data)
	copy(s[:], d[:])
	return s
}

// The three messages of an exchange, in order: the opener tells what it has,
// the other answers with what the opener lacks and what it wants itself, and
// gets that.
type (
	catalogueHave struct {
		Have []short `cbor:"have"`
	}
	catalogueReply struct {
		Live [][]byte `cbor:"live"`
		Want []short  `cbor:"want"`
	}
	catalogueRest struct {
		Live [][]byte `cbor:"live"`
	}
)

func (m catalogueHave) check() error {
	if len(m.Have) > maxCatalogue {
		return errProtocol("%d entries, at most %d are allowed", len(m.Have), maxCatalogue)
	}
	return nil
}

func (m catalogueReply) check() error {
	return errors.Join(catalogueHave{m.Want}.check(), catalogueRest{m.Live}.check())
}

func (m catalogueRest) check() error {
	if len(m.Live) > maxEntries {
		return errProtocol("%d announcements, at most %d are allowed", len(m.Live), maxEntries)
	}
	for _, data := range m.Live {
		if len(data) == 0 || len(data) > workunits.MaxAnnouncement {
			return errProtocol("announcement of %d bytes, want 1 to %d", len(data), workunits.MaxAnnouncement)
		}
	}
	return nil
}

// readCatalogue reads and checks one message of an exchange.
func readCatalogue[M interface{ check() error }](r io.Reader) (m M, err error) {
	b, err := readFrame(r, catalogueFrame, nil)
	if err != nil {
		return m, err
	}
	if m, err = workunits.Decode[M](b, catalogueFrame); err != nil {
		return m, err
	}
	return m, m.check()
}

func writeCatalogue(w io.Writer, m any) error {
	return writeFrame(w, workunits.Encode(m), catalogueFrame)
}

// shelf is a catalogue as it stood when an exchange began: at most maxCatalogue
// announcements, chosen at random, so that all get their turn in time.
type shelf struct {
	names []short
	data  map[short][]byte
}

func shelfOf(c Catalogue) shelf {
	live := slices.Clone(c.Live())
	shuffle(live)
	s := shelf{data: make(map[short][]byte, len(live))}
	for _, data := range live {
		if len(data) == 0 || len(data) > workunits.MaxAnnouncement || len(s.names) == maxCatalogue {
			continue
		}
		name := shortOf(data)
		if s.data[name] == nil {
			s.names = append(s.names, name)
			s.data[name] = data
		}
	}
	return s
}

// take returns the named announcements as far as they fit into a message.
func (s shelf) take(names []short) (all [][]byte) {
	size := 0
	for _, name := range names {
		data := s.data[name]
		if data == nil || size+len(data) > maxTransfer || len(all) == maxEntries {
			continue
		}
		size += len(data)
		all = append(all, data)
	}
	return all
}

// without returns the names that are not in the set.
func without(names []short, set map[short]bool) (rest []short) {
	for _, n := range names {
		if !set[n] {
			rest = append(rest, n)
		}
	}
	return rest
}

func setOf(names []short) map[short]bool {
	set := make(map[short]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set
}

// learn gives announcements to the owner.
func (h *Host) learn(c Catalogue, from peer.ID, all [][]byte) {
	for _, data := range all {
		if err := c.Learn(data); err != nil {
			h.log.Debug("announcement dropped", "peer", from, "error", err)
		}
	}
}

// exchange compares catalogues with a peer. Either side may lack a part
// afterwards if there is more than one exchange may carry; the next one goes on.
func (h *Host) exchange(ctx context.Context, p peer.ID) error {
	c := h.registered().catalogue
	if c == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, catalogueTime)
	defer cancel()
	s, err := h.base.NewStream(network.WithNoDial(network.WithAllowLimitedConn(ctx, "talka"), "talka"), p, h.protocol("catalogue"))
	if err != nil {
		return err
	}
	defer func() { _ = s.Reset() }() // all is read, or has failed
	defer context.AfterFunc(ctx, func() { _ = s.Reset() })()
	mine := shelfOf(c)
	if err := writeCatalogue(s, catalogueHave{mine.names}); err != nil {
		return err
	}
	reply, err := readCatalogue[catalogueReply](s)
	if err != nil {
		return err
	}
	h.learn(c, p, reply.Live)
	if err := writeCatalogue(s, catalogueRest{mine.take(reply.Want)}); err != nil {
		return err
	}
	if err := s.CloseWrite(); err != nil {
		return err
	}
	// The other end closes when it has read everything.
	if n, err := s.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
		return fmt.Errorf("no end: %w", err)
	}
	return nil
}

// answer is the other end of exchange.
func (h *Host) answer(p peer.ID, s network.Stream) {
	err := h.answerOn(p, s)
	if err != nil {
		h.log.Debug("catalogue exchange failed", "peer", p, "error", err)
		_ = s.Reset()
		return
	}
	_ = s.Close() // all is read
}

func (h *Host) answerOn(p peer.ID, s network.Stream) error {
	c := h.registered().catalogue
	if c == nil {
		return errors.New("no catalogue")
	}
	if err := s.SetDeadline(time.Now().Add(catalogueTime)); err != nil {
		return err
	}
	if err := s.Scope().ReserveMemory(2*catalogueFrame, network.ReservationPriorityMedium); err != nil {
		return err
	}
	defer s.Scope().ReleaseMemory(2 * catalogueFrame)
	theirs, err := readCatalogue[catalogueHave](s)
	if err != nil {
		return err
	}
	mine := shelfOf(c)
	have := setOf(mine.names)
	reply := catalogueReply{
		Live: mine.take(without(mine.names, setOf(theirs.Have))),
		Want: without(theirs.Have, have),
	}
	if err := writeCatalogue(s, reply); err != nil {
		return err
	}
	rest, err := readCatalogue[catalogueRest](s)
	if err != nil {
		return err
	}
	h.learn(c, p, rest.Live)
	return nil
}

// pullSoon asks for an exchange with the peer. If too many wait already, the
// periodic ones make up for it.
func (h *Host) pullSoon(p peer.ID) {
	select {
	case h.pulls <- p:
	default:
	}
}

// pullCatalogues exchanges with peers that connect, and with a random one
// every period.
func (h *Host) pullCatalogues() {
	if h.cfg.NoCatalogue {
		return
	}
	for range cataloguePullsN {
		h.spawn(func() {
			for {
				select {
				case p := <-h.pulls:
					if err := h.exchange(h.ctx, p); err != nil && h.ctx.Err() == nil {
						h.log.Debug("catalogue exchange failed", "peer", p, "error", err)
					}
				case <-h.ctx.Done():
					return
				}
			}
		})
	}
	for {
		select {
		case <-time.After(jitter(h.cfg.CataloguePeriod)):
			if all := h.members(); len(all) > 0 {
				shuffle(all)
				h.pullSoon(all[0])
			}
		case <-h.ctx.Done():
			return
		}
	}
}

// jitter is d, give or take a fifth, so that nodes do not act in step.
func jitter(d time.Duration) time.Duration {
	return d - d/5 + rand.N(2*d/5+1) //nolint:gosec // nothing is won by guessing it
}

// shuffle puts a slice in random order.
func shuffle[T any](s []T) {
	//nolint:gosec // the generator is seeded by the system, and the order decides nothing that is trusted
	rand.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
}
