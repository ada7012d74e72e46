package workunits

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/mr-tron/base58"
	mh "github.com/multiformats/go-multihash"
	"lukechampine.com/blake3"
)

// Digest is a BLAKE3-256 hash.
type Digest [32]byte

// Sum is the digest of b.
func Sum(b []byte) Digest { return blake3.Sum256(b) }

// IsZero reports whether d is the zero digest, which no content has.
func (d Digest) IsZero() bool { return d == Digest{} }

var base32Text = base32.StdEncoding.WithPadding(base32.NoPadding)

// String is the lower-case base32 form, as used in logs.
func (d Digest) String() string { return strings.ToLower(base32Text.EncodeToString(d[:])) }

// MarshalText implements encoding.TextMarshaler with the form of String.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (d *Digest) UnmarshalText(b []byte) error {
	raw, err := base32Text.DecodeString(strings.ToUpper(string(b)))
	if err != nil || len(raw) != len(d) || !strings.EqualFold(base32Text.EncodeToString(raw), string(b)) {
		return fmt.Errorf("%q is not a digest: 52 letters and digits in base32", b)
	}
	copy(d[:], raw)
	return nil
}

// UnmarshalBinary takes a digest's bytes, which the decoder would set one by one.
func (d *Digest) UnmarshalBinary(b []byte) error { return setAll(d[:], b) }

// setAll sets a value of fixed size.
func setAll(to, b []byte) error {
	if len(b) != len(to) {
		return fmt.Errorf("%d bytes where %d belong", len(b), len(to))
	}
	copy(to, b)
	return nil
}

// NodeID is a node's Ed25519 public key. Its text form is the libp2p peer id
// of the same key, so that one name serves every screen and every tool.
type NodeID [ed25519.PublicKeySize]byte

// peerIDPrefix is the identity multihash header around a protobuf-encoded
// Ed25519 public key (libp2p peer-id specification).
var peerIDPrefix = [...]byte{0x00, 0x24, 0x08, 0x01, 0x12, 0x20}

// ErrID is wrapped by every error about the text form of an id.
var ErrID = errors.New("malformed id")

// NodeIDOf is the id of the node that signs with key.
func NodeIDOf(key ed25519.PrivateKey) (id NodeID) {
	copy(id[:], key.Public().(ed25519.PublicKey))
	return id
}

// IsZero reports whether the id names no node.
func (n NodeID) IsZero() bool { return n == NodeID{} }

// String is the libp2p peer id ("12D3KooW...").
func (n NodeID) String() string {
	return base58.Encode(append(peerIDPrefix[:], n[:]...))
}

// Short is the tail of the text form, for screens.
func (n NodeID) Short() string { s := n.String(); return s[len(s)-8:] }

// MarshalText and UnmarshalText use the form of String.
func (n NodeID) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (n *NodeID) UnmarshalText(b []byte) (err error) {
	*n, err = ParseNodeID(string(b))
	return err
}

// UnmarshalBinary takes a key's bytes, see Digest.
func (n *NodeID) UnmarshalBinary(b []byte) error { return setAll(n[:], b) }

// Compare orders ids by their bytes.
func (n NodeID) Compare(o NodeID) int { return bytes.Compare(n[:], o[:]) }

// ParseNodeID reads the form that String writes.
func ParseNodeID(s string) (id NodeID, err error) {
	if len(s) > 64 {
		return id, fmt.Errorf("node id of %d characters: %w", len(s), ErrID)
	}
	b, err := base58.Decode(s)
	if err != nil || len(b) != len(peerIDPrefix)+len(id) || string(b[:len(peerIDPrefix)]) != string(peerIDPrefix[:]) {
		return id, fmt.Errorf("node id %q is not an Ed25519 peer id: %w", s, ErrID)
	}
	copy(id[:], b[len(peerIDPrefix):])
	return id, nil
}

// JobID is the digest of a job's signed manifest. Its text form is the CID of
// that manifest's block (CIDv1, dag-cbor, BLAKE3), which is also what the DHT
// knows the job's stewards by.
type JobID Digest

