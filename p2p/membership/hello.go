package membership

import (
	"errors"

	"golang.org/x/crypto/nacl/secretbox"

	"github.com/talka-grid/talka/workunits"
)

// Hello is the first thing that each end of a connection says to the other,
// sealed with a key that only members know: a stranger cannot tell a member's
// from noise, nor who is a member from what it hears.
type Hello struct {
	Version  int    `cbor:"v"` // 1
	Proof    Proof  `cbor:"proof"`
	Removals uint64 `cbor:"removals"` // the number of the list that the sender has
}

// NonceSize is the length of the random bytes that seal a hello.
const NonceSize = 24

// MaxHello is the most bytes of a sealed hello.
const MaxHello = NonceSize + secretbox.Overhead + MaxProof + 64

// errSeal tells nothing more, since whoever sent it need not know the network.
var errSeal = errors.New("it does not say hello as members do")

// sealKey is derived from the public half of the network key.
func sealKey(k Key) *[32]byte {
	d := [32]byte(workunits.Sum(append([]byte("talka/1 seal\x00"), k[:]...)))
	return &d
}

// Seal makes the bytes of a hello; nonce is random.
func (h Hello) Seal(k Key, nonce [NonceSize]byte) []byte {
	return secretbox.Seal(nonce[:], workunits.Encode(h), &nonce, sealKey(k))
}

// OpenHello reads a sealed hello. It does not look at the proof.
func OpenHello(k Key, b []byte) (h Hello, err error) {
	if len(b) < NonceSize || len(b) > MaxHello {
		return h, errSeal
	}
	plain, ok := secretbox.Open(nil, b[NonceSize:], (*[NonceSize]byte)(b[:NonceSize]), sealKey(k))
	if !ok {
		return h, errSeal
	}
	if h, err = workunits.Decode[Hello](plain, MaxHello); err != nil {
		return h, err
	}
	if h.Version != 1 {
		return h, errors.New("it says hello as another version of Talka does")
	}
	return h, nil
}
