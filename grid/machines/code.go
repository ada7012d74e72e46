package machines

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"strings"
	"unicode/utf8"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/talka-grid/talka/workunits"
)

const (
	codePrefix   = "pair1"
	codeDomain   = "talka/1 pairing code\x00"
	codeSum      = 4 // bytes that tell a damaged code from a good one
	maxCodeBytes = 1 << 10
	maxCodeAddrs = 4
	secretBytes  = 16
)

// Code is what the maker of a pairing code says with it. Its text is "pair1" and the
// base32 of a dag-cbor record with a checksum, in either case.
type Code struct {
	Network string           `json:"network"`
	ID      workunits.NodeID `json:"peer_id"`
	Name    string           `json:"name"`
	Role    Role             `json:"role" doc:"What it lets who has the code do"`
	addrs   []string
	secret  []byte
}

// codeRecord is the record of a code. Addresses are binary multiaddrs, which are half
// as long as their text.
type codeRecord struct {
	_       struct{} `cbor:",toarray"`
	Network string
	ID      workunits.NodeID
	Name    string
	Role    Role
	Secret  []byte
	Addrs   [][]byte
}

func codeText() *base32.Encoding {
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
}

// checksum guards against mistakes, not against people.
func checksum(b []byte) []byte {
	d := workunits.Sum(append([]byte(codeDomain), b...))
	return d[:codeSum]
}

// text is the text of a code.
func (c Code) text() string {
	r := codeRecord{Network: c.Network, ID: c.ID, Name: c.Name, Role: c.Role, Secret: c.secret, Addrs: [][]byte{}}
	for _, s := range spread(c.addrs) {
		if a, err := ma.NewMultiaddr(strings.TrimSuffix(s, "/p2p/"+c.ID.String())); err == nil {
			r.Addrs = append(r.Addrs, a.Bytes())
		}
	}
	b := workunits.Encode(r)
	return codePrefix + codeText().EncodeToString(append(b, checksum(b)...))
}

// spread picks addresses: the best of each host first, since one that is as good as
// another fails with it.
func spread(addrs []string) (some []string) {
	hosts := map[string]bool{}
	var rest []string
	for _, a := range addrs {
		host := strings.Join(strings.SplitN(a, "/", 4)[:min(3, strings.Count(a, "/")+1)], "/")
		if hosts[host] {
			rest = append(rest, a)
			continue
		}
		hosts[host] = true
		some = append(some, a)
	}
	some = append(some, rest...)
	return some[:min(len(some), maxCodeAddrs)]
}

// ParseCode reads a code, with any space in and around it. The error wraps ErrCode
// and says what to do.
func ParseCode(text string) (c Code, err error) {
	text = strings.ToLower(strings.Join(strings.Fields(text), ""))
	body, ok := strings.CutPrefix(text, codePrefix)
	switch {
	case strings.HasPrefix(text, "talka"):
		return c, fmt.Errorf("%w: this is an invite to a network; pair with what `talka pair` prints on the other machine", ErrCode)
	case !ok && strings.HasPrefix(text, "pair"):
		return c, fmt.Errorf("%w: it was made by another version of Talka", ErrCode)
	case !ok:
		return c, fmt.Errorf("%w: a pairing code begins with %q", ErrCode, codePrefix)
	case codeText().DecodedLen(len(body)) > maxCodeBytes:
		return c, fmt.Errorf("%w: %d characters are too many", ErrCode, len(text))
	}
	damaged := fmt.Errorf("%w: it is damaged or incomplete; copy it again", ErrCode)
	b, err := codeText().DecodeString(body)
	if err != nil || len(b) <= codeSum || codeText().EncodeToString(b) != body {
		return c, damaged
	}
	b, sum := b[:len(b)-codeSum], b[len(b)-codeSum:]
	if string(checksum(b)) != string(sum) {
		return c, damaged
	}
	r, err := workunits.Decode[codeRecord](b, maxCodeBytes)
	if err != nil {
		return c, fmt.Errorf("%w: %w", damaged, err)
	}
	if c, err = r.code(); err != nil {
		return Code{}, fmt.Errorf("%w: %w", ErrCode, err)
	}
	return c, nil
}

func (r codeRecord) code() (Code, error) {
	c := Code{Network: r.Network, ID: r.ID, Name: r.Name, Role: r.Role, secret: r.Secret, addrs: []string{}}
	if err := workunits.ValidName(r.Network); err != nil {
		return c, fmt.Errorf("network: %w", err)
	}
	if err := ValidName(r.Name); err != nil {
		return c, err
	}
	if !r.Role.Valid() || r.ID.IsZero() || len(r.Secret) != secretBytes || len(r.Addrs) > maxCodeAddrs {
		return c, fmt.Errorf("it says nothing that this version of Talka knows")
	}
	for _, b := range r.Addrs {
		a, err := ma.NewMultiaddrBytes(b)
		if err != nil || len(a.String()) > maxAddrLen || !utf8.ValidString(a.String()) {
			return c, fmt.Errorf("an address is malformed")
		}
		c.addrs = append(c.addrs, a.String())
	}
	return c, nil
}

func newSecret(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}
