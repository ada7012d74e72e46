// Package chunkstore keeps content on disk by its CID: adding and writing out
// files and folders, verifying every block, leases, and a hard quota.
//
// Content is UnixFS over CIDv1 in the shape that IPFS implementations call
// unixfs-v1-2025: raw leaves of 1 MiB, 1,024 links a node, folders sharded above
// 256 KiB; BLAKE3 for what Talka makes, sha2-256 accepted, no block above 2 MiB.
// A chunk is one file, written beside its place and renamed into it, so that a
// crash leaves no half of one and a damaged file costs only itself. [Store.Sync]
// is the commit point: what was put before it survives a power cut. Files were
// measured against packs: packs take a small chunk several times faster, and a
// leaf of 1 MiB no faster, while a file is removed at once, shared by a link and
// needs no compaction. An index written by Close makes up for slow opening; it is
// rebuilt from the folders after a crash. [Store.Scrub] finds damage in what
// nobody reads.
//
// A lease with a reason keeps a root and all below it, and says whether peers may
// have it: what no lease covers, and what only withheld leases do, is served to
// nobody, as if it were not here, but for records that [Store.ServeRecords] adds.
// The quota, in bytes and in files, is checked
// before a write and always holds; when it presses, damaged chunks go first, then
// what neither a lease nor running work covers, the least recently used first.
//
// A Store is safe for concurrent use. One process has a directory open, and a
// second is told so. Reading never waits for writing or eviction; Keep, Release
// and Hold wait for a running eviction.
package chunkstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	mh "github.com/multiformats/go-multihash"
	_ "github.com/multiformats/go-multihash/register/blake3" // the hash of what Talka makes

	"github.com/talka-grid/talka/workunits"
)

// MaxBlock is the largest block that is stored or fetched, in bytes.
const MaxBlock = 2 << 20

// Errors of a store.
var (
	ErrNotFound = errors.New("content is not in the store")
	ErrFull     = errors.New("the store is full")
	ErrDamaged  = errors.New("content does not match its CID")
	ErrForeign  = errors.New("content of a kind that is not stored")
	ErrInUse    = errors.New("the store is open already")
	ErrShare    = errors.New("one publisher's share of the store is used up")
	ErrDenied   = errors.New("content is on this node's deny list")
)

// notFound is an ErrNotFound that IPFS libraries understand as well.
func notFound(c cid.Cid) error { return fmt.Errorf("%w: %w", ErrNotFound, ipld.ErrNotFound{Cid: c}) }

// Config says how much a store may hold.
type Config struct {
	// Quota is the most bytes of chunks on disk, and with what is linked the most that
	// one Materialise writes; 0 for no limit.
	Quota int64
	// Files is the most files that chunks take; 0 for no limit. Leases come on top,
	// one file for each root that is kept.
	Files int64
	// Share is the most bytes that may be brought for one whom leases are counted for
	// (Lease.By); 0 for no limit. See Left.
	Share int64
	// Deny is content that is not to be here, whatever its CID's form: it is
	// removed by Open, and refused from then on.
	Deny []cid.Cid
}

// Store is a directory of chunks. Make it with Open.
type Store struct {
	dir  string
	cfg  Config
	lock *os.File
	deny map[string]bool // multihashes

	evicting sync.Mutex // held by an eviction, and by what it must not miss
	syncing  sync.Mutex // held by Sync
	open     opened
	crash    func()                                        // of tests; see step
	records  atomic.Pointer[func(workunits.Digest) []byte] // see ServeRecords

	now     func() time.Time // when leases expire
	mu      sync.Mutex
	chunks  map[cid.Cid]*chunk        // wholly here
	writing map[cid.Cid]chan struct{} // on the way; closed when written or given up
	damaged map[string]int64          // bytes of what was set aside, by file name
	used    int64                     // bytes of chunks, of those being written, of damaged ones
	files   int64                     // files of these
	temps   int64                     // counts temporary files
	clock   int64                     // counts uses
	leases  map[cid.Cid][]Lease       // none is empty
	roots   map[cid.Cid]int           // what running work covers, with all below
	held    map[cid.Cid]int           // single chunks that running adds cover
	links   map[cid.Cid]place         // of linked leaves, copied ones among them
	sources map[cid.Cid][]*source     // by root
	dirty   map[string]bool           // files not synced yet, some of them gone; false: only their names are not
}

// chunk is what is known of a chunk that is here.
type chunk struct {
	used int64 // the clock when it was last put or read
	size int32
	sure bool // it was written or read since the store was opened
	// linked: it is in a file of the owner's, at its place in links, and nowhere else.
	linked bool
}

