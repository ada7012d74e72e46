package grid

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/grid/volunteer"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox"
)

// TestTasksReadTheirOwn: all units of a job read the same files and folders of this
// machine, so that one child can serve them, and nothing of another job is below those.
func TestTasksReadTheirOwn(t *testing.T) {
	t.Parallel()
	n := newCluster(t).start(Config{Slots: 1})
	task := func(job string, unit uint32) sandbox.Task {
		t.Helper()
		var entries []chunkstore.Entry
		for u := range 2 {
			entries = append(entries, chunkstore.Entry{Name: fmt.Sprint(u), Root: n.host.data.put(fmt.Append(nil, job, u))})
		}
		pieces, err := n.host.data.Compose(t.Context(), entries)
		if err != nil {
			t.Fatal(err)
		}
		m := workunits.Manifest{Units: 2, Program: workunits.Link{Cid: n.host.data.put([]byte("program"))}, Inputs: []workunits.Input{
			{Path: "set", Cid: workunits.Link{Cid: n.host.data.put([]byte(job))}}, {Path: "piece", Cid: workunits.Link{Cid: pieces}, PerUnit: true},
		}}
		r := volunteer.Run{Task: volunteer.Task{Job: workunits.JobID(workunits.Sum([]byte(job))), Unit: unit}}
		task, err := n.task(t.Context(), m, r, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return task
	}
	holds := func(reads []string, path string) bool {
		return slices.ContainsFunc(reads, func(top string) bool { return strings.HasPrefix(path+"/", top+"/") })
	}
	a, again, b := task("a", 0), task("a", 1), task("b", 0)
	if len(a.Reads) != 2 || !slices.Equal(a.Reads, again.Reads) {
		t.Errorf("units of one job read %q and %q", a.Reads, again.Reads)
	}
	for _, in := range slices.Concat(a.Inputs, again.Inputs) {
		if !holds(a.Reads, in.Host) || holds(b.Reads, in.Host) {
			t.Errorf("%s lies below %q, or %q of another job", in.Host, a.Reads, b.Reads)
		}
	}
}

// TestFoldersAreUsedAgain for the same purpose if that can be, and for another before
// there are more than slots.
func TestFoldersAreUsedAgain(t *testing.T) {
	t.Parallel()
	f := folders{dir: t.TempDir(), slots: 2}
	one, two, three := f.take("a"), f.take("b"), f.take("a")
	if one == two || two == three || one == three {
		t.Fatalf("%s, %s, %s are lent at once", one, two, three)
	}
	f.put("a", one)
	f.put("b", two)
	for _, c := range []struct{ purpose, want string }{{"b", two}, {"a", one}} {
		if got := f.take(c.purpose); got != c.want {
			t.Errorf("%s in %s, want %s", c.purpose, filepath.Base(got), filepath.Base(c.want))
		}
	}
	f.put("a", one)
	f.put("b", two)
	if got := f.take("c"); got != one {
		t.Errorf("another purpose in %s, want %s, which is free for longest", filepath.Base(got), filepath.Base(one))
	}
}
