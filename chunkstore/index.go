package chunkstore

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/ipfs/go-cid"
	"lukechampine.com/blake3"
)

// The index says what is in the folder of chunks, so that a store of a million
// opens in a second. Close writes it and Open takes it away, so that one is there
// only while nothing changes: after a crash the folder itself is read.
//
// It is this line, then for each chunk, the least recently used first, its size
// and its CID behind its length, both uvarints, then the BLAKE3 sum of all that.
const indexTitle = "talka chunks 1\n"

func (s *Store) indexPath() string { return filepath.Join(s.dir, "index") }

// saveIndex writes the index. The store is not used any more.
func (s *Store) saveIndex() error {
	order := make([]cid.Cid, 0, len(s.chunks))
	for c, k := range s.chunks {
		if !k.linked {
			order = append(order, c)
		}
	}
	slices.SortFunc(order, func(a, b cid.Cid) int {
		return cmp.Or(cmp.Compare(s.chunks[a].used, s.chunks[b].used), cmp.Compare(a.KeyString(), b.KeyString()))
	})
	tmp := filepath.Join(s.folder("tmp"), "index")
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	s.step()
	sum := blake3.New(32, nil)
	w := bufio.NewWriterSize(io.MultiWriter(f, sum), leafSize)
	w.WriteString(indexTitle)
	for _, c := range order {
		w.Write(binary.AppendUvarint(nil, uint64(s.chunks[c].size)))
		w.Write(binary.AppendUvarint(nil, uint64(c.ByteLen())))
		w.WriteString(c.KeyString())
	}
	err = w.Flush()
	if err == nil {
		_, err = f.Write(sum.Sum(nil))
	}
	s.step()
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	s.step()
	if err := os.Rename(tmp, s.indexPath()); err != nil {
		return err
	}
	s.step()
	return syncFile(s.dir)
}

// takeIndex reads the index and takes it away; false if there is none to rely on.
func (s *Store) takeIndex() (bool, error) {
	raw, err := os.ReadFile(s.indexPath())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := errors.Join(os.Remove(s.indexPath()), syncFile(s.dir)); err != nil {
		return false, err
	}
	s.step()
	return s.readIndex(raw), nil
}

func (s *Store) readIndex(raw []byte) bool {
	end := len(raw) - 32
	if end < 0 {
		return false
	}
	sum := blake3.Sum256(raw[:end])
	body, ok := bytes.CutPrefix(raw[:end], []byte(indexTitle))
	if !ok || !bytes.Equal(sum[:], raw[end:]) {
		return false
	}
	for len(body) > 0 {
		size, n := binary.Uvarint(body)
		length, m := binary.Uvarint(body[max(n, 0):])
		if n <= 0 || m <= 0 || length > uint64(len(body)-n-m) {
			return false
		}
		c, err := cid.Cast(body[n+m : n+m+int(length)])
		if err != nil {
			return false
		}
		s.book(c, int64(size))
		body = body[n+m+int(length):]
	}
	return true
}

// book takes a chunk that is on disk into the books, as the one used last.
func (s *Store) book(c cid.Cid, size int64) {
	s.clock++
	s.chunks[c] = &chunk{size: int32(min(size, math.MaxInt32)), used: s.clock}
	s.used += int64(s.chunks[c].size)
	s.files++
}

// found is a chunk's file.
type found struct {
	c    cid.Cid
	size int64
	time int64 // when it was written
}

// readers is how many folders are read at a time.
const readers = 8

// loadChunks learns from names and sizes what is here, and from times what was
// written last.
func (s *Store) loadChunks() error {
	entries, err := os.ReadDir(s.folder("chunks"))
	if err != nil {
		return err
	}
	work := make(chan string)
	var mu sync.Mutex
	var list []found
	var errs []error
	var group sync.WaitGroup
	for range readers {
		group.Go(func() {
			for name := range work {
				part, err := s.loadFolder(name)
				mu.Lock()
				list = append(list, part...)
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	for _, e := range entries {
		if e.IsDir() {
			work <- e.Name()
		}
	}
	close(work)
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b found) int {
		return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.c.KeyString(), b.c.KeyString()))
	})
	for _, f := range list {
		s.book(f.c, f.size)
	}
	return nil
}

// loadFolder lists the chunks of one folder. What is not named as a chunk is not
// ours.
func (s *Store) loadFolder(name string) (list []found, err error) {
	entries, err := os.ReadDir(filepath.Join(s.folder("chunks"), name))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		c, err := cid.Decode(e.Name())
		if err != nil || e.IsDir() || s.path(c) != filepath.Join(s.folder("chunks"), name, e.Name()) {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		list = append(list, found{c, info.Size(), info.ModTime().UnixNano()})
	}
	return list, nil
}
