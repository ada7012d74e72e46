package workunits

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// OutcomeKind tells how a program ended, among the ways that are the same on
// every machine.
type OutcomeKind string

// The deterministic ends of a run. Everything else makes the copy void.
const (
	Exited      OutcomeKind = "exit"
	Trapped     OutcomeKind = "trap"
	OutputLimit OutcomeKind = "output limit"
)

// VoidReason tells why a copy is void.
type VoidReason string

// Reasons for a void copy.
const (
	VoidWall      VoidReason = "wall time"
	VoidCPU       VoidReason = "processor time"
	VoidStack     VoidReason = "stack"
	VoidKilled    VoidReason = "killed"
	VoidDisk      VoidReason = "disk full"
	VoidInput     VoidReason = "input not found"
	VoidEngine    VoidReason = "engine"
	VoidCancelled VoidReason = "cancelled"
)

// Limits on outcomes.
const (
	MaxOutcome  = 1 << 20 // bytes
	MaxOutFiles = 4096
	InlineFile  = 1024 // files of at most so many bytes stand inside the outcome
	MaxInline   = 4096 // outcomes of at most so many bytes travel beside statements
	maxTrapLen  = 128
)

// OutFile is a file that a run produced: inline up to InlineFile bytes, else by
// the CID of its UnixFS form. The rule has no exception, so that equal results
// have equal records.
type OutFile struct {
	_    struct{} `cbor:",toarray"`
	Path string   // in /out; empty for standard output
	Size uint64
	Data []byte
	Cid  *Link
}

// Outcome is what a copy produced. The digest of its encoding is the copy's
// result.
type Outcome struct {
	How   OutcomeKind `cbor:"how"`
	Code  uint32      `cbor:"code"`
	Trap  string      `cbor:"trap"`
	Out   OutFile     `cbor:"stdout"`
	Files []OutFile   `cbor:"files"` // ascending by path
}

// Encode returns the outcome's record and its digest.
func (o Outcome) Encode() ([]byte, Digest) {
	b := Encode(o)
	return b, Sum(b)
}

// ParseOutcome reads a record that a volunteer made.
func ParseOutcome(b []byte) (Outcome, error) {
	o, err := Decode[Outcome](b, MaxOutcome)
	if err != nil {
		return o, err
	}
	return o, o.check()
}

func (o Outcome) check() error {
	if len(o.Files) > MaxOutFiles || len(o.Trap) > maxTrapLen {
		return fmt.Errorf("outcome with %d files: %w", len(o.Files), ErrTooLarge)
	}
	if o.How != Exited && o.How != Trapped && o.How != OutputLimit {
		return fmt.Errorf("outcome %.20q is none that this version knows", o.How)
	}
	if o.How != Exited && o.Code != 0 || o.How != Trapped && o.Trap != "" {
		return fmt.Errorf("outcome %q with exit code %d and trap %.40q", o.How, o.Code, o.Trap)
	}
	if o.How == OutputLimit && (o.Out.Size > 0 || len(o.Files) > 0) {
		return errors.New("output over its limit is kept")
	}
	if o.Out.Path != "" {
		return errors.New("standard output has a path")
	}
	paths := make([]string, len(o.Files))
	for i, f := range o.Files {
		paths[i] = f.Path
		if !ValidPath(f.Path) || i > 0 && o.Files[i-1].Path >= f.Path {
			return fmt.Errorf("file %.40q: want clean relative paths in ascending order", f.Path)
		}
	}
	if a, b, found := overlap(paths); found {
		return fmt.Errorf("file %.40q lies in file %.40q", b, a)
	}
	for _, f := range o.All() {
		if inline := f.Cid == nil; inline != (f.Size <= InlineFile) || inline && uint64(len(f.Data)) != f.Size || !inline && len(f.Data) > 0 {
			return fmt.Errorf("file %.40q of %d bytes is kept in the wrong place", f.Path, f.Size)
		}
	}
	return nil
}

// All are the files that a run produced, standard output first.
func (o Outcome) All() []OutFile { return append([]OutFile{o.Out}, o.Files...) }

// Size is what the outcome says that its files hold, in bytes; the greatest integer if
// that is more.
func (o Outcome) Size() (bytes uint64) {
	for _, f := range o.All() {
		sum, over := bits.Add64(bytes, f.Size, 0)
		if over > 0 {
			return math.MaxUint64
		}
		bytes = sum
	}
	return bytes
}

// Links lists the CIDs that the outcome refers to.
func (o Outcome) Links() (links []Link) {
	for _, f := range o.All() {
		if f.Cid != nil {
			links = append(links, *f.Cid)
		}
	}
	return links
}
