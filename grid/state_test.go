package grid

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/talka-grid/talka/workunits"
)

// TestMigrations opens databases as every version left them, and as builds of
// version 1 did that had a column of version 2 already.
func TestMigrations(t *testing.T) {
	t.Parallel()
	id := workunits.JobID(workunits.Sum([]byte("job")))
	credit := migrations[1].change
	for name, past := range map[string]struct {
		made    []string
		version int
	}{
		"empty":                     {nil, 0},
		"version 1":                 {[]string{migrations[0].change}, 1},
		"version 1 with the column": {[]string{migrations[0].change, credit}, 1},
		"version 2":                 {[]string{migrations[0].change, credit}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "state.db")
			old, err := sql.Open("sqlite", "file:"+path)
			if err != nil {
				t.Fatal(err)
			}
			statements := past.made
			if past.version > 0 {
				statements = append(statements, "INSERT INTO jobs (job, manifest, ended) VALUES (x'"+fmt.Sprintf("%x", id[:])+"', 'm', 1)",
					fmt.Sprintf("PRAGMA user_version = %d", past.version))
			}
			for _, text := range statements {
				if _, err := old.ExecContext(context.Background(), text); err != nil {
					t.Fatalf("%s: %v", text, err)
				}
			}
			if err := old.Close(); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time there is nothing left to change
				s, err := openState(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.addJob(id, []byte("m")); err != nil {
					t.Error(err)
				}
				if err := s.endJob(id, 7); err != nil {
					t.Error(err)
				}
				list, err := s.jobs()
				if err != nil || len(list) != 1 || list[0].credit != 7 || !list[0].ended {
					t.Errorf("jobs %+v, %v", list, err)
				}
				if err := s.close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestNewerStateIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := openState(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.ExecContext(context.Background(), "PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := openState(path); err == nil || !strings.Contains(err.Error(), "update Talka") {
		t.Errorf("a database of schema 99: %v", err)
	}
}

// TestEventNumbers resumes after a restart: numbers ascend over both lives, and
// a number that the second life has not reached misses nothing either.
func TestEventNumbers(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_800_000_000, 0)
	first := newEventLog(start)
	for range 3 {
		first.add(Event{Kind: "a"})
	}
	old, _, _ := first.after(0)
	last := old[len(old)-1].Seq
	if len(old) != 3 || old[0].Seq+2 != last {
		t.Fatalf("events %+v", old)
	}
	for name, restart := range map[string]time.Time{"later": start.Add(time.Second), "with the clock put back": start.Add(-time.Hour)} {
		second := newEventLog(restart)
		second.add(Event{Kind: "b"})
		events, _, _ := second.after(last)
		if len(events) != 1 {
			t.Errorf("%s: %d events after %d, want 1", name, len(events), last)
		}
		if again, _, _ := second.after(events[0].Seq); len(again) != 0 {
			t.Errorf("%s: %+v came again", name, again)
		}
		if name == "later" && events[0].Seq <= last {
			t.Errorf("event %d follows event %d", events[0].Seq, last)
		}
	}
}
