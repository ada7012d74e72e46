package workunits

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"
)

// LawVersion is the version of statements and verdicts that this code writes.
const LawVersion = 1

// Limits on segments.
const (
	MaxSegment    = 1 << 20   // bytes of an encoded segment
	MaxPlain      = 320 << 10 // bytes of one without a fault or a head, so that two of them fit into a fault's proof
	MaxStatements = 1024      // statements in a segment
	MaxBody       = 896 << 10 // bytes of a statement, so that a head of MaxAuthors logs fits
)

// ErrSignature is returned for a signature that does not verify.
var ErrSignature = errors.New("bad signature")

// Statement is one entry of a log. Body is the canonical record of the kind
// (see [Body]); for kinds that this version does not know it is opaque.
type Statement struct {
	_    struct{} `cbor:",toarray"`
	Kind Kind
	Body []byte

	decoded Body // by whoever read the segment
}

// Segment is a signed run of statements of one author's log about one job. The
// header holds for each of its statements; the i-th has number Seq+i. Its
// hash chain makes Prev a binding, hiding commitment to all that its author
// said before: a grant shown to a volunteer proves later which commits it
// followed, without telling the volunteer.
type Segment struct {
	Network    string      `cbor:"net"`
	Job        JobID       `cbor:"job"`
	Law        uint16      `cbor:"law"`
	Author     NodeID      `cbor:"author"`
	Seq        uint64      `cbor:"seq"`
	Prev       Digest      `cbor:"prev"` // chain hash of statement Seq-1, zero before the first
	Statements []Statement `cbor:"list"`
	Sig        []byte      `cbor:"sig"`
}

// Domains of the signatures, so that none serves for another.
const (
	domainSegment  = "talka/1 segment\x00"
	domainManifest = "talka/1 manifest\x00"
	domainAnnounce = "talka/1 announcement\x00"
)

func sign(key ed25519.PrivateKey, domain string, b []byte) []byte {
	d := Sum(b)
	return ed25519.Sign(key, append([]byte(domain), d[:]...))
}

func verify(id NodeID, domain string, b, sig []byte) error {
	d := Sum(b)
	// The zero id is a point of small order: anyone can sign as it.
	if id.IsZero() || len(sig) != ed25519.SignatureSize || !ed25519.Verify(id[:], append([]byte(domain), d[:]...), sig) {
		return fmt.Errorf("%s of %s: %w", domain[:len(domain)-1], id, ErrSignature)
	}
	return nil
}

func (s Segment) unsigned() []byte {
	s.Sig = nil
	return Encode(s)
}

// Sign sets the author and the signature.
func (s *Segment) Sign(key ed25519.PrivateKey) {
	s.Author = NodeIDOf(key)
	s.Sig = sign(key, domainSegment, s.unsigned())
}

// ParseSegment decodes a segment and checks its shape and its signature, but
// not its place in the author's log.
func ParseSegment(b []byte) (Segment, error) {
	s, err := ReadSegment(b)
	if err != nil {
		return s, err
	}
	return s, verify(s.Author, domainSegment, s.unsigned(), s.Sig)
}

// ReadSegment is ParseSegment without the signature, for who checks that in
// another way.
func ReadSegment(b []byte) (Segment, error) {
	s, err := Decode[Segment](b, MaxSegment)
	if err != nil {
		return s, err
	}
	if len(b) > MaxPlain && !slices.ContainsFunc(s.Statements, func(st Statement) bool { return st.Kind == KindFault || st.Kind == KindHead }) {
		return s, fmt.Errorf("segment of %d bytes, limit %d: %w", len(b), MaxPlain, ErrTooLarge)
	}
	if err := s.check(); err != nil {
		return s, fmt.Errorf("segment %d of %s: %w", s.Seq, s.Author.Short(), err)
	}
	return s, nil
}

func (s Segment) check() error {
	switch {
	case s.Law == 0:
		return errors.New("no law version")
	case len(s.Statements) == 0 || len(s.Statements) > MaxStatements:
		return fmt.Errorf("%d statements, want 1 to %d", len(s.Statements), MaxStatements)
	case s.Seq > 1<<40:
		return fmt.Errorf("number %d: %w", s.Seq, ErrTooLarge)
	case (s.Seq == 0) != s.Prev.IsZero():
		return errors.New("a log begins at 0 with no previous hash")
	}
	if err := ValidName(s.Network); err != nil {
		return err
	}
	for i, st := range s.Statements {
		if len(st.Body) > MaxBody {
			return fmt.Errorf("statement %d has %d bytes: %w", i, len(st.Body), ErrTooLarge)
		}
	}
	return s.decode(Statement.Decode)
}

// decode decodes the statements that this version knows, once for whoever asks.
func (s Segment) decode(one func(Statement) (Body, error)) (err error) {
	for i := range s.Statements {
		st := &s.Statements[i]
		if s.Law > LawVersion || !st.Kind.Known() {
			continue
		}
		if st.decoded, err = one(*st); err != nil {
			return fmt.Errorf("statement %d (%s): %w", i, st.Kind, err)
		}
	}
	return nil
}

// ReadChecked is ReadSegment for what this node has checked before: it decodes
// and checks nothing.
func ReadChecked(b []byte) (Segment, error) {
	s, err := decodeOwn[Segment](b)
	if err != nil {
		return s, err
	}
	return s, s.decode(func(st Statement) (Body, error) { return st.decode(false) })
}

// ReadEnd tells whose statements are in a segment that this node has checked before,
// and the number of the one that follows its last.
func ReadEnd(b []byte) (author NodeID, end uint64, err error) {
	s, err := decodeOwn[struct {
		Segment
		Statements []cbor.RawMessage `cbor:"list"` // not decoded
	}](b)
	return s.Author, s.Seq + uint64(len(s.Statements)), err
}

// Encode returns the segment's bytes.
func (s Segment) Encode() []byte { return Encode(s) }

// Ref names a statement by its author and number.
type Ref struct {
	_      struct{} `cbor:",toarray"`
	Author NodeID
	Seq    uint64
}

// Hashes returns the chain hash of each statement of the segment: over the array
// of network, job, law, author, number, previous hash, kind and body.
func (s Segment) Hashes() []Digest {
	hashes := make([]Digest, len(s.Statements))
	prev := s.Prev
	for i, st := range s.Statements {
		prev = newTuple(8).text(s.Network).bytes(s.Job[:]).uint(uint64(s.Law)).bytes(s.Author[:]).
			uint(s.Seq + uint64(i)).bytes(prev[:]).uint(uint64(st.Kind)).bytes(st.Body).sum()
		hashes[i] = prev
	}
	return hashes
}
