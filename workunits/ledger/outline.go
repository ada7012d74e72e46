package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/talka-grid/talka/workunits"
)

// outlineMagic begins an outline; the number is its version.
const outlineMagic = "talka outline 1\n"

// ErrOutline is wrapped by what ParseOutline finds wrong.
var ErrOutline = errors.New("not an outline of a ledger")

// mark is a segment's SHA-256 digest. It never leaves this node, so it need not be
// BLAKE3, which takes some three times as long for texts of a segment's size.
type mark [sha256.Size]byte

// marked is the segment's mark, which is worked out once.
func (s *segment) marked() mark {
	if s.mark == (mark{}) {
		s.mark = sha256.Sum256(s.raw)
	}
	return s.mark
}

// Outline is what a ledger knew of its segments beside their bytes. Recall uses it
// up, so that it serves one ledger.
type Outline struct {
	network string
	job     workunits.JobID
	next    map[mark]*outlinedLog // by the segment that is to come next
	left    int                   // segments that were not recalled
}

type outlinedLog struct {
	author     workunits.NodeID
	segments   int
	statements uint64
	next       outlined
	rest       cursor // the segments after next
}

// outlined is one segment of an outline.
type outlined struct {
	mark   mark
	seq    uint64
	have   uint64 // statements of the log before it, some of which it may hold, too
	end    uint64
	kinds  uint64
	hashes []byte // from statement have on
}

// Outline writes down what is known of the segments of all logs that were not cut,
// so that a ledger can take the same segments again without decoding them, see
// Recall. Ledgers that hold the same segments have equal outlines.
//
// The format is a line that names it, the law version, network and job, then each
// log, authors ascending: the author, the number of segments, and for each of
// these its mark, how many of its statements earlier ones hold, how many they do
// not, its kinds, and the chain hashes of the latter. Numbers are unsigned varints.
func (l *Ledger) Outline() []byte {
	b := l.outlineHead()
	size := len(b)
	for _, g := range l.logs {
		size += 64 + 48*len(g.segments) + len(workunits.Digest{})*len(g.hashes)
	}
	b = slices.Grow(b, size-len(b))
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
			m := s.marked()
			b = append(b, m[:]...)
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

// ParseOutline takes an outline apart. It checks the form, not what it says of the
// segments: who stores an outline sees to it that it is whole. It keeps b, which is
// not to be changed until all is recalled.
func ParseOutline(b []byte) (*Outline, error) {
	c := cursor{b: b}
	if string(c.take(uint64(len(outlineMagic)))) != outlineMagic || c.uvarint() != workunits.LawVersion {
		return nil, fmt.Errorf("%w: it does not begin with %q and law version %d", ErrOutline, outlineMagic, workunits.LawVersion)
	}
	o := &Outline{network: string(c.take(c.uvarint())), next: map[mark]*outlinedLog{}}
	copy(o.job[:], c.take(uint64(len(o.job))))
	var last workunits.NodeID
	for n := 0; len(c.b) > 0 && !c.bad; n++ {
		g := c.log()
		switch {
		case c.bad:
		case n >= MaxAuthors:
			return nil, fmt.Errorf("%w: more than %d authors", ErrOutline, MaxAuthors)
		case n > 0 && g.author.Compare(last) <= 0:
			return nil, fmt.Errorf("%w: authors do not ascend", ErrOutline)
		}
		last = g.author
		o.left += g.segments
		g.expect(o)
	}
	if c.bad {
		return nil, fmt.Errorf("%w: %d bytes that are damaged or cut off", ErrOutline, len(b))
	}
	return o, nil
}

// expect has Recall look for the next segment of the log.
func (g *outlinedLog) expect(o *Outline) {
	if len(g.rest.b) > 0 {
		g.next = g.rest.segment(g.next.end)
		o.next[g.next.mark] = g
	}
}

// Recall appends a segment as it is if the outline knows it as the next of its log
// here. It reports whether it did; if not, Load takes the segment, or says what is
// wrong with it. The segment is kept and is not to be changed.
func (l *Ledger) Recall(o *Outline, raw []byte) bool {
	m := mark(sha256.Sum256(raw))
	x := o.next[m]
	if x == nil || o.job != l.job || o.network != l.network {
		return false
	}
	g := l.logs[x.author]
	if g == nil {
		if len(l.logs) >= MaxAuthors {
			return false
		}
		g = &log{segments: make([]segment, 0, x.segments), hashes: make([]workunits.Digest, 0, x.statements)}
	}
	s := x.next
	if g.fork != nil || uint64(len(g.hashes)) != s.have {
		return false // it took another segment meanwhile
	}
	l.logs[x.author] = g
	g.segments = append(g.segments, segment{seq: s.seq, end: s.end, raw: raw, kinds: s.kinds, mark: m})
	for h := range slices.Chunk(s.hashes, len(workunits.Digest{})) {
		g.hashes = append(g.hashes, workunits.Digest(h))
	}
	delete(o.next, m)
	o.left--
	x.expect(o)
	return true
}

// Complete reports whether every segment of the outline was recalled. If not, what
// it was stored with does not fit the ledger.
func (o *Outline) Complete() bool { return o.left == 0 }

// cursor reads an outline; bad says that it could not.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n uint64) []byte {
	if n > uint64(len(c.b)) {
		c.b, c.bad = nil, true
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
		c.b, c.bad = nil, true
		return 0
	}
	c.b = c.b[n:]
	return x
}

// log takes a log without keeping its segments, which are taken again one by one.
func (c *cursor) log() *outlinedLog {
	g := &outlinedLog{}
	copy(g.author[:], c.take(uint64(len(g.author))))
	n := c.uvarint()
	g.rest.b = c.b
	for ; n > 0 && !c.bad; n-- {
		g.statements = c.segment(g.statements).end
		g.segments++
	}
	c.bad = c.bad || g.segments == 0
	g.rest.b = g.rest.b[:len(g.rest.b)-len(c.b)]
	return g
}

// segment takes a segment of a log that has so many statements before it.
func (c *cursor) segment(have uint64) (s outlined) {
	copy(s.mark[:], c.take(uint64(len(s.mark))))
	again, fresh := c.uvarint(), c.uvarint()
	s.kinds = c.uvarint()
	if again > have || again >= workunits.MaxStatements || fresh == 0 || fresh > workunits.MaxStatements-again || have+fresh > MaxLog {
		c.b, c.bad = nil, true
		return outlined{}
	}
	s.seq, s.have, s.end = have-again, have, have+fresh
	s.hashes = c.take(fresh * uint64(len(workunits.Digest{})))
	return s
}
