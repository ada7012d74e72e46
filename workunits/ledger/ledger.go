// Package ledger keeps the grow-only set of signed statements about one job.
//
// A ledger is one hash-chained log for each author. Logs grow by whole signed
// segments in order; two ledgers merge by exchanging the segments that the
// other lacks, found by comparing the lengths and head hashes of their logs.
// Equal sets of segments give equal ledgers whatever the order of arrival.
//
// Two validly signed segments that disagree about a place prove that their
// author equivocated. Such a log ends before the first place known to be in
// dispute and takes nothing more. Heads tell which logs end so, so that whoever
// exchanges what they lack comes to agree on the place, too.
//
// The bytes of segments that are stored need not be in memory, see ReadWith.
//
// The package is pure; a Ledger belongs to one goroutine.
package ledger

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/talka-grid/talka/workunits"
)

// Limits on a ledger, so that no author can fill a node's memory.
const (
	MaxAuthors = workunits.MaxAuthors
	MaxLog     = 1 << 22 // statements of one author
)

// Errors of Add. A gap is cured by asking for what is missing.
var (
	ErrGap     = errors.New("segment does not continue its log")
	ErrForeign = errors.New("segment belongs to another job or network")
	ErrForked  = errors.New("the author equivocated")
	ErrFull    = errors.New("ledger is full")
)

// Entry is a statement in its place.
type Entry struct {
	workunits.Ref
	Hash workunits.Digest // chain hash
	workunits.Statement
	Body workunits.Body // nil if this version does not know the kind
}

// Fork proves that an author equivocated: At is the first place in dispute.
type Fork struct {
	Author workunits.NodeID
	At     uint64
	Proof  [2][]byte // encoded segments
}

type log struct {
	segments []segment
	hashes   []workunits.Digest
	fork     *Fork
}

type segment struct {
	seq, end uint64 // its first statement, and the one after its last; ends ascend in a log
	kinds    uint64 // bit k for statements of kind k
	raw      []byte // nil if it is left to its place
	place    uint64 // where it is stored, and its mark; zero before
	mark     mark
}

// Ledger is the set of statements about one job. Make it with New.
type Ledger struct {
	network string
	job     workunits.JobID
	logs    map[workunits.NodeID]*log
	parse   func(raw []byte) (workunits.Segment, error)
	read    func(place uint64) ([]byte, error) // nil: all stays in memory
	err     error                              // the first one of read

	recent      []recent // oldest first
	recentBytes int
}

// New returns the empty ledger of a job.
func New(network string, job workunits.JobID) *Ledger {
	return &Ledger{network: network, job: job, logs: map[workunits.NodeID]*log{}, parse: workunits.ParseSegment}
}

// ParseWith replaces workunits.ParseSegment, for who checks each signature once
// for many ledgers, or has another scheme in a simulation.
func (l *Ledger) ParseWith(parse func(raw []byte) (workunits.Segment, error)) { l.parse = parse }

// Parse decodes a segment and checks its shape and its signature, as Add does.
func (l *Ledger) Parse(raw []byte) (workunits.Segment, error) { return l.parse(raw) }

// Add checks a segment and appends it to its log. It returns the statements
// that are new, none if all were known. A *ForkError tells that the segment
// proves an equivocation; the log has then been cut.
func (l *Ledger) Add(raw []byte) ([]Entry, error) {
	s, err := l.parse(raw)
	if err != nil {
		return nil, err
	}
	return l.add(s, raw)
}

// Load is Add for segments that this node checked before it stored them: it
// does not check them again.
func (l *Ledger) Load(raw []byte) ([]Entry, error) {
	s, err := workunits.ReadChecked(raw)
	if err != nil {
		return nil, err
	}
	return l.add(s, raw)
}

// ForkError is returned by the Add that found a fork.
type ForkError struct{ Fork Fork }

func (e *ForkError) Error() string {
	return fmt.Sprintf("%s equivocated at statement %d", e.Fork.Author.Short(), e.Fork.At)
}

// Unwrap makes errors.Is(err, ErrForked) true.
func (e *ForkError) Unwrap() error { return ErrForked }

