package ledger

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/talka-grid/talka/workunits"
)

// ErrChanged is wrapped by Err where a place gives other bytes than were stored.
var ErrChanged = errors.New("not the segment that was stored")

// mark is a segment's SHA-256 digest. It never leaves this node, so it need not be
// BLAKE3, which takes some three times as long for texts of a segment's size.
type mark [sha256.Size]byte

// ReadWith makes it possible to leave to where they are stored the bytes of segments:
// read gives them back by their place, any number but 0. The ledger calls it on its own
// goroutine, and keeps nothing of what it returns. ReadWith is called before anything
// is added.
//
// Once read has failed, see Err, the ledger holds less than it did: lists of segments
// end where one cannot be read, walks are cut short and report it, and Add does not
// take what proves a fork. Nothing that is concluded from it is to be relied on.
func (l *Ledger) ReadWith(read func(place uint64) ([]byte, error)) { l.read = read }

// Err tells why a segment could not be read, nil while all could be. It stays.
func (l *Ledger) Err() error { return l.err }

// Stored tells where a segment is from now on. It does nothing if that is known or if
// the segment is in no log, such as one that is but in the proof of a fork.
func (l *Ledger) Stored(raw []byte, place uint64) {
	author, end, err := workunits.ReadEnd(raw)
	g := l.logs[author]
	if err != nil || g == nil {
		return
	}
	i, found := g.endingAt(end)
	if found && g.segments[i].place == 0 && bytes.Equal(g.segments[i].raw, raw) {
		l.stored(g, i, place)
	}
}

// Restore is Load for a segment that is stored in a place, or in none if that is 0.
func (l *Ledger) Restore(raw []byte, place uint64) error {
	entries, err := l.Load(raw)
	if len(entries) > 0 {
		g := l.logs[entries[0].Author]
		l.stored(g, len(g.segments)-1, place)
	}
	return err
}

// recent is a stored segment of which the bytes are in memory all the same.
type recent struct {
	log  *log
	end  uint64
	size int
}

func (l *Ledger) stored(g *log, i int, place uint64) {
	if s := &g.segments[i]; l.read != nil && place > 0 {
		s.place, s.mark = place, sha256.Sum256(s.raw)
		l.recent = append(l.recent, recent{g, s.end, len(s.raw)})
		l.recentBytes += len(s.raw)
	}
}

// Forget leaves the bytes of stored segments to their places, but for at most keep
// bytes of those that were stored last, which are likely to be asked for.
func (l *Ledger) Forget(keep int) {
	for l.recentBytes > keep {
		r := l.recent[0]
		l.recent, l.recentBytes = l.recent[1:], l.recentBytes-r.size
		if i, found := r.log.endingAt(r.end); found { // else it was cut off
			r.log.segments[i].raw = nil
		}
	}
}

// endingAt finds the segment that ends there.
func (g *log) endingAt(end uint64) (int, bool) {
	return slices.BinarySearchFunc(g.segments, end, func(s segment, end uint64) int { return cmp.Compare(s.end, end) })
}

// bytes is the segment, nil if it cannot be read.
func (l *Ledger) bytes(s *segment) []byte {
	if s.raw != nil || l.err != nil {
		return s.raw
	}
	raw, err := l.read(s.place)
	if err == nil && sha256.Sum256(raw) != s.mark {
		err = ErrChanged
	}
	if err != nil {
		l.err = fmt.Errorf("segment %d: %w", s.place, err)
		return nil
	}
	return raw
}
