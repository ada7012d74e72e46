package grid

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/talka-grid/talka/workunits"
)

// TestEfforts adds what was executed on two days, over a restart.
func TestEfforts(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	var e efforts
	e.add(time.Unix(86400*3, 0), 100)
	e.add(time.Unix(86400*4-1, 0), 50)
	e.add(time.Unix(86400*5, 0), 1)
	for range 2 {
		db, err := openState(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.addEfforts(e.days); err != nil {
			t.Fatal(err)
		}
		if err := db.close(); err != nil {
			t.Fatal(err)
		}
	}
	db, err := openState(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := db.efforts()
	if err != nil {
		t.Fatal(err)
	}
	want := map[int64]effort{3: {4, 300}, 5: {2, 2}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(effort{})); diff != "" {
		t.Error(diff)
	}
	if err := db.close(); err != nil {
		t.Error(err)
	}
}

// vouchedFor is what a member's record proves, to whoever has nothing else.
func vouchedFor(t *testing.T, m *member) (workunits.Contribution, []workunits.Vouched) {
	t.Helper()
	raw, err := m.Contribution(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	c, list, err := workunits.ParseContribution(raw)
	if err != nil {
		t.Fatal(err)
	}
	return c, list
}
