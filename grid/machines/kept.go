package machines

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/talka-grid/talka/chunkstore/whole"
	"github.com/talka-grid/talka/workunits"
)

const (
	fileName    = "machines.json" // in the data directory, mode 0600
	fileVersion = 1
	maxFile     = 4 << 20 // a list that is full in every way has half of that
	maxRemovals = 256     // the oldest are forgotten
)

// kept is what the file holds.
type kept struct {
	Version  int       `json:"version"`
	Machines []Machine `json:"machines"`
	Removals []removal `json:"removals"` // oldest first
}

// removal is a machine that was cut off, and whom that is still to be told.
type removal struct {
	ID     workunits.NodeID   `json:"peer_id"`
	Word   string             `json:"word"` // the same wherever this removal is told
	At     time.Time          `json:"at"`
	Untold []workunits.NodeID `json:"untold"`
	Undone bool               `json:"undone,omitempty"` // the machine was paired again
}

func readKept(dir string) (k kept, err error) {
	path := filepath.Join(dir, fileName)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return kept{Version: fileVersion}, nil
	}
	if err != nil {
		return k, err
	}
	if err := json.Unmarshal(b, &k); err != nil || len(b) > maxFile {
		return k, fmt.Errorf("%s is damaged (%w); remove it and pair anew", path, cmp.Or(err, ErrLimit))
	}
	if k.Version != fileVersion {
		return k, fmt.Errorf("%s is of version %d, want %d: it was written by another version of Talka", path, k.Version, fileVersion)
	}
	seen := map[workunits.NodeID]bool{}
	for _, m := range k.Machines {
		if seen[m.ID] || m.ID.IsZero() || !m.Role.Valid() || ValidName(m.Name) != nil || checkAddrs(m.Addrs) != nil {
			return k, fmt.Errorf("%s is damaged at machine %q; remove it and pair anew", path, m.Name)
		}
		seen[m.ID] = true
	}
	return k, nil
}

// write replaces the file as a whole, and durably.
func (k kept) write(dir string) error {
	b, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	return whole.Write(filepath.Join(dir, fileName), b, []byte{'\n'})
}

func (k kept) clone() kept {
	c := kept{Version: k.Version, Machines: k.list(), Removals: slices.Clone(k.Removals)}
	for i := range c.Removals {
		c.Removals[i].Untold = slices.Clone(c.Removals[i].Untold)
	}
	return c
}

func (k kept) list() []Machine {
	all := []Machine{}
	for _, m := range k.Machines {
		all = append(all, m.clone())
	}
	slices.SortFunc(all, func(x, y Machine) int { return cmp.Or(cmp.Compare(x.Name, y.Name), x.ID.Compare(y.ID)) })
	return all
}

// find is the machine of that id in the list itself, or nil.
func (k *kept) find(id workunits.NodeID) *Machine {
	if i := slices.IndexFunc(k.Machines, func(m Machine) bool { return m.ID == id }); i >= 0 {
		return &k.Machines[i]
	}
	return nil
}

func (k *kept) named(name string) *Machine {
	if i := slices.IndexFunc(k.Machines, func(m Machine) bool { return m.Name == name }); i >= 0 {
		return &k.Machines[i]
	}
	return nil
}

// put adds a machine, or replaces what was known of it. Its name is made one of its
// own; one that is known already keeps the name that its owner gave it.
func (k *kept) put(m Machine) error {
	if old := k.find(m.ID); old != nil {
		m.Name = old.Name
		*old = m
		return nil
	}
	if len(k.Machines) >= MaxMachines {
		return fmt.Errorf("%w: %d machines are paired already; remove one first", ErrLimit, MaxMachines)
	}
	for base, n := m.Name, 2; k.named(m.Name) != nil; n++ {
		tail := "-" + strconv.Itoa(n)
		m.Name = nameOf(base[:min(len(base), MaxName-len(tail))]) + tail
	}
	k.Machines = append(k.Machines, m)
	return nil
}

// drop removes a machine and all that came by it, and returns them.
func (k *kept) drop(id workunits.NodeID) (gone []Machine) {
	for ids := []workunits.NodeID{id}; len(ids) > 0; ids = ids[1:] {
		k.Machines = slices.DeleteFunc(k.Machines, func(m Machine) bool {
			if m.ID != ids[0] && m.By != ids[0] {
				return false
			}
			gone = append(gone, m)
			if m.ID != ids[0] {
				ids = append(ids, m.ID)
			}
			return true
		})
	}
	return gone
}

// tell notes that all machines on the list but some are to hear of a removal, and who
// was removed, too.
func (k *kept) tell(id workunits.NodeID, word string, now time.Time, but ...workunits.NodeID) {
	r := removal{ID: id, Word: word, At: now, Untold: []workunits.NodeID{}}
	for _, to := range append(k.list(), Machine{ID: id}) {
		if !slices.Contains(but, to.ID) {
			r.Untold = append(r.Untold, to.ID)
		}
	}
	k.Removals = append(k.Removals, r)
	if over := len(k.Removals) - maxRemovals; over > 0 {
		k.Removals = slices.Delete(k.Removals, 0, over)
	}
}

// heard reports whether a word was told before.
func (k *kept) heard(word string) bool {
	return slices.ContainsFunc(k.Removals, func(r removal) bool { return r.Word == word })
}

// removed reports whether a machine was cut off, at some time.
func (k *kept) removed(id workunits.NodeID) bool {
	return slices.ContainsFunc(k.Removals, func(r removal) bool { return r.ID == id && !r.Undone })
}

// undo takes removals back: the machine was paired again.
func (k *kept) undo(id workunits.NodeID) {
	for i := range k.Removals {
		if r := &k.Removals[i]; r.ID == id {
			r.Undone, r.Untold = true, nil
		}
	}
}

// untold are the removals that a machine has not heard of yet.
func (k *kept) untold(to workunits.NodeID) (words []removed) {
	for _, r := range k.Removals {
		if slices.Contains(r.Untold, to) && len(words) < maxWords {
			words = append(words, removed{ID: r.ID, Word: r.Word})
		}
	}
	return words
}

// told takes back what a machine was to be told.
func (k *kept) told(to workunits.NodeID, words []removed) {
	for i := range k.Removals {
		r := &k.Removals[i]
		if slices.ContainsFunc(words, func(w removed) bool { return w.Word == r.Word }) {
			r.Untold = slices.DeleteFunc(r.Untold, func(id workunits.NodeID) bool { return id == to })
		}
	}
}

// short names machines in a sentence.
func short(list []Machine) string {
	var names []string
	for _, m := range list {
		names = append(names, m.Name)
	}
	return strings.Join(names, ", ")
}
