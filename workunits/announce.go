package workunits

import (
	"crypto/ed25519"
	"errors"
	"fmt"
)

// MaxAnnouncement is the largest announcement in bytes.
const MaxAnnouncement = 4096

// Announcement tells the network that a job has open units, or has ended. It is
// all that gossip carries; everything else about a job is fetched by its id.
type Announcement struct {
	Network  string   `cbor:"net"`
	Job      JobID    `cbor:"job"`
	Author   NodeID   `cbor:"author"` // a steward of the job
	Project  string   `cbor:"project"`
	Owner    NodeID   `cbor:"owner"` // the publisher
	Open     uint32   `cbor:"open"`  // units that want copies
	Ended    bool     `cbor:"ended"`
	Time     uint64   `cbor:"time"`    // milliseconds since 1970, orders an author's announcements
	Expires  uint64   `cbor:"expires"` // milliseconds since 1970
	Stewards []NodeID `cbor:"stewards"`
	Proof    []byte   `cbor:"pow,omitempty"` // the author's proof of work, where the network asks for one
	Sig      []byte   `cbor:"sig"`
}

// ProjectID is the project that the job belongs to.
func (a Announcement) ProjectID() ProjectID { return ProjectID{a.Owner, a.Project} }

func (a Announcement) unsigned() []byte {
	a.Sig = nil
	return Encode(a)
}

// Sign sets the author and the signature and returns the bytes to send.
func (a Announcement) Sign(key ed25519.PrivateKey) []byte {
	a.Author = NodeIDOf(key)
	a.Sig = sign(key, domainAnnounce, a.unsigned())
	return Encode(a)
}

// ParseAnnouncement reads and checks what Sign wrote. Whether it has expired is
// for the caller, who knows the time.
func ParseAnnouncement(b []byte) (Announcement, error) {
	a, err := Decode[Announcement](b, MaxAnnouncement)
	if err != nil {
		return a, err
	}
	if err := errors.Join(ValidName(a.Network), ValidName(a.Project),
		checkCount("stewards", len(a.Stewards), 1, MaxStewards)); err != nil {
		return a, err
	}
	if len(a.Proof) > MaxProof {
		return a, fmt.Errorf("proof of work of %d bytes, limit %d: %w", len(a.Proof), MaxProof, ErrTooLarge)
	}
	if a.Expires <= a.Time || a.Expires-a.Time > 24*3600*1000 {
		return a, errors.New("announcement lives for no time or for more than a day")
	}
	return a, verify(a.Author, domainAnnounce, a.unsigned(), a.Sig)
}
