package chunkstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/ipfs/go-cid"
	"lukechampine.com/blake3"
)

// Linked content is added without being copied: its leaves stay where they are, in
// the owner's files, and the store knows the places. They take nothing of the quota.
// Like any chunk a leaf is verified each time that it is read, so a file that has
// changed is found out, never served: its leaves are missing from then on. CheckLinks
// looks for changes that nobody has read.
//
// What is known of a root's files is one file in the folder linked, named by the root:
// this line, the number of files, for each its path behind its length, its size, its
// time of change and the number of its leaves, for each of these the offset, the size
// and the CID behind its length; all numbers are uvarints. The BLAKE3 sum of all that
// ends it.
const linkTitle = "talka linked 1\n"

// source is a file with leaves of a root.
type source struct {
	root   cid.Cid
	path   string
	size   int64
	time   int64 // of its last change, in nanoseconds since 1970
	leaves []leaf
}

// leaf is a chunk's place in a file.
type leaf struct {
	c      cid.Cid
	offset int64
	size   int32
}

// place is where a linked chunk is.
type place struct {
	path   string
	offset int64
	size   int32
}

// stamp is what tells that a file has been written to.
func (s *source) stamp(info fs.FileInfo) { s.size, s.time = info.Size(), info.ModTime().UnixNano() }

func (s *source) unchanged() bool {
	info, err := os.Stat(s.path)
	return err == nil && info.Mode().IsRegular() && info.Size() == s.size && info.ModTime().UnixNano() == s.time
}

// link makes a root's leaves known, for good: the caller has added the nodes above
// them.
func (s *Store) link(root cid.Cid, files []*source) error {
	for _, f := range files {
		if !f.unchanged() {
			return fmt.Errorf("%s was changed while it was added: add it again", f.path)
		}
	}
	raw := binary.AppendUvarint([]byte(linkTitle), uint64(len(files)))
	for _, f := range files {
		f.root = root
		raw = binary.AppendUvarint(raw, uint64(len(f.path)))
		raw = append(raw, f.path...)
		raw = binary.AppendUvarint(raw, uint64(f.size))
		raw = binary.AppendUvarint(raw, uint64(f.time))
		raw = binary.AppendUvarint(raw, uint64(len(f.leaves)))
		for _, l := range f.leaves {
			raw = binary.AppendUvarint(raw, uint64(l.offset))
			raw = binary.AppendUvarint(raw, uint64(l.size))
			raw = binary.AppendUvarint(raw, uint64(l.c.ByteLen()))
			raw = append(raw, l.c.KeyString()...)
		}
	}
	sum := blake3.Sum256(raw)
	tmp, path := filepath.Join(s.folder("tmp"), "link-"+root.String()), filepath.Join(s.folder("linked"), root.String())
	err := errors.Join(os.WriteFile(tmp, append(raw, sum[:]...), 0o600), syncFile(tmp))
	s.step()
	if err == nil {
		err = os.Rename(tmp, path)
	}
	s.step()
	if err = errors.Join(err, syncFile(s.folder("linked"))); err != nil {
		return fmt.Errorf("link: %w", err)
	}
	s.bookLinks(root, files)
	return nil
}

// bookLinks takes a root's linked leaves into the books.
func (s *Store) bookLinks(root cid.Cid, files []*source) {
	s.mu.Lock()
	s.sources[root] = files
	var fresh []cid.Cid
	for _, f := range files {
		for _, l := range f.leaves {
			if s.denied(l.c) {
				continue
			}
			if _, known := s.links[l.c]; known && s.chunks[l.c] != nil {
				continue // another file's will do
			}
			s.links[l.c] = place{f.path, l.offset, l.size}
			if s.chunks[l.c] == nil {
				s.clock++
				s.chunks[l.c] = &chunk{size: l.size, used: s.clock, linked: true}
				fresh = append(fresh, l.c)
			}
		}
	}
	s.mu.Unlock()
	for _, c := range fresh {
		s.open.came(s, c)
	}
}

