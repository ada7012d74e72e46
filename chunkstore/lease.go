package chunkstore

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/ipfs/go-cid"
)

// maxWord bounds a lease's reason and whom it is for, in bytes.
const maxWord = 128

// unreadable is the reason of a lease whose file cannot be read: what it named is
// kept, and not served.
const unreadable = "unreadable lease"

// Lease keeps a root and all below it. A root has one for each reason and for
// each that it is kept for.
type Lease struct {
	Root   cid.Cid `json:"-"`
	Reason string  `json:"reason"`        // 1 to 128 bytes
	For    string  `json:"for,omitempty"` // as a job's id; up to 128 bytes
	// Withheld keeps without serving to peers. What another lease lets them have
	// is served nevertheless, so that nobody learns of this one by asking.
	Withheld bool `json:"withheld,omitempty"`
}

func (l Lease) same(o Lease) bool {
	return l.Root == o.Root && l.Reason == o.Reason && l.For == o.For
}

// Keep takes a lease. One of the same root, reason and For is there once; it is
// withheld until it is first kept unwithheld, and never again before its release.
// What is missing of the content is covered as soon as it is put, so that it may
// be kept before it is fetched.
func (s *Store) Keep(l Lease) error {
	if !l.Root.Defined() || l.Reason == "" || len(l.Reason) > maxWord || len(l.For) > maxWord {
		return fmt.Errorf("keep %s for %.40q: a lease needs a root and a reason: %w", l.Root, l.Reason, ErrForeign)
	}
	s.evicting.Lock()
	defer s.evicting.Unlock()
	list := s.leasesOf(l.Root)
	switch i := slices.IndexFunc(list, l.same); {
	case i < 0:
		list = append(list, l)
	case list[i].Withheld && !l.Withheld:
		list[i] = l
	default:
		return nil
	}
	if err := s.setLeases(l.Root, list); err != nil {
		return fmt.Errorf("keep %s: %w", l.Root, err)
	}
	if !l.Withheld {
		s.open.add(s, l.Root)
	}
	return nil
}

// Release ends a lease, if there is such a one.
func (s *Store) Release(l Lease) error { return s.release(l.same) }

// ReleaseFor ends all leases for someone.
func (s *Store) ReleaseFor(who string) error {
	return s.release(func(l Lease) bool { return l.For == who })
}

func (s *Store) release(which func(Lease) bool) error {
	s.evicting.Lock()
	defer s.evicting.Unlock()
	for _, root := range s.keptRoots() {
		list := s.leasesOf(root)
		if !slices.ContainsFunc(list, which) {
			continue
		}
		if err := s.setLeases(root, slices.DeleteFunc(list, which)); err != nil {
			return fmt.Errorf("release %s: %w", root, err)
		}
		s.open.forget()
	}
	return nil
}

// Leases lists the leases, ordered by root, reason and whom they are for.
func (s *Store) Leases() (list []Lease) {
	for _, root := range s.keptRoots() {
		list = append(list, s.leasesOf(root)...)
	}
	slices.SortFunc(list, func(a, b Lease) int {
		return cmp.Or(cmp.Compare(a.Root.KeyString(), b.Root.KeyString()), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.For, b.For))
	})
	return list
}

// Usage tells what is kept for a reason. What is kept for several counts for each.
type Usage struct {
	Reason string
	Roots  int
	Bytes  int64 // of what is here
}

// Usage lists what is kept by reason, in order.
func (s *Store) Usage() (list []Usage, err error) {
	roots := map[string][]cid.Cid{}
	for _, l := range s.Leases() {
		if r := roots[l.Reason]; len(r) == 0 || r[len(r)-1] != l.Root { // they are in order
			roots[l.Reason] = append(r, l.Root)
		}
	}
	for _, reason := range slices.Sorted(maps.Keys(roots)) {
		u := Usage{Reason: reason, Roots: len(roots[reason])}
		set := map[cid.Cid]bool{}
		if err := s.reach(set, roots[reason]); err != nil {
			return nil, err
		}
		s.mu.Lock()
		for c := range set {
			if k := s.chunks[c]; k != nil {
				u.Bytes += k.size
			}
		}
		s.mu.Unlock()
		list = append(list, u)
	}
	return list, nil
}

func (s *Store) keptRoots() []cid.Cid {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.leases))
}

// leasesOf is a root's leases, for the caller to change.
func (s *Store) leasesOf(root cid.Cid) []Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.leases[root])
}

// setLeases writes a root's leases down. The caller holds evicting.
func (s *Store) setLeases(root cid.Cid, list []Lease) error {
	path := filepath.Join(s.folder("leases"), root.String())
	// What replaces a lease that is durable must not be less so than that.
	careful := s.durable(path)
	if len(list) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		s.step()
	} else {
		text, err := json.Marshal(list)
		if err != nil {
			return err
		}
		tmp := filepath.Join(s.folder("tmp"), "lease")
		if err := os.WriteFile(tmp, text, 0o600); err != nil {
			return err
		}
		s.step()
		if careful {
			if err := syncFile(tmp); err != nil {
				return err
			}
		}
		if err := os.Rename(tmp, path); err != nil {
			return err
		}
		s.step()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leases[root] = list
	if len(list) == 0 {
		delete(s.leases, root)
	}
	s.dirty[path] = !careful // if it is gone, its folder is to be synced
	return nil
}

// durable reports whether a file is there with its content synced.
func (s *Store) durable(path string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := os.Lstat(path)
	return err == nil && !s.dirty[path]
}

func (s *Store) loadLeases() error {
	entries, err := os.ReadDir(s.folder("leases"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		root, err := cid.Decode(e.Name())
		if err != nil {
			continue // not a file of ours
		}
		text, err := os.ReadFile(filepath.Join(s.folder("leases"), e.Name()))
		if err != nil {
			return err
		}
		var list []Lease
		if err := json.Unmarshal(text, &list); err != nil || len(list) == 0 {
			list = []Lease{{Reason: unreadable, Withheld: true}}
		}
		for i := range list {
			list[i].Root = root
		}
		s.leases[root] = list
	}
	return nil
}

// Hold covers a root and all below it, here or yet to come, while work with it
// runs; it ends with the process at the latest. Call release once.
func (s *Store) Hold(root cid.Cid) (release func()) {
	s.evicting.Lock()
	defer s.evicting.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roots[root]++
	return func() { s.unhold(s.roots, root) }
}

// holdChunk covers one chunk.
func (s *Store) holdChunk(c cid.Cid) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[c]++
}

func (s *Store) unhold(holds map[cid.Cid]int, list ...cid.Cid) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range list {
		if holds[c]--; holds[c] == 0 {
			delete(holds, c)
		}
	}
}
