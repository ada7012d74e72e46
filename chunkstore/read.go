package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
)

// Has reports whether a chunk is here.
func (s *Store) Has(_ context.Context, c cid.Cid) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.chunks[c] != nil, nil
}

// GetSize returns a chunk's size in bytes.
func (s *Store) GetSize(_ context.Context, c cid.Cid) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.chunks[c]; k != nil {
		return int(k.size), nil
	}
	return 0, notFound(c)
}

// Get reads and verifies a chunk. A damaged one is set aside, and missing from
// then on, so that it is fetched again.
func (s *Store) Get(_ context.Context, c cid.Cid) (blocks.Block, error) {
	data, err := s.get(c, nil)
	if err != nil {
		return nil, err
	}
	return blocks.NewBlockWithCid(data, c)
}

// get is Get into a buffer, which is made if it is too small.
func (s *Store) get(c cid.Cid, buf []byte) ([]byte, error) {
	data, err := s.read(c, buf)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.chunks[c]; k != nil {
		s.clock++
		k.used, k.sure = s.clock, true
	}
	return data, nil
}

// read is get without counting as a use.
func (s *Store) read(c cid.Cid, buf []byte) ([]byte, error) {
	s.mu.Lock()
	k, p := s.chunks[c], s.links[c]
	linked := k != nil && k.linked
	s.mu.Unlock()
	if k == nil {
		return nil, notFound(c)
	}
	if linked {
		return s.readLinked(c, p)
	}
	data, err := readUpTo(s.path(c), int(k.size), buf)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read chunk: %w", err)
	}
	if err == nil && Verify(c, data) == nil {
		return data, nil
	}
	return s.setAside(c)
}

// readUpTo reads a file that is to have so many bytes; of a longer one it reads one
// byte more.
func readUpTo(path string, size int, buf []byte) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if cap(buf) <= size {
		buf = make([]byte, size+1)
	}
	n, err := io.ReadFull(f, buf[:size+1])
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return buf[:n], err
}

// setAside moves a damaged chunk away. It looks again first, for the chunk may
// have been put anew since it was found damaged.
func (s *Store) setAside(c cid.Cid) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.chunks[c]; k == nil || k.linked {
		return nil, notFound(c)
	}
	path, name := s.path(c), c.String()
	data, err := os.ReadFile(path)
	if err == nil && Verify(c, data) == nil {
		return data, nil
	}
	if err == nil {
		if err := os.Rename(path, filepath.Join(s.folder("damaged"), name)); err != nil {
			return nil, fmt.Errorf("set damaged chunk aside: %w", err)
		}
		s.step()
		if old, again := s.damaged[name]; again {
			s.used -= old
			s.files--
		}
		s.used += int64(len(data))
		s.files++
		s.damaged[name] = int64(len(data))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read chunk: %w", err)
	}
	s.forget(c)
	return nil, notFound(c)
}