// readLinked reads and verifies a linked chunk. What is not there any more is missing
// from then on.
func (s *Store) readLinked(c cid.Cid, p place) ([]byte, error) {
	data, err := p.read()
	if err == nil && Verify(c, data) == nil {
		return data, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.links[c] == p {
		s.forgetLink(c)
	}
	return nil, notFound(c)
}

// read reads a chunk at its place, which is not verified.
func (p place) read() ([]byte, error) {
	f, err := os.Open(p.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, p.size)
	_, err = io.ReadFull(io.NewSectionReader(f, p.offset, int64(p.size)), data)
	return data, err
}

// loadLinks learns what is linked. A record that a power cut has torn, or that
// somebody has changed, is dropped: its leaves are missing then.
func (s *Store) loadLinks() error {
	entries, err := os.ReadDir(s.folder("linked"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		root, err := cid.Decode(e.Name())
		if err != nil {
			continue // not ours
		}
		raw, err := os.ReadFile(filepath.Join(s.folder("linked"), e.Name()))
		if err != nil {
			return err
		}
		files, ok := parseLinks(root, raw)
		if !ok {
			if err := os.Remove(filepath.Join(s.folder("linked"), e.Name())); err != nil {
				return err
			}
			continue
		}
		s.bookLinks(root, files)
		if len(s.leases[root]) == 0 { // the process ended before it was kept
			if err := s.unlink(root); err != nil {
				return err
			}
		}
	}
	return nil
}

func parseLinks(root cid.Cid, raw []byte) (files []*source, ok bool) {
	end := len(raw) - 32
	if end < 0 {
		return nil, false
	}
	sum := blake3.Sum256(raw[:end])
	body, ok := bytes.CutPrefix(raw[:end], []byte(linkTitle))
	if !ok || !bytes.Equal(sum[:], raw[end:]) {
		return nil, false
	}
	r := &fields{body: body}
	for range r.number() {
		f := &source{root: root, path: string(r.take(r.number())), size: int64(r.number()), time: int64(r.number())}
		for n := r.number(); n > 0 && !r.bad; n-- {
			l := leaf{offset: int64(r.number()), size: int32(min(r.number(), MaxBlock+1))}
			_, c, err := cid.CidFromBytes(r.take(r.number()))
			r.bad = r.bad || err != nil || l.offset < 0 || l.size > MaxBlock
			l.c = c
			f.leaves = append(f.leaves, l)
		}
		if r.bad {
			return nil, false
		}
		files = append(files, f)
	}
	return files, !r.bad && len(r.body) == 0
}

// fields reads numbers and bytes until something is wrong.
type fields struct {
	body []byte
	bad  bool
}

func (r *fields) number() uint64 {
	n, size := binary.Uvarint(r.body)
	if size <= 0 {
		r.bad, r.body = true, nil
		return 0
	}
	r.body = r.body[size:]
	return n
}

func (r *fields) take(n uint64) []byte {
	if n > uint64(len(r.body)) {
		r.bad, r.body = true, nil
		return nil
	}
	data := r.body[:n]
	r.body = r.body[n:]
	return data
}

// unlink forgets a root's linked leaves.
func (s *Store) unlink(root cid.Cid) error {
	if err := os.Remove(filepath.Join(s.folder("linked"), root.String())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.mu.Lock()
	gone := s.sources[root]
	delete(s.sources, root)
	for _, f := range gone {
		for _, l := range f.leaves {
			if p := s.links[l.c]; p == (place{f.path, l.offset, l.size}) {
				s.forgetLink(l.c)
			}
		}
	}
	others := maps.Clone(s.sources)
	s.mu.Unlock()
	for other, files := range others { // they may have had the same leaves
		s.bookLinks(other, files)
	}
	return nil
}

// forgetLink forgets a leaf's place, and the leaf if there is no copy. The lock is
// held.
func (s *Store) forgetLink(c cid.Cid) {
	delete(s.links, c)
	if k := s.chunks[c]; k != nil && k.linked {
		delete(s.chunks, c)
	}
}

// Changed is a file whose linked content is not what it was.
type Changed struct {
	Path   string
	Root   cid.Cid
	Leaves int // that are missing now
}

// CheckLinks looks at the files of linked content that were written to, moved or
// removed since they were last found in order. What is as it was stays; the rest is
// missing from then on, and returned. Pace is as of Scrub. It is called by one at a
// time.
func (s *Store) CheckLinks(ctx context.Context, pace func(ctx context.Context, n int) error) (list []Changed, err error) {
	s.mu.Lock()
	all := maps.Clone(s.sources)
	s.mu.Unlock()
	for root, files := range all {
		for _, f := range files {
			if f.unchanged() {
				continue
			}
			lost, err := s.checkSource(ctx, f, pace)
			if err != nil {
				return list, err
			}
			if lost > 0 {
				list = append(list, Changed{f.path, root, lost})
			}
		}
	}
	slices.SortFunc(list, func(a, b Changed) int { return bytes.Compare([]byte(a.Path), []byte(b.Path)) })
	return list, nil
}

// checkSource reads a file that changed, and tells how many of its leaves are lost.
func (s *Store) checkSource(ctx context.Context, f *source, pace func(ctx context.Context, n int) error) (lost int, err error) {
	info, statErr := os.Stat(f.path)
	for _, l := range f.leaves {
		s.mu.Lock()
		here := s.links[l.c] == place{f.path, l.offset, l.size}
		s.mu.Unlock()
		if !here {
			continue
		}
		if err := pace(ctx, int(l.size)); err != nil {
			return lost, err
		}
		data, err := place{f.path, l.offset, l.size}.read()
		if err == nil && Verify(l.c, data) == nil {
			continue
		}
		lost++
		s.mu.Lock()
		s.forgetLink(l.c)
		s.mu.Unlock()
	}
	if statErr == nil {
		f.stamp(info)
	}
	return lost, nil
}