// IsZero reports whether the id names no job.
func (j JobID) IsZero() bool { return j == JobID{} }

// UnmarshalBinary takes a job's bytes, see Digest.
func (j *JobID) UnmarshalBinary(b []byte) error { return setAll(j[:], b) }

// Cid is the CID of the signed manifest's block.
func (j JobID) Cid() cid.Cid { return RecordCid(Digest(j)) }

// String is the CID in base32.
func (j JobID) String() string { return j.Cid().String() }

// MarshalText and UnmarshalText use the form of String.
func (j JobID) MarshalText() ([]byte, error) { return []byte(j.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (j *JobID) UnmarshalText(b []byte) (err error) {
	*j, err = ParseJobID(string(b))
	return err
}

// ParseJobID reads the form that String writes.
func ParseJobID(s string) (JobID, error) {
	if len(s) > 128 {
		return JobID{}, fmt.Errorf("job id of %d characters: %w", len(s), ErrID)
	}
	c, err := cid.Decode(s)
	if err != nil {
		return JobID{}, fmt.Errorf("job id %q: %w: %w", s, err, ErrID)
	}
	d, ok := RecordDigest(c)
	if !ok || c.String() != s { // CIDs have texts in other bases, ids have one text
		return JobID{}, fmt.Errorf("job id %q is the id of something else: %w", s, ErrID)
	}
	return JobID(d), nil
}

// RecordCid is the CID of a canonical record (dag-cbor) with the given digest.
func RecordCid(d Digest) cid.Cid { return cidOf(cid.DagCBOR, d) }

// RawCid is the CID of a raw leaf with the given digest.
func RawCid(d Digest) cid.Cid { return cidOf(cid.Raw, d) }

func cidOf(codec uint64, d Digest) cid.Cid {
	hash, err := mh.Encode(d[:], mh.BLAKE3)
	if err != nil {
		panic(err) // the length is right by type
	}
	return cid.NewCidV1(codec, hash)
}

// RecordDigest is the inverse of RecordCid.
func RecordDigest(c cid.Cid) (d Digest, ok bool) {
	p := c.Prefix()
	if p.Version != 1 || p.Codec != cid.DagCBOR || p.MhType != mh.BLAKE3 || p.MhLength != len(d) {
		return d, false
	}
	hash, err := mh.Decode(c.Hash())
	if err != nil {
		return d, false
	}
	copy(d[:], hash.Digest)
	return d, true
}

// ProjectID names a project: its publisher's key and a name. Its text form is
// "name@12D3KooW...".
type ProjectID struct {
	Publisher NodeID
	Name      string
}

// MaxNameLen is the longest name of a project or a job, in bytes.
const MaxNameLen = 64

// ValidName says what is wrong with the name of a project, a job or a network.
func ValidName(s string) error {
	if s == "" || len(s) > MaxNameLen {
		return fmt.Errorf("name %q has %d characters, want 1 to %d: %w", s, len(s), MaxNameLen, ErrID)
	}
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && (i == 0 || r != '-' && r != '_' && r != '.') {
			return fmt.Errorf("name %q: want letters, digits and, after the first, . - _: %w", s, ErrID)
		}
	}
	return nil
}

// String is "name@publisher".
func (p ProjectID) String() string { return p.Name + "@" + p.Publisher.String() }

// MarshalText and UnmarshalText use the form of String.
func (p ProjectID) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (p *ProjectID) UnmarshalText(b []byte) (err error) {
	*p, err = ParseProjectID(string(b))
	return err
}

// ParseProjectID reads the form that String writes.
func ParseProjectID(s string) (ProjectID, error) {
	name, key, ok := strings.Cut(s, "@")
	if !ok {
		return ProjectID{}, fmt.Errorf("project %q: want NAME@NODE: %w", s, ErrID)
	}
	if err := ValidName(name); err != nil {
		return ProjectID{}, err
	}
	id, err := ParseNodeID(key)
	return ProjectID{id, name}, err
}
