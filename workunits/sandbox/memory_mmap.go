//go:build linux || darwin

package sandbox

import (
	"fmt"

	"github.com/tetratelabs/wazero/experimental"
	"golang.org/x/sys/unix"
)

// mapped is a linear memory that reserves addresses for all it may become, so
// that growing neither copies nor moves it. Pages cost memory once written.
type mapped struct{ all []byte }

func newLinearMemory(_, most uint64) experimental.LinearMemory {
	if most == 0 {
		return &mapped{}
	}
	all, err := unix.Mmap(-1, 0, int(most), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		// Ends this child, and the copy is void.
		panic(fmt.Errorf("reserve %d bytes of addresses: %w", most, err))
	}
	return &mapped{all}
}

// Reallocate implements experimental.LinearMemory.
func (m *mapped) Reallocate(size uint64) []byte {
	if size > uint64(len(m.all)) {
		return nil
	}
	return m.all[:size:size]
}

// Free implements experimental.LinearMemory.
func (m *mapped) Free() {
	if m.all != nil {
		// Unmapping what was mapped does not fail.
		_ = unix.Munmap(m.all)
		m.all = nil
	}
}

// available says why this machine would not give so many bytes of memory more. They
// cost nothing: a page is there once it is written.
func available(bytes uint64) error {
	if bytes == 0 {
		return nil
	}
	all, err := unix.Mmap(-1, 0, int(bytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err == nil {
		err = unix.Munmap(all)
	}
	if err != nil {
		return fmt.Errorf("this machine cannot give a program %d MiB of memory: %w", bytes>>20, err)
	}
	return nil
}
