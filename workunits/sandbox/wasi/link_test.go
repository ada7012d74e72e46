package wasi

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// symlink makes a link from descriptor 3.
func (c *caller) symlink(target, name string) Errno {
	to, toLen := c.text(atOther, target)
	at, atLen := c.text(atText, name)
	return c.call("path_symlink", to, toLen, 3, at, atLen)
}

func (c *caller) rename(from, to string) Errno {
	old, oldLen := c.text(atText, from)
	at, atLen := c.text(atOther, to)
	return c.call("path_rename", 3, old, oldLen, 3, at, atLen)
}

func TestLinksInScratch(t *testing.T) {
	t.Parallel()
	c := start(t, newConfig(t))
	for _, s := range []struct {
		target, name string
		want         Errno
	}{
		{"file", "scratch/link", ok},
		{"file", "scratch/link", eExist},
		{"link", "scratch/second", ok},
		{"/scratch/file", "scratch/absolute", ePerm},
		{"", "scratch/empty", eNoent},
		{"file", "scratch/slash/", eNoent},
		{"file", "out/link", eNotsup},
		{"file", "checkpoint/link", eNotsup},
		{"file", "link", eRofs},
		{strings.Repeat("x", 600), "scratch/long", eNospc}, // of a limit of 500
	} {
		if e := c.symlink(s.target, s.name); e != s.want {
			t.Errorf("%q -> %.20q: errno %d, want %d", s.name, s.target, e, s.want)
		}
	}
	fd := c.mustOpen("scratch/second", oCreat, rightWrite|rightRead|rightSeek) // makes what the links lead to
	c.write(fd, "text")
	if b, err := os.ReadFile(filepath.Join(c.dir, "scratch/file")); err != nil || string(b) != "text" {
		t.Errorf("through two links: %q, %v", b, err)
	}
	at, n := c.text(atText, "scratch/link")
	c.must("path_readlink", 3, at, n, atData, 100, atDone)
	if got := string(c.mem[atData : atData+c.u32(atDone)]); got != "file" {
		t.Errorf("target %q", got)
	}
	// The host knows nothing of links, and a link replaces a file of the host.
	for _, names := range [][2]string{{"scratch/link", "scratch/moved"}, {"scratch/moved", "scratch/file"}} {
		if e := c.rename(names[0], names[1]); e != ok {
			t.Errorf("rename %v: errno %d", names, e)
		}
	}
	if entries, err := os.ReadDir(filepath.Join(c.dir, "scratch")); err != nil || len(entries) != 0 {
		t.Errorf("on the host: %v, %v", entries, err)
	}
	if _, e := c.open("scratch/second", 0, rightRead); e != eNoent {
		t.Errorf("a link to what is gone: errno %d", e)
	}
	for _, name := range []string{"scratch/file", "scratch/second"} {
		if e := c.path("path_unlink_file", name); e != ok {
			t.Errorf("unlink %s: errno %d", name, e)
		}
	}
	c.must("fd_close", fd)
	if c.p.scratch.usedBytes != 0 || c.p.scratch.usedFiles != 0 {
		t.Errorf("%d bytes in %d files counted, nothing is there", c.p.scratch.usedBytes, c.p.scratch.usedFiles)
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	c := start(t, newConfig(t))
	fd := c.mustOpen("scratch/f", oCreat, rightWrite)
	times := func() [3]uint64 {
		t.Helper()
		c.must("fd_filestat_get", fd, atData)
		return [3]uint64{c.u64(atData + 40), c.u64(atData + 48), c.u64(atData + 56)}
	}
	if got := times(); got != [3]uint64{Epoch, Epoch, Epoch} {
		t.Errorf("at first: %d", got)
	}
	c.must("fd_filestat_set_times", fd, 5, 6, setMtim)
	if got := times(); got != [3]uint64{Epoch, 6, Epoch} {
		t.Errorf("after a set of one: %d", got)
	}
	at, n := c.text(atText, "scratch/f")
	c.must("path_filestat_set_times", 3, 0, at, n, 7, 8, setAtim|setMtimNow)
	if got := times(); got != [3]uint64{7, c.p.clock(clockReal), Epoch} {
		t.Errorf("after a set of both: %d", got)
	}
	c.wants(eInval, "fd_filestat_set_times", fd, 1, 2, setAtim|setAtimNow)
	c.wants(eInval, "fd_filestat_set_times", fd, 1, 2, 16)
	c.wants(eRofs, "fd_filestat_set_times", 3, 1, 2, setAtim)
}

func TestNoSockets(t *testing.T) {
	t.Parallel()
	c := start(t, newConfig(t))
	for _, f := range Functions() {
		if !strings.HasPrefix(f.Name, "sock_") {
			continue
		}
		args := make([]uint64, len(f.Params))
		c.wants(eNotsock, f.Name, args...)
		args[0] = 99
		c.wants(eBadf, f.Name, args...)
	}
}
