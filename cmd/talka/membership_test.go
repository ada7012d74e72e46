package main

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/talka-grid/talka/chunkstore/whole"
	"github.com/talka-grid/talka/grid/api"
	"github.com/talka-grid/talka/p2p"
	"github.com/talka-grid/talka/workunits"
)

// membershipApp is the command on a directory of its own.
func membershipApp(t *testing.T) (*app, string, workunits.NodeID) {
	t.Helper()
	dir := t.TempDir()
	a := &app{out: io.Discard, err: io.Discard, dirFlag: dir}
	node, _, err := initDir(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	return a, dir, node
}

// What doctor says of a membership as its time passes.
func TestDiagnoseMembership(t *testing.T) {
	t.Parallel()
	a, dir, node := membershipApp(t)
	states := func() (all []api.Health) {
		var d diagnosis
		diagnoseMembership(&d, dir)
		for _, c := range d.Checks {
			all = append(all, c.State)
		}
		return all
	}
	if got := states(); len(got) > 0 {
		t.Errorf("in an open network: %v", got)
	}
	for valid, want := range map[time.Duration]api.Health{memberValid: healthy, time.Hour: warning, time.Millisecond: fault} {
		for _, file := range []string{memberName, networkKeyName} {
			if err := os.Remove(filepath.Join(dir, file)); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
		if _, err := a.found(dir, "lab", node, valid); err != nil {
			t.Fatal(err)
		}
		if got := states(); len(got) != 1 || got[0] != healthy {
			t.Errorf("of an issuer, valid %s: %v", valid, got)
		}
		if err := os.Remove(filepath.Join(dir, networkKeyName)); err != nil {
			t.Fatal(err)
		}
		for begun := time.Now(); time.Since(begun) < 2*time.Millisecond; {
			_ = begun // the shortest one ends
		}
		if got := states(); len(got) != 1 || got[0] != want {
			t.Errorf("valid %s: %v, want %v", valid, got, want)
		}
	}
}

// An invite that has expired stops a node that knows nobody, and no other.
func TestExpiredInvite(t *testing.T) {
	t.Parallel()
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	old := p2p.Invite{Network: "lab", Expires: time.Now().Add(-time.Hour)}
	for _, i := range []p2p.Invite{{}, {Expires: time.Now().Add(time.Hour)}} {
		if err := expired(i, dir, log); err != nil {
			t.Error(err)
		}
	}
	if err := expired(old, dir, log); exitCode(err) != exitUsage {
		t.Errorf("where nobody was met: %v", err)
	}
	if err := whole.Write(filepath.Join(dir, peersName), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if err := expired(old, dir, log); err != nil {
		t.Errorf("where others were met: %v", err)
	}
}
