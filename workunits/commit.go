package workunits

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/nacl/box"
	"lukechampine.com/blake3"
)

// Result names what a copy produced: the digest of its plain outcome, and where
// it is stored if that differs from the record with that digest.
type Result struct {
	_          struct{} `cbor:",toarray"`
	Digest     Digest
	Storage    *Link
	Encryption string
}

func (r Result) check() error { return checkWord("encryption", r.Encryption) }

// Cid is where the result is stored.
func (r Result) Cid() Link {
	if r.Storage != nil {
		return *r.Storage
	}
	return Link{RecordCid(r.Digest)}
}

// SealedOpening is what a volunteer seals to a custodian with a commit: the
// seed of its nonces, and one result for each unit of the commit, in order.
type SealedOpening struct {
	Seed    [32]byte `cbor:"seed"`
	Results []Result `cbor:"results"`
}

// Nonce is the unit's blinding value, so that one unit can be opened alone.
func (s SealedOpening) Nonce(unit uint32) (n Nonce) {
	b := blake3.Sum256(binary.BigEndian.AppendUint32(s.Seed[:], unit))
	copy(n[:], b[:])
	return n
}

// Copy names an execution for hashing: who executed which unit of which job.
type Copy struct {
	Network   string
	Job       JobID
	Volunteer NodeID
	Unit      uint32
}

// Nonce hides the digest in a commit's hash until it is opened.
type Nonce [16]byte

// UnmarshalBinary takes a nonce's bytes, see Digest.
func (n *Nonce) UnmarshalBinary(b []byte) error { return setAll(n[:], b) }

// CommitHash binds the volunteer to a digest without showing it: it is over the
// array of a domain, network, job, unit, digest, nonce and volunteer.
func (c Copy) CommitHash(digest Digest, nonce Nonce) Digest {
	return newTuple(7).text("talka/1 commit").text(c.Network).bytes(c.Job[:]).uint(uint64(c.Unit)).
		bytes(digest[:]).bytes(nonce[:]).bytes(c.Volunteer[:]).sum()
}

// ErrSealed is returned for a box that does not open or holds nonsense.
var ErrSealed = errors.New("sealed opening is unreadable")

// EncryptionKey is the node's X25519 key pair, derived from its identity.
func EncryptionKey(key ed25519.PrivateKey) (public, private [32]byte) {
	seed := make([]byte, 32)
	blake3.DeriveKey(seed, "talka 2026-11 node encryption key", key.Seed())
	pub, priv, err := box.GenerateKey(&oneRead{seed})
	if err != nil {
		panic(err) // 32 bytes are there to be read
	}
	return *pub, *priv
}

type oneRead struct{ b []byte }

func (r *oneRead) Read(p []byte) (int, error) {
	n := copy(p, r.b)
	r.b = r.b[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Seal boxes an opening to a custodian's public key. Randomness must be secret.
func (s SealedOpening) Seal(to [32]byte, randomness io.Reader) []byte {
	b, err := box.SealAnonymous(nil, Encode(s), &to, randomness)
	if err != nil {
		panic(err) // the caller's generator never fails
	}
	return b
}

// Unseal opens a box that was sealed to the key pair.
func Unseal(b []byte, public, private [32]byte) (SealedOpening, error) {
	plain, ok := box.OpenAnonymous(nil, b, &public, &private)
	if !ok {
		return SealedOpening{}, ErrSealed
	}
	s, err := Decode[SealedOpening](plain, MaxSealed)
	if err != nil {
		return s, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	for _, r := range s.Results {
		if err := r.check(); err != nil {
			return s, fmt.Errorf("%w: %w", ErrSealed, err)
		}
	}
	return s, nil
}

// MaxChain is the longest hash chain, in values, and MaxDraws how many values an
// author's chains may have together.
const (
	MaxChain = 1 << 20
	MaxDraws = 1 << 30
)

// Chain is a hash chain whose values are revealed from its end: value 0 is the
// public anchor, and hashing value i+1 gives value i. It remembers every 64th
// value, so that revealing costs at most 64 hashes.
type Chain struct {
	marks []Digest // marks[k] is the value at length-64k
	n     uint32
}

const chainStep = 64

// NewChain makes the chain of n values (1 to MaxChain) from a secret seed.
func NewChain(seed [32]byte, n uint32) *Chain {
	c := &Chain{n: n, marks: make([]Digest, 0, n/chainStep+1)}
	v := Sum(seed[:])
	for i := uint32(0); i <= n; i++ {
		if i%chainStep == 0 {
			c.marks = append(c.marks, v)
		}
		v = Sum(v[:])
	}
	return c
}

// Value is the i-th value, 0 to n.
func (c *Chain) Value(i uint32) Digest {
	back := c.n - i // hashes from the seed's end
	v := c.marks[back/chainStep]
	for range back % chainStep {
		v = Sum(v[:])
	}
	return v
}

// ChainLink reports whether value stands exactly steps after anchor.
func ChainLink(anchor, value Digest, steps uint32) bool {
	if steps > MaxChain {
		return false
	}
	for range steps {
		value = Sum(value[:])
	}
	return value == anchor
}
