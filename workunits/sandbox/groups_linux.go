package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// groups holds each child in a control group (version 2) of its own, below one that
// was delegated to this process alone, as systemd does with Delegate=. The kernel
// then ends a child at the byte over its memory, of whatever kind that is, refuses
// threads over their number, and lets everything else on the machine go first. Nil
// has no groups.
type groups struct {
	units string // folder of the group of all children
	made  atomic.Uint64
}

// The groups below the delegated one: a group with controllers for others holds no
// process itself.
const (
	ownGroup   = "talka-node"
	unitsGroup = "talka-units"
)

var errNotDelegated = errors.New("no control group was delegated to this process alone")

// openGroups makes the groups. This process moves to another one below its own.
func openGroups() (*groups, error) {
	dir, err := groupOf(os.Getpid())
	if err != nil {
		return nil, err
	}
	dir = strings.TrimSuffix(dir, "/"+ownGroup) // of another pool
	if err := delegated(dir); err != nil {
		return nil, err
	}
	g := &groups{units: filepath.Join(dir, unitsGroup)}
	for _, name := range []string{filepath.Join(dir, ownGroup), g.units} {
		if err := os.Mkdir(name, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, err
		}
	}
	g.sweep()
	if err := setGroup(filepath.Join(dir, ownGroup), "cgroup.procs", strconv.Itoa(os.Getpid())); err != nil {
		return nil, err
	}
	for _, parent := range []string{dir, g.units} {
		for _, controller := range []string{"+memory", "+pids"} {
			if err := setGroup(parent, "cgroup.subtree_control", controller); err != nil {
				return nil, err
			}
		}
	}
	// The processor's time is shared by niceness as well, where this cannot be had.
	if setGroup(dir, "cgroup.subtree_control", "+cpu") == nil && setGroup(g.units, "cpu.idle", "1") != nil {
		_ = setGroup(g.units, "cpu.weight", "1")
	}
	return g, nil
}

// groupOf is the folder of a process's group.
func groupOf(pid int) (string, error) {
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(list)) {
		if path, is := strings.CutPrefix(strings.TrimSpace(line), "0::"); is {
			return belowMount(path)
		}
	}
	return "", errNotDelegated
}

// belowMount finds a group's folder in what is mounted.
func belowMount(path string) (string, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		place, kind, _ := strings.Cut(line, " - ")
		fields := strings.Fields(place)
		if !strings.HasPrefix(kind, "cgroup2 ") || len(fields) < 5 {
			continue
		}
		if root := strings.TrimSuffix(fields[3], "/"); strings.HasPrefix(path+"/", root+"/") {
			return filepath.Join(fields[4], strings.TrimPrefix(path, root)), nil
		}
	}
	return "", errNotDelegated
}

// delegated says whether a group is this process's to divide: it is marked so, or
// belongs to its user who is not root, and holds no other process.
func delegated(dir string) error {
	var s unix.Stat_t
	if err := unix.Stat(dir, &s); err != nil {
		return err
	}
	marked := s.Uid != 0 && int(s.Uid) == os.Geteuid()
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		var mark [1]byte
		n, err := unix.Getxattr(dir, name, mark[:])
		marked = marked || err == nil && n == 1 && mark[0] == '1'
	}
	processes, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return err
	}
	for _, pid := range bytes.Fields(processes) {
		marked = marked && string(pid) == strconv.Itoa(os.Getpid())
	}
	if !marked {
		return errNotDelegated
	}
	return nil
}

func setGroup(dir, file, value string) error {
	return os.WriteFile(filepath.Join(dir, file), []byte(value), 0)
}

// sweep removes the groups of a process that died, whose children died with it.
func (g *groups) sweep() {
	old, _ := filepath.Glob(filepath.Join(g.units, "*-*")) // the pattern is not wrong
	for _, dir := range old {
		_ = unix.Rmdir(dir)
	}
}

// group is that of one child. Nil is none.
type group struct {
	dir    string
	memory uint64 // bytes that were allowed last
}

// add puts a new child into a group of its own.
func (g *groups) add(pid int) (*group, error) {
	if g == nil {
		return nil, nil //nolint:nilnil // see the type
	}
	c := &group{dir: filepath.Join(g.units, fmt.Sprintf("%d-%d", os.Getpid(), g.made.Add(1)))}
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		return nil, err
	}
	_ = setGroup(c.dir, "memory.swap.max", "0") // where there is swap
	err := errors.Join(
		setGroup(c.dir, "memory.oom.group", "1"),
		setGroup(c.dir, "pids.max", strconv.FormatUint(mostThreads(), 10)),
		setGroup(c.dir, "cgroup.procs", strconv.Itoa(pid)),
	)
	if err != nil {
		c.remove()
		return nil, err
	}
	return c, nil
}

// allow sets how much memory the child may take.
func (c *group) allow(bytes uint64) error {
	if c == nil || c.memory == bytes {
		return nil
	}
	c.memory = bytes
	return setGroup(c.dir, "memory.max", strconv.FormatUint(bytes, 10))
}

// starved tells whether the kernel ended the child for its memory.
func (c *group) starved() bool {
	if c == nil {
		return false
	}
	events, err := os.ReadFile(filepath.Join(c.dir, "memory.events"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(events)) {
		if n, is := strings.CutPrefix(line, "oom_kill "); is {
			return strings.TrimSpace(n) != "0"
		}
	}
	return false
}

// remove removes the group of a child that has ended.
func (c *group) remove() {
	if c != nil {
		_ = unix.Rmdir(c.dir) // else a later start does it
	}
}

// Grouped tells whether a node's process has groups for its children.
func Grouped(pid int) bool {
	dir, err := groupOf(pid)
	if err != nil || filepath.Base(dir) != ownGroup {
		return false
	}
	controllers, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "cgroup.subtree_control"))
	return err == nil && strings.Contains(string(controllers), "memory") && strings.Contains(string(controllers), "pids")
}
