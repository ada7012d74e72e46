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
	"time"

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
	// By is whose share of the store it is counted in, as a publisher's id; leases for
	// the same are counted with it. Empty: nobody's.
	By string `json:"by,omitempty"`
	// Withheld keeps without serving to peers. What another lease lets them have
	// is served nevertheless, so that nobody learns of this one by asking.
	Withheld bool `json:"withheld,omitempty"`
	// Spare content gives way when room is needed, after what no lease keeps, and is
	// not fetched again.
	Spare bool `json:"spare,omitempty"`
	// Expires is when the lease ends by itself, in seconds since 1970; 0: never.
	Expires int64 `json:"expires,omitempty"`
}

// over reports whether a lease has expired.
func (l Lease) over(now time.Time) bool { return l.Expires != 0 && now.Unix() >= l.Expires }

// with is what two leases of the same come to: the kinder of both.
func (l Lease) with(o Lease) Lease {
	l.Withheld, l.Spare, l.By = l.Withheld && o.Withheld, l.Spare && o.Spare, cmp.Or(l.By, o.By)
	if l.Expires == 0 || o.Expires == 0 {
		l.Expires = 0
	} else {
		l.Expires = max(l.Expires, o.Expires)
	}
	return l
}

func (l Lease) same(o Lease) bool {
	return l.Root == o.Root && l.Reason == o.Reason && l.For == o.For
}

// Keep takes a lease. One of the same root, reason and For is there once; it is
// withheld until it is first kept unwithheld, and never again before its release, and
// so it is with spare; of two times of expiry the later one counts.
// What is missing of the content is covered as soon as it is put, so that it may
// be kept before it is fetched.
func (s *Store) Keep(l Lease) error {
	if !l.Root.Defined() || l.Reason == "" || len(l.Reason) > maxWord || len(l.For) > maxWord || len(l.By) > maxWord {
		return fmt.Errorf("keep %s for %.40q: a lease needs a root and a reason: %w", l.Root, l.Reason, ErrForeign)
	}
	s.evicting.Lock()
	defer s.evicting.Unlock()
	list := s.leasesOf(l.Root)
	switch i := slices.IndexFunc(list, l.same); {
	case i < 0:
		list = append(list, l)
	case list[i].over(s.now()):
		list[i] = l
	default:
		both := list[i].with(l)
		if both == list[i] {
			return nil
		}
		list[i] = both
	}
	if err := s.setLeases(l.Root, list); err != nil {
		return fmt.Errorf("keep %s: %w", l.Root, err)
	}
	if !l.Withheld {
		s.open.add(s, l)
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
	return s.releaseNow(which)
}

// releaseNow is release for those who hold evicting.
func (s *Store) releaseNow(which func(Lease) bool) error {
	for _, root := range s.keptRoots() {
		list := s.leasesOf(root)
		if !slices.ContainsFunc(list, which) {
			continue
		}
		if err := s.setLeases(root, slices.DeleteFunc(list, which)); err != nil {
			return fmt.Errorf("release %s: %w", root, err)
		}
		s.open.forget()
		if len(s.leasesOf(root)) == 0 {
			if err := s.unlink(root); err != nil {
				return fmt.Errorf("release %s: %w", root, err)
			}
		}
	}
	return nil
}

// Leases lists the leases that have not expired, ordered by root, reason and whom
// they are for.
func (s *Store) Leases() (list []Lease) {
	now := s.now()
	for _, root := range s.keptRoots() {
		list = append(list, s.leasesOf(root)...)
	}
	list = slices.DeleteFunc(list, func(l Lease) bool { return l.over(now) })
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
		if u.Bytes, err = s.Here(roots[reason]...); err != nil {
			return nil, err
		}
		list = append(list, u)
	}
	return list, nil
}

// Here is how many bytes of the roots and all below them are in the store. What
// several of them share counts once.
func (s *Store) Here(roots ...cid.Cid) (bytes int64, err error) {
	set := map[cid.Cid]bool{}
	if err := s.reach(set, roots); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range set {
		if k := s.chunks[c]; k != nil {
			bytes += int64(k.size)
		}
	}
	return bytes, nil
}

// Left is how many bytes more may be brought for a root that is kept for others
// alone: what Config.Share leaves to the one who has most of it left. It is without
// limit if somebody keeps it in nobody's share, and for what nobody keeps.
func (s *Store) Left(root cid.Cid) (bytes int64, limited bool, err error) {
	if s.cfg.Share <= 0 {
		return 0, false, nil
	}
	all := s.Leases()
	whose := map[string]string{}
	for _, l := range all {
		if l.By != "" && l.For != "" {
			whose[l.For] = l.By
		}
	}
	roots := map[string][]cid.Cid{}
	of := map[string]bool{}
	for _, l := range all {
		by := cmp.Or(l.By, whose[l.For])
		roots[by] = append(roots[by], l.Root)
		of[by] = of[by] || l.Root == root
	}
	if of[""] {
		return 0, false, nil
	}
	for by, has := range of {
		if !has {
			continue
		}
		used, err := s.Here(roots[by]...)
		if err != nil {
			return 0, false, err
		}
		bytes, limited = max(bytes, s.cfg.Share-used), true
	}
	return bytes, limited, nil
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