// Open opens or makes a store. The error wraps ErrInUse if it is open elsewhere.
// Close it.
func Open(dir string, cfg Config) (_ *Store, err error) {
	s := &Store{
		dir: dir, cfg: cfg, deny: map[string]bool{}, now: time.Now,
		chunks: map[cid.Cid]*chunk{}, writing: map[cid.Cid]chan struct{}{}, damaged: map[string]int64{},
		links: map[cid.Cid]place{}, sources: map[cid.Cid][]*source{}, leases: map[cid.Cid][]Lease{}, roots: map[cid.Cid]int{}, held: map[cid.Cid]int{}, dirty: map[string]bool{},
	}
	if s.lock, err = lockDir(dir); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.lock.Close())
		}
	}()
	if err := os.RemoveAll(s.folder("tmp")); err != nil { // unfinished writes
		return nil, fmt.Errorf("open store: %w", err)
	}
	for _, sub := range []string{"chunks", "leases", "tmp", "damaged", "linked"} {
		if err := os.MkdirAll(s.folder(sub), 0o700); err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
	}
	for _, c := range cfg.Deny {
		s.deny[string(c.Hash())] = true
	}
	if err := errors.Join(s.load(), s.loadDamaged(), s.loadLeases(), s.loadLinks(), s.dropDenied()); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return s, nil
}

// lockDir makes a store's folder this process's own until the file is closed.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		if errors.Is(err, ErrInUse) {
			err = fmt.Errorf("%w: end the node that uses %s, or use another directory", err, dir)
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Close makes what was put and kept durable and lets others open the store. Call
// it once, when nothing uses the store any more.
func (s *Store) Close() error {
	err := s.Sync()
	if err == nil {
		err = s.saveIndex()
	}
	return errors.Join(err, s.lock.Close())
}

func (s *Store) folder(name string) string { return filepath.Join(s.dir, name) }

// load learns what is here.
func (s *Store) load() error {
	known, err := s.takeIndex()
	if known || err != nil {
		return err
	}
	clear(s.chunks) // of an index that broke off
	s.clock, s.used, s.files = 0, 0, 0
	return s.loadChunks()
}