func (l *Ledger) add(s workunits.Segment, raw []byte) ([]Entry, error) {
	if s.Network != l.network || s.Job != l.job {
		return nil, ErrForeign
	}
	g := l.logs[s.Author]
	if g == nil {
		if len(l.logs) >= MaxAuthors {
			return nil, fmt.Errorf("%d authors: %w", len(l.logs), ErrFull)
		}
		g = &log{}
	}
	have := uint64(len(g.hashes))
	switch {
	case s.Seq > have && g.fork != nil:
		return nil, ErrForked
	case s.Seq > have:
		return nil, fmt.Errorf("log of %s ends at %d, segment begins at %d: %w", s.Author.Short(), have, s.Seq, ErrGap)
	case have+uint64(len(s.Statements)) > MaxLog:
		return nil, fmt.Errorf("log of %s: %w", s.Author.Short(), ErrFull)
	}
	hashes := s.Hashes()
	if s.Seq > 0 && s.Prev != g.hashes[s.Seq-1] {
		return nil, l.cut(g, s, raw, s.Seq-1)
	}
	for i, h := range hashes {
		if at := s.Seq + uint64(i); at < have && g.hashes[at] != h {
			return nil, l.cut(g, s, raw, at)
		}
	}
	if s.Seq+uint64(len(hashes)) <= have {
		return nil, nil
	}
	if g.fork != nil {
		return nil, ErrForked
	}
	entries, err := decode(s, hashes, int(have-s.Seq), allKinds)
	if err != nil {
		return nil, err
	}
	l.logs[s.Author] = g
	g.segments = append(g.segments, segment{seq: s.Seq, end: s.Seq + uint64(len(hashes)), raw: raw, kinds: kindsOf(s)})
	g.hashes = append(g.hashes, hashes[have-s.Seq:]...)
	return entries, nil
}

