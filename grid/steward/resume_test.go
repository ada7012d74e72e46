package steward_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/talka-grid/talka/grid/gridtest"
	"github.com/talka-grid/talka/grid/steward"
	"github.com/talka-grid/talka/workunits/ledger"
)

// resumeWorlds are grids whose ledgers hold what a steward may find when it starts
// again: lies, void copies, leases that ended, crooks, several platforms.
var resumeWorlds = map[string][]string{
	"liars": {"nodes publisher=p stewards=p,s1,s2,s3 volunteers=p,v1,v2,v3,v4,v5 slots=2", "ways v1 lies=0.5", "ways v2 void", "ways v3 hang",
		"job units=40 shard=4 time=300ms audit=0.2 error=0.02", "run for=3s", "crash s1", "run for=4s", "restart s1"},
	"stage": {"nodes publisher=p stewards=p,s1,s2,s3,s4 volunteers=p,s1,s2,v1,v2,v3 slots=2", "ways v1 lies=0.2",
		"job units=12 shard=3 time=200ms reduce large", "run for=2s", "partition v2,s3", "run for=8s", "heal"},
	"compare":   {"nodes publisher=p stewards=p,s1,s2,s3 volunteers=p,v1,v2,v3,v4", "ways v3 lies=1", "job units=20 shard=2 time=300ms noisy program"},
	"platforms": {"nodes publisher=p stewards=p,s1,s2 volunteers=v1,v2,v3,v4 arm64=v2,v3", "ways v4 slow=8", "job units=20 shard=5 time=300ms split"},
	"crook":     {"nodes publisher=p stewards=p,s0,s1,s2,s3 volunteers=v1,v2,v3,v4 slots=2", "ways s1 crook=withholds", "ways v1 forks", "ways v2 copycat", "job units=30 shard=3 time=300ms"},
	"draws": {"nodes publisher=p stewards=p,s0,s1,s2,s3 volunteers=v1,v2,v3,v4 slots=2", "ways s2 crook=draws", "ways v1 garbage", "job units=30 shard=3 time=300ms chain=8",
		"run for=4s", "crash p", "run for=20s", "restart p"},
	"home":   {"nodes publisher=p stewards=p,s1,s2,s3 volunteers=p,s1,s2,s3", "job units=20 shard=4 time=300ms", "run for=6s", "crash p", "run for=40s", "restart p"},
	"none":   {"nodes publisher=p stewards=p,s1 volunteers=v1,v2", "ways v1 void", "job units=20 shard=4 time=300ms verify=none"},
	"failed": {"nodes publisher=p stewards=p,s1,s2 volunteers=v1,v2,v3", "ways v1 void", "ways v2 void", "ways v3 void", "job units=6 shard=2 time=200ms"},
}

// TestResume: what New takes from the book is what a walk over all statements tells.
func TestResume(t *testing.T) {
	t.Parallel()
	for name, script := range resumeWorlds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &gridtest.Script{World: gridtest.New(1, nil)}
			var nodes []string
			snapshots := map[string][]byte{}
			do := func(line string) {
				if err := s.Do(line); err != nil {
					t.Fatal(err)
				}
				for _, n := range nodes {
					resumed(t, s.World, n, snapshots)
				}
			}
			_, list, _ := strings.Cut(script[0], "stewards=")
			list, _, _ = strings.Cut(list, " ")
			for _, line := range script {
				do(line)
				nodes = strings.Split(list, ",")
			}
			for i := 0; i < 8 && !s.World.Sealed(); i++ {
				do(fmt.Sprintf("run for=%dms", 500+400*i))
			}
		})
	}
}

// resumed starts a steward's machine from a copy of its ledger, with its last snapshot
// and without.
func resumed(t *testing.T, w *gridtest.World, name string, snapshots map[string][]byte) {
	t.Helper()
	m := w.Node(name).Steward()
	if m == nil {
		return
	}
	c := m.Config
	l := ledger.New(c.Manifest.Network, c.Job)
	for _, raw := range c.Author.Ledger().Segments() {
		var fork *ledger.ForkError
		if _, err := l.Load(raw); err != nil && !errors.As(err, &fork) {
			t.Fatal(err)
		}
	}
	c.Author = ledger.NewAuthor(c.Key, l)
	for _, c.Restored = range []bool{false, true} {
		for _, c.Snapshot = range [][]byte{nil, snapshots[name]} {
			if diff := steward.ResumeDiff(c, start); diff != "" {
				t.Fatalf("%s at %d ms, restored %t, snapshot %t: (-replayed +resumed):\n%s", name, w.Elapsed(), c.Restored, c.Snapshot != nil, diff)
			}
		}
	}
	snapshots[name] = m.Book().Snapshot()
}
