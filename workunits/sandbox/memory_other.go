//go:build !linux && !darwin

package sandbox

import "github.com/tetratelabs/wazero/experimental"

// grown is a linear memory on Go's heap.
type grown struct{ b []byte }

func newLinearMemory(start, _ uint64) experimental.LinearMemory {
	return &grown{make([]byte, 0, start)}
}

// Reallocate implements experimental.LinearMemory.
func (g *grown) Reallocate(size uint64) []byte {
	if size > uint64(cap(g.b)) {
		bigger := make([]byte, size, max(size, uint64(cap(g.b))*5/4))
		copy(bigger, g.b)
		g.b = bigger
	}
	g.b = g.b[:size]
	return g.b
}

// Free implements experimental.LinearMemory.
func (g *grown) Free() { g.b = nil }

// available is not known here.
func available(uint64) error { return nil }
