package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/talka-grid/talka/workunits"
)

// outlineMagic begins an outline; the number is its version.
const outlineMagic = "talka outline 1\n"

// ErrOutline is wrapped by what Recall finds wrong with an outline.
var ErrOutline = errors.New("not an outline of this ledger")

// Outline writes down what is known of the segments of all logs that were not cut,
// but for their bytes, so that a ledger can take them again without reading them, see
// Recall. It is nil if one of them is not stored.
//
// The format is a line that names it, the law version, network and job, then each
// log, authors ascending: the author, the number of segments, and for each of these
// its place, its mark, how many of its statements earlier ones hold, how many they do
// not, its kinds, and the chain hashes of the latter. Numbers are unsigned varints.
func (l *Ledger) Outline() []byte {
	b := l.outlineHead()
	size := 0
	for _, g := range l.logs {
		size += 64 + 48*len(g.segments) + len(workunits.Digest{})*len(g.hashes)
	}
	b = slices.Grow(b, size)
	for _, a := range l.Authors() {
		g := l.logs[a]
		if g.fork != nil {
			continue
		}
		b = append(b, a[:]...)
		b = binary.AppendUvarint(b, uint64(len(g.segments)))
		have := uint64(0)
		for i := range g.segments {
			s := &g.segments[i]
			if s.place == 0 {
				return nil
			}
			b = binary.AppendUvarint(b, s.place)
			b = append(b, s.mark[:]...)
			b = binary.AppendUvarint(b, have-s.seq)
			b = binary.AppendUvarint(b, s.end-have)
			b = binary.AppendUvarint(b, s.kinds)
			for ; have < s.end; have++ {
				b = append(b, g.hashes[have][:]...)
			}
		}
	}
	return b
}

// outlineHead has the law version in it, since another one may decode statements
// otherwise.
func (l *Ledger) outlineHead() []byte {
	b := binary.AppendUvarint([]byte(outlineMagic), workunits.LawVersion)
	b = binary.AppendUvarint(b, uint64(len(l.network)))
	return append(append(b, l.network...), l.job[:]...)
}

// Recall takes the segments that an outline tells of into a ledger that is empty and
// has ReadWith, and returns their places, ascending. It checks the form of the
// outline, not what it says: who stores one sees to it that it is whole, and that the
// segments are still in their places. After an error the ledger is empty.
func (l *Ledger) Recall(outline []byte) (places []uint64, err error) {
	rest, ok := bytes.CutPrefix(outline, l.outlineHead())
	if !ok || len(l.logs) > 0 {
		return nil, fmt.Errorf("%w: it is of another job, or another version of Talka wrote it", ErrOutline)
	}
	c := cursor{b: rest}
	logs := map[workunits.NodeID]*log{}
	for last := (workunits.NodeID{}); len(c.b) > 0; {
		author, g := c.log()
		if c.bad || len(logs) == MaxAuthors || len(logs) > 0 && author.Compare(last) <= 0 {
			return nil, fmt.Errorf("%w: log %d is damaged", ErrOutline, len(logs))
		}
		logs[author], last = g, author
		for _, s := range g.segments {
			places = append(places, s.place)
		}
	}
	slices.Sort(places)
	for i := range places {
		if i > 0 && places[i] == places[i-1] {
			return nil, fmt.Errorf("%w: two segments in place %d", ErrOutline, places[i])
		}
	}
	l.logs = logs
	return places, nil
}

// cursor reads an outline; bad says that it could not.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) fail() {
	c.b, c.bad = nil, true
}

func (c *cursor) take(n uint64) []byte {
	if n > uint64(len(c.b)) {
		c.fail()
		return nil
	}
	b := c.b[:n]
	c.b = c.b[n:]
	return b
}

// uvarint takes a number in its shortest form.
func (c *cursor) uvarint() uint64 {
	x, n := binary.Uvarint(c.b)
	if n <= 0 || n > 1 && c.b[n-1] == 0 {
		c.fail()
		return 0
	}
	c.b = c.b[n:]
	return x
}

func (c *cursor) log() (author workunits.NodeID, g *log) {
	copy(author[:], c.take(uint64(len(author))))
	n := c.uvarint()
	if n == 0 || n > uint64(len(c.b)/len(mark{})) {
		c.fail()
		return author, nil
	}
	g = &log{segments: make([]segment, 0, n), hashes: make([]workunits.Digest, 0, n)}
	for ; n > 0 && !c.bad; n-- {
		c.segment(g)
	}
	return author, g
}

// segment takes the next segment of a log.
func (c *cursor) segment(g *log) {
	s, have := segment{place: c.uvarint()}, uint64(len(g.hashes))
	copy(s.mark[:], c.take(uint64(len(s.mark))))
	again, fresh := c.uvarint(), c.uvarint()
	s.kinds = c.uvarint()
	if s.place == 0 || again > have || again >= workunits.MaxStatements || fresh == 0 || fresh > workunits.MaxStatements-again || have+fresh > MaxLog {
		c.fail()
		return
	}
	s.seq, s.end = have-again, have+fresh
	for d := range slices.Chunk(c.take(fresh*uint64(len(workunits.Digest{}))), len(workunits.Digest{})) {
		g.hashes = append(g.hashes, workunits.Digest(d))
	}
	g.segments = append(g.segments, s)
}
