package workunits

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
)

// MaxProof is the length of the longest proof of work, in bytes.
const MaxProof = 64

// MaxWork is the most work that a network can ask of an identity, in bits.
const MaxWork = 48

// A proof of work makes identities dear: a nonce with which the hash of network,
// node and nonce begins with many zero bits (hashcash, Back 1997). Each bit
// doubles the tries that it takes to find one; to check one takes a microsecond.

// Work is how many bits of work a proof shows for a node in a network; 0 for what
// is no proof.
func Work(network string, n NodeID, proof []byte) int {
	if len(proof) != 8 {
		return 0
	}
	h := sha256.Sum256(append(workPrefix(network, n), proof...))
	return leadingZeros(h)
}

// FindWork tries nonces from first on, at most tries of them, for a proof of so
// many bits; nil if none of them is one.
func FindWork(network string, n NodeID, want int, first, tries uint64) []byte {
	b := append(workPrefix(network, n), make([]byte, 8)...)
	nonce := b[len(b)-8:]
	for i := range tries {
		binary.BigEndian.PutUint64(nonce, first+i)
		if h := sha256.Sum256(b); leadingZeros(h) >= want {
			return nonce
		}
	}
	return nil
}

// WorkMillis is about how long one core takes to find a proof of so many bits.
func WorkMillis(bits int) float64 { return math.Ldexp(1, bits) / triesPerMilli }

// triesPerMilli is what a core of a laptop of these years tries in a millisecond.
const triesPerMilli = 10_000

// Admits reports whether a node may execute units of the job as far as its
// identity goes: those whom the publisher trusts need no proof of work.
func (m Manifest) Admits(n NodeID, proof []byte) bool {
	return m.Policy.Work == 0 || n == m.Publisher || slices.Contains(m.Policy.Trusted, n) || Work(m.Network, n, proof) >= int(m.Policy.Work)
}

// workPrefix is hashed first, so that what is hashed for a try stays short.
func workPrefix(network string, n NodeID) []byte {
	s := Sum(append(append([]byte("talka/1 identity work\x00"), network...), n[:]...))
	return s[:]
}

func leadingZeros(h [sha256.Size]byte) int {
	for i := 0; i < len(h); i += 8 {
		if w := binary.BigEndian.Uint64(h[i:]); w != 0 {
			return 8*i + bits.LeadingZeros64(w)
		}
	}
	return 8 * len(h)
}
