package verdict

import (
	"encoding/binary"
	"errors"
	"math"
)

// errSnapshot is what is wrong with a snapshot that ends early or says what none says.
var errSnapshot = errors.New("not a whole snapshot")

// coder writes a snapshot or reads it: what is described once serves for both. After
// an error it reads zeros.
type coder struct {
	b       []byte // what was written, or what is left to read
	reading bool
	err     error
	nodes   []node // in the order in which they came up first
	numbers map[node]uint64
}

// take is the next n bytes.
func (c *coder) take(n uint64) []byte {
	if c.err != nil || n > uint64(len(c.b)) {
		c.err, c.b = errSnapshot, nil
		return nil
	}
	b := c.b[:n:n]
	c.b = c.b[n:]
	return b
}

func (c *coder) uint(v *uint64) {
	if !c.reading {
		c.b = binary.AppendUvarint(c.b, *v)
		return
	}
	x, n := binary.Uvarint(c.b)
	if n <= 0 {
		x, c.err, c.b, n = 0, errSnapshot, nil, 0
	}
	*v, c.b = x, c.b[n:]
}

// number is uint for numbers that are not negative.
func number[T ~int | ~uint8 | ~uint16 | ~uint32 | ~uint64](c *coder, v *T) {
	x := uint64(*v)
	c.uint(&x)
	if *v = T(x); uint64(*v) != x {
		*v, c.err = 0, errSnapshot
	}
}

func (c *coder) bool(v *bool) {
	var x uint8
	if *v {
		x = 1
	}
	number(c, &x)
	*v = x == 1
}

func (c *coder) float(v *float64) {
	x := math.Float64bits(*v)
	c.uint(&x)
	*v = math.Float64frombits(x)
}

// fixed is bytes of which both sides know how many there are.
func (c *coder) fixed(v []byte) {
	if c.reading {
		copy(v, c.take(uint64(len(v))))
	} else {
		c.b = append(c.b, v...)
	}
}

func (c *coder) digest(v *digest) { c.fixed(v[:]) }

// rare is a digest that is zero most of the time.
func (c *coder) rare(v *digest) {
	some := !v.IsZero()
	if c.bool(&some); some {
		c.digest(v)
	}
}

func (c *coder) bytes(v *[]byte) {
	n := uint64(len(*v))
	c.uint(&n)
	switch b := *v; {
	case !c.reading:
		c.b = append(c.b, b...)
	case n > 0:
		*v = append([]byte(nil), c.take(n)...)
	}
}

func text[T ~string](c *coder, v *T) {
	b := []byte(*v)
	c.bytes(&b)
	*v = T(b)
}

// node is written whole when it comes up first.
func (c *coder) node(v *node) {
	x := c.numbers[*v]
	if c.reading {
		x = 0
	}
	switch c.uint(&x); {
	case x == 0:
		if c.fixed(v[:]); !c.reading {
			if c.numbers == nil {
				c.numbers = map[node]uint64{}
			}
			c.numbers[*v] = uint64(len(c.nodes) + 1)
		}
		c.nodes = append(c.nodes, *v)
	case c.reading && x > uint64(len(c.nodes)):
		c.err = errSnapshot
	case c.reading:
		*v = c.nodes[x-1]
	}
}

func (c *coder) ref(v *ref) {
	c.node(&v.Author)
	c.uint(&v.Seq)
}

// size is the length of a list of which each entry takes at least a byte.
func (c *coder) size(n int) int {
	number(c, &n)
	if c.reading && n > len(c.b) {
		c.err = errSnapshot
	}
	if c.err != nil {
		return 0
	}
	return n
}

// list codes each entry of a list.
func list[T any](c *coder, v *[]T, one func(*T)) {
	n := c.size(len(*v))
	if c.reading && n > 0 {
		*v = make([]T, n)
	}
	for i := range n {
		one(&(*v)[i])
	}
}

// ascending is a list of units.
func (c *coder) ascending(v *[]uint32) {
	last := uint32(0)
	list(c, v, func(u *uint32) {
		step := *u - last
		number(c, &step)
		last += step
		*u = last
	})
}
