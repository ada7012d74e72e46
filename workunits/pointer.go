package workunits

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
)

// MaxPointer is the largest pointer in bytes.
const MaxPointer = 1024

// maxPointerNumber keeps numbers exact in every language.
const maxPointerNumber = 1 << 53

// domainPointer is that of Pointer's signature.
const domainPointer = "talka/1 pointer\x00"

// Pointer is a publisher's word which of its project's jobs has the latest sealed
// results. Of two, the one with the higher number counts, see Newer.
type Pointer struct {
	Network   string `cbor:"net"`
	Publisher NodeID `cbor:"pub"`
	Project   string `cbor:"project"`
	Number    uint64 `cbor:"number"` // from 1; milliseconds since 1970, or one more than the last
	Job       JobID  `cbor:"job"`
	Accepted  uint32 `cbor:"accepted"` // units, as in the job's Seal
	Results   Digest `cbor:"results"`  // as in the job's Seal
	Sig       []byte `cbor:"sig"`
}

// ProjectID is the project that it is of.
func (p Pointer) ProjectID() ProjectID { return ProjectID{p.Publisher, p.Project} }

// Newer reports whether p outweighs o, of the same project. One that a publisher
// made twice with one number counts for all alike.
func (p Pointer) Newer(o Pointer) bool {
	if p.Number != o.Number {
		return p.Number > o.Number
	}
	return slices.Compare(p.Job[:], o.Job[:]) > 0
}

// PointerKey is what a network's DHT knows the pointer of a project by.
func PointerKey(network string, p ProjectID) Digest {
	return Sum([]byte(domainPointer + network + "\x00" + p.String()))
}

func (p Pointer) unsigned() []byte {
	p.Sig = nil
	return Encode(p)
}

// Sign sets the publisher and the signature and returns the pointer's bytes.
func (p Pointer) Sign(key ed25519.PrivateKey) []byte {
	p.Publisher = NodeIDOf(key)
	p.Sig = sign(key, domainPointer, p.unsigned())
	return Encode(p)
}

// ParsePointer reads and checks what Sign wrote.
func ParsePointer(b []byte) (Pointer, error) {
	p, err := Decode[Pointer](b, MaxPointer)
	if err != nil {
		return p, fmt.Errorf("pointer: %w", err)
	}
	if err := errors.Join(ValidName(p.Network), ValidName(p.Project)); err != nil {
		return p, err
	}
	if p.Number == 0 || p.Number > maxPointerNumber || p.Job.IsZero() {
		return p, errors.New("pointer without a number or a job")
	}
	return p, verify(p.Publisher, domainPointer, p.unsigned(), p.Sig)
}