// dropDenied removes what is denied.
func (s *Store) dropDenied() error {
	if len(s.deny) == 0 {
		return nil
	}
	for c := range s.chunks {
		if !s.denied(c) {
			continue
		}
		if err := s.remove(c); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) denied(c cid.Cid) bool { return s.deny[string(c.Hash())] }

// step is a point at which a test may have the process die.
func (s *Store) step() {
	if s.crash != nil {
		s.crash()
	}
}

func (s *Store) loadDamaged() error {
	entries, err := os.ReadDir(s.folder("damaged"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		s.damaged[e.Name()] = info.Size()
		s.used += info.Size()
		s.files++
	}
	return nil
}

// Storable reports as an error that wraps ErrForeign why no content of this name can
// be stored.
func Storable(c cid.Cid) error {
	if !c.Defined() {
		return fmt.Errorf("undefined CID: %w", ErrForeign)
	}
	p := c.Prefix()
	if p.Version != 1 && p.Codec != cid.DagProtobuf || p.MhType != mh.BLAKE3 && p.MhType != mh.SHA2_256 || p.MhLength != 32 {
		return fmt.Errorf("%s is named by another hash than BLAKE3 and sha2-256 of 32 bytes: %w", c, ErrForeign)
	}
	return nil
}

// Verify reports whether data is the content that c names, by the rules of this
// package. It is the one place that decides this.
func Verify(c cid.Cid, data []byte) error {
	if err := Storable(c); err != nil {
		return err
	}
	if len(data) > MaxBlock {
		return fmt.Errorf("%s: %d bytes, limit %d: %w", c, len(data), MaxBlock, ErrForeign)
	}
	got, err := c.Prefix().Sum(data)
	if err != nil {
		return fmt.Errorf("%s: %w", c, err)
	}
	if !got.Equals(c) {
		return fmt.Errorf("%s: %w", c, ErrDamaged)
	}
	return nil
}

// path is where a chunk is; the last characters spread chunks over folders.
func (s *Store) path(c cid.Cid) string {
	name := c.String()
	return filepath.Join(s.dir, "chunks", name[len(name)-2:], name)
}

// forget drops a chunk from the books. The lock is held.
func (s *Store) forget(c cid.Cid) {
	s.used -= int64(s.chunks[c].size)
	s.files--
	delete(s.dirty, s.path(c))
	if p, ok := s.links[c]; ok { // there is one in the owner's files
		s.chunks[c] = &chunk{size: p.size, used: s.chunks[c].used, linked: true}
		return
	}
	delete(s.chunks, c)
}

// Put verifies and stores a chunk. The error wraps ErrFull if there is no room,
// and ErrDamaged, ErrForeign or ErrDenied if it is not what may be stored.
func (s *Store) Put(ctx context.Context, b blocks.Block) error {
	return s.store(ctx, b.Cid(), b.RawData(), false)
}

// store is Put; what is made was named by what it holds a moment ago, and is not
// hashed a second time.
func (s *Store) store(ctx context.Context, c cid.Cid, data []byte, made bool) error {
	mine, err := s.claim(ctx, c, data)
	if err != nil || !mine {
		return err
	}
	err = s.put(ctx, c, data, made)
	s.mu.Lock()
	close(s.writing[c])
	delete(s.writing, c)
	if err == nil {
		s.clock++
		s.chunks[c] = &chunk{size: int32(len(data)), used: s.clock, sure: true}
		s.dirty[s.path(c)] = true
	}
	s.mu.Unlock()
	if err == nil {
		s.open.came(s, c)
	}
	return err
}

// claim makes the caller the one that writes a chunk, unless it is here. It
// waits for who writes it now. What an earlier run left is looked at, for a power cut
// may have torn it: whoever puts a chunk relies on it afterwards.
func (s *Store) claim(ctx context.Context, c cid.Cid, data []byte) (mine bool, err error) {
	for {
		s.mu.Lock()
		if k := s.chunks[c]; k != nil {
			s.clock++
			k.used = s.clock
			sure := k.sure
			s.mu.Unlock()
			if sure {
				return false, nil
			}
			if err := s.ascertain(c, data); err != nil {
				return false, err
			}
			continue
		}
		busy := s.writing[c]
		if busy == nil {
			s.writing[c] = make(chan struct{})
			s.mu.Unlock()
			return true, nil
		}
		s.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// ascertain looks whether a chunk on disk is as it should be, and sets it aside if
// not.
func (s *Store) ascertain(c cid.Cid, data []byte) error {
	if there, err := os.ReadFile(s.path(c)); err != nil || !bytes.Equal(there, data) {
		if _, err := s.read(c, nil); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.chunks[c]; k != nil {
		k.sure = true
	}
	return nil
}

func (s *Store) put(ctx context.Context, c cid.Cid, data []byte, made bool) error {
	if !made {
		if err := Verify(c, data); err != nil {
			return err
		}
	}
	if s.denied(c) {
		return fmt.Errorf("%s: %w", c, ErrDenied)
	}
	if err := s.reserve(ctx, int64(len(data))); err != nil {
		return err
	}
	err := s.write(c, data)
	if err == nil {
		return nil
	}
	s.mu.Lock()
	s.used -= int64(len(data))
	s.files--
	s.mu.Unlock()
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("the disk of %s has no room: %w: %w", s.dir, ErrFull, err)
	}
	return fmt.Errorf("write chunk: %w", err)
}

// write writes a chunk, which is never to be changed.
func (s *Store) write(c cid.Cid, data []byte) error {
	s.mu.Lock()
	s.temps++
	tmp := filepath.Join(s.dir, "tmp", strconv.FormatInt(s.temps, 10))
	s.mu.Unlock()
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o400)
	if err != nil {
		return err
	}
	s.step()
	_, err = f.Write(data)
	s.step()
	if err = errors.Join(err, f.Close()); err == nil {
		path := s.path(c)
		err = os.Rename(tmp, path)
		if errors.Is(err, fs.ErrNotExist) { // the first chunk of its folder
			if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
				s.step()
				err = os.Rename(tmp, path)
			}
		}
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	s.step()
	return nil
}

// PutMany stores chunks; it ends at the first error.
func (s *Store) PutMany(ctx context.Context, list []blocks.Block) error {
	for _, b := range list {
		if err := s.Put(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// DeleteBlock removes a chunk, kept or not.
func (s *Store) DeleteBlock(_ context.Context, c cid.Cid) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remove(c)
}

// remove removes a chunk if it is here. The lock is held.
func (s *Store) remove(c cid.Cid) error {
	switch k := s.chunks[c]; {
	case k == nil:
		return nil
	case k.linked:
		s.forgetLink(c)
		return nil
	}
	if err := os.Remove(s.path(c)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.step()
	s.forget(c)
	return nil
}

// AllKeysChan sends the CIDs of all chunks that are here now.
func (s *Store) AllKeysChan(ctx context.Context) (<-chan cid.Cid, error) {
	s.mu.Lock()
	all := make([]cid.Cid, 0, len(s.chunks))
	for c := range s.chunks {
		all = append(all, c)
	}
	s.mu.Unlock()
	out := make(chan cid.Cid)
	go func() {
		defer close(out)
		for _, c := range all {
			select {
			case out <- c:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

// Stat tells what a store holds.
type Stat struct {
	Chunks int
	Bytes  int64 // on disk, or about to be
	Files  int64 // that they take
	Quota  int64
	// Linked are bytes of chunks in the owner's own files, which count for no limit.
	Linked int64
	// Damaged chunks were found and set aside; the next writes that need room
	// remove them.
	Damaged      int
	DamagedBytes int64
}

// Stat tells what the store holds.
func (s *Store) Stat() Stat {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stat{Chunks: len(s.chunks), Bytes: s.used, Files: s.files, Quota: s.cfg.Quota, Damaged: len(s.damaged)}
	for _, size := range s.damaged {
		st.DamagedBytes += size
	}
	for c, p := range s.links {
		if k := s.chunks[c]; k != nil && k.linked {
			st.Linked += int64(p.size)
		}
	}
	return st
}