// decode reads the statements of a segment that are of some kinds.
func decode(s workunits.Segment, hashes []workunits.Digest, from int, kinds uint64) ([]Entry, error) {
	entries := make([]Entry, 0, len(hashes)-from)
	for i := from; i < len(hashes); i++ {
		if setOf(s.Statements[i].Kind)&kinds == 0 {
			continue
		}
		e := Entry{
			Ref:       workunits.Ref{Author: s.Author, Seq: s.Seq + uint64(i)},
			Hash:      hashes[i],
			Statement: s.Statements[i],
		}
		if s.Law <= workunits.LawVersion && e.Kind.Known() {
			b, err := e.Decode()
			if err != nil {
				return nil, err
			}
			e.Body = b
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// cut ends a log before the place at which two of its segments disagree.
// A different previous hash disagrees about the statement before it.
func (l *Ledger) cut(g *log, s workunits.Segment, raw []byte, at uint64) error {
	other := l.bytes(g.covering(at))
	if other == nil {
		return l.err // there is no proof without it
	}
	g.fork = &Fork{Author: s.Author, At: at, Proof: [2][]byte{other, raw}}
	g.hashes = g.hashes[:at]
	l.logs[s.Author] = g
	for len(g.segments) > 0 && g.segments[len(g.segments)-1].seq >= at {
		g.segments = g.segments[:len(g.segments)-1]
	}
	return &ForkError{*g.fork}
}

func (g *log) covering(at uint64) *segment {
	i, _ := slices.BinarySearchFunc(g.segments, at+1, func(s segment, seq uint64) int {
		return int(int64(s.seq) - int64(seq))
	})
	return &g.segments[max(i-1, 0)]
}

// Forks lists the proven equivocations, ascending by author.
func (l *Ledger) Forks() (forks []Fork) {
	for _, a := range l.Authors() {
		if f := l.logs[a].fork; f != nil {
			forks = append(forks, *f)
		}
	}
	return forks
}

// Authors lists whose logs there are, ascending.
func (l *Ledger) Authors() []workunits.NodeID {
	return slices.SortedFunc(maps.Keys(l.logs), workunits.NodeID.Compare)
}

// Count is how many authors have logs here, see MaxAuthors.
func (l *Ledger) Count() int { return len(l.logs) }

// Forked reports whether an author is proven to have equivocated.
func (l *Ledger) Forked(a workunits.NodeID) bool {
	g := l.logs[a]
	return g != nil && g.fork != nil
}

// Len is the number of statements of an author that are here.
func (l *Ledger) Len(a workunits.NodeID) uint64 {
	if g := l.logs[a]; g != nil {
		return uint64(len(g.hashes))
	}
	return 0
}

// Last is the chain hash of an author's last statement here, zero for none.
func (l *Ledger) Last(a workunits.NodeID) workunits.Digest { return l.At(a, l.Len(a)) }

// At is the chain hash after the first n statements of a log, zero if the log
// is shorter or n is 0.
func (l *Ledger) At(a workunits.NodeID, n uint64) (d workunits.Digest) {
	if g := l.logs[a]; g != nil && n > 0 && n <= uint64(len(g.hashes)) {
		return g.hashes[n-1]
	}
	return d
}

// Heads tells how far each log goes, ascending by author. The hash of a log that
// was cut is not its last statement's but a mark over it.
func (l *Ledger) Heads() []workunits.LogHead {
	heads := make([]workunits.LogHead, 0, len(l.logs))
	for _, a := range l.Authors() {
		heads = append(heads, l.logs[a].head(a))
	}
	return heads
}

// Head tells how far one log goes.
func (l *Ledger) Head(a workunits.NodeID) workunits.LogHead {
	if g := l.logs[a]; g != nil {
		return g.head(a)
	}
	return workunits.LogHead{Author: a}
}

func (g *log) head(a workunits.NodeID) workunits.LogHead {
	h := workunits.LogHead{Author: a, Len: uint64(len(g.hashes))}
	if h.Len > 0 {
		h.Hash = g.hashes[h.Len-1]
	}
	if g.fork != nil {
		h.Hash = workunits.Sum(append([]byte("talka/1 cut log\x00"), h.Hash[:]...))
	}
	return h
}

// holds reports whether the log reaches the head and agrees with it.
func (g *log) holds(h workunits.LogHead) bool {
	if g == nil || h.Len > uint64(len(g.hashes)) {
		return h.Len == 0 && h.Hash.IsZero()
	}
	return h.Len > 0 && g.hashes[h.Len-1] == h.Hash || h.Len == 0 && h.Hash.IsZero() || h == g.head(h.Author)
}

// Holds reports whether a log here reaches a head and agrees with it.
func (l *Ledger) Holds(h workunits.LogHead) bool { return l.logs[h.Author].holds(h) }

// Missing returns segments, at most limit bytes of them together, that somebody
// with the given heads lacks; and for a log that was cut, what proves it to who
// does not know. Heads ascend by author.
func (l *Ledger) Missing(heads []workunits.LogHead, limit int) (raw [][]byte) {
	theirs := make(map[workunits.NodeID]workunits.LogHead, len(heads))
	for _, h := range heads {
		theirs[h.Author] = h
	}
	for _, a := range l.Authors() {
		if raw, limit = l.missing(l.logs[a], theirs[a], a, raw, limit); limit < 0 {
			break
		}
	}
	return raw
}

// MissingOf is Missing for the logs of the given heads alone.
func (l *Ledger) MissingOf(heads []workunits.LogHead, limit int) (raw [][]byte) {
	for _, h := range heads {
		if g := l.logs[h.Author]; g != nil {
			if raw, limit = l.missing(g, h, h.Author, raw, limit); limit < 0 {
				break
			}
		}
	}
	return raw
}

// missing adds segments to raw while they are within the limit; the rest of the
// limit is negative once one was not.
func (l *Ledger) missing(g *log, h workunits.LogHead, a workunits.NodeID, raw [][]byte, limit int) ([][]byte, int) {
	if h == g.head(a) {
		return raw, limit
	}
	from := h.Len
	if h.Len > 0 && h.Len <= uint64(len(g.hashes)) && g.hashes[h.Len-1] != h.Hash {
		from = h.Len - 1
	}
	add := func(b []byte) {
		if limit -= len(b); limit >= 0 {
			raw = append(raw, b)
		}
	}
	segments := g.since(from)
	for i := range segments {
		b := l.bytes(&segments[i])
		if b == nil {
			return raw, limit
		}
		if add(b); limit < 0 {
			return raw, limit
		}
	}
	if g.fork != nil {
		add(g.fork.Proof[0])
		add(g.fork.Proof[1])
	}
	return raw, limit
}

// since returns the segments that hold statements numbered from or later.
func (g *log) since(from uint64) []segment {
	if from >= uint64(len(g.hashes)) {
		return nil
	}
	i := len(g.segments)
	for i > 0 && g.segments[i-1].seq > from {
		i--
	}
	return g.segments[max(i-1, 0):]
}

// Log returns the segments of one author.
func (l *Ledger) Log(a workunits.NodeID) [][]byte { return l.pick(a, allKinds) }

// Segment returns the segment that holds a statement, nil if it is not here.
func (l *Ledger) Segment(r workunits.Ref) []byte {
	if r.Seq >= l.Len(r.Author) {
		return nil
	}
	return l.bytes(l.logs[r.Author].covering(r.Seq))
}

// allKinds is the set of every kind.
const allKinds = math.MaxUint64

// setOf is a set of kinds; those that are not known are one in it.
func setOf(kinds ...workunits.Kind) (set uint64) {
	for _, k := range kinds {
		set |= 1 << min(k, 63)
	}
	return set
}

func kindsOf(s workunits.Segment) (set uint64) {
	for _, st := range s.Statements {
		set |= setOf(st.Kind)
	}
	return set
}

// Holding returns the segments of one author that hold statements of known kinds.
func (l *Ledger) Holding(a workunits.NodeID, kinds ...workunits.Kind) [][]byte {
	return l.pick(a, setOf(kinds...))
}

// pick returns the segments of one author that hold statements of the kinds.
func (l *Ledger) pick(a workunits.NodeID, kinds uint64) (raw [][]byte) {
	g := l.logs[a]
	if g == nil {
		return nil
	}
	for i := range g.segments {
		if s := &g.segments[i]; s.kinds&kinds != 0 {
			b := l.bytes(s)
			if b == nil {
				break
			}
			raw = append(raw, b)
		}
	}
	return raw
}

// Walk calls f for every statement up to the given heads, each log in order,
// authors ascending. It reports whether the ledger holds all of it.
func (l *Ledger) Walk(heads []workunits.LogHead, f func(Entry)) bool {
	return l.WalkSince(nil, heads, f)
}

// WalkSince is Walk without the first statements of logs, as many as from says.
func (l *Ledger) WalkSince(from map[workunits.NodeID]uint64, heads []workunits.LogHead, f func(Entry)) bool {
	return l.walk(from, heads, allKinds, f)
}

// WalkKinds is Walk for statements of known kinds alone. It decodes no segment without
// any.
func (l *Ledger) WalkKinds(heads []workunits.LogHead, f func(Entry), kinds ...workunits.Kind) bool {
	return l.walk(nil, heads, setOf(kinds...), f)
}

func (l *Ledger) walk(from map[workunits.NodeID]uint64, heads []workunits.LogHead, kinds uint64, f func(Entry)) bool {
	for _, h := range heads {
		if !l.Holds(h) {
			return false
		}
	}
	for _, h := range heads {
		if l.err != nil || !l.walkLog(from[h.Author], h, kinds, f) {
			return false
		}
	}
	return true
}

// walkLog reports whether it could read all of it.
func (l *Ledger) walkLog(next uint64, h workunits.LogHead, kinds uint64, f func(Entry)) bool {
	g := l.logs[h.Author]
	if g == nil {
		return true
	}
	segments := g.since(next)
	for i := range segments {
		if max(next, segments[i].seq) >= h.Len {
			return true
		}
		if segments[i].kinds&kinds == 0 {
			continue
		}
		raw := l.bytes(&segments[i])
		if raw == nil {
			return false
		}
		s, err := workunits.ReadChecked(raw)
		if err != nil {
			panic(err) // it decoded when it was added
		}
		next = max(next, s.Seq)
		hashes := g.hashes[s.Seq:min(s.Seq+uint64(len(s.Statements)), h.Len)]
		entries, err := decode(s, hashes, int(next-s.Seq), kinds)
		if err != nil {
			panic(err)
		}
		next = max(next, s.Seq+uint64(len(hashes)))
		for _, e := range entries {
			f(e)
		}
	}
	return true
}
