package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/machines"
	"github.com/talka-grid/talka/workunits"
)

func testConfig(dir string) Config {
	set, err := machines.New(machines.Config{Dir: dir, Self: workunits.NodeID{1}, Network: memNetwork, Name: "test", Net: &memNet{}})
	if err != nil {
		panic(err) // the folder is the test's
	}
	return Config{
		Dir: dir, Version: "v0", Settings: &memSettings{}, Machines: set, Recent: &Recent{}, Log: slog.New(slog.DiscardHandler),
		Doctor: func(context.Context) Diagnosis { return Diagnosis{OK: true} },
	}
}

// serve starts a node's server in a folder of the test and returns a client. The
// server is gone when the test ends, or when stop has returned.
func serve(t *testing.T, node Node) (c *Client, dir string, stop func()) {
	t.Helper()
	dir = t.TempDir()
	c, stop = serveIn(t, dir, node)
	return c, dir, stop
}

// serveIn is serve in a given folder.
func serveIn(t *testing.T, dir string, node Node) (c *Client, stop func()) {
	t.Helper()
	return serveWith(t, testConfig(dir), node)
}

// serveWith is serve with settings of the test's.
func serveWith(t *testing.T, cfg Config, node Node) (c *Client, stop func()) {
	t.Helper()
	dir := cfg.Dir
	srv, err := New(node, cfg)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx, socket) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	c = NewClient(dir)
	t.Cleanup(stop)
	t.Cleanup(c.Close)
	// The socket answers once Run has come that far, and with it the page.
	if _, err := c.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c, stop
}

func manifest() workunits.Manifest {
	link := func(s string) workunits.Link { return workunits.Link{Cid: workunits.RawCid(workunits.Sum([]byte(s)))} }
	table := link("table")
	return workunits.Manifest{
		Project: "atoms", Name: "lj-13", Program: link("program"), Units: 3,
		Args: []string{"--seed", "{unit}"}, Env: []string{"A=b"}, Table: &table,
		Inputs: []workunits.Input{{Path: "in/a", Cid: link("a")}, {Path: "b", Cid: link("b"), PerUnit: true}},
		Limits: workunits.Limits{Memory: 1 << 20, Output: 1 << 20, Files: 3, Log: 4, Wall: 5, CPU: 6, Tries: 7, File: 9, Calls: 10},
		Policy: workunits.Policy{
			Mode: workunits.VerifyAudit, Error: 1e-4, Share: 0.2, Price: 10, MinCopies: 1, MaxAgree: 2, HistoryCap: 9,
			Compare: workunits.Comparator{Kind: workunits.CompareBytes}, Trusted: []workunits.NodeID{{7}},
		},
		Canonical: true, Replicas: 3, Days: 30, Active: 3, Listed: 8, Shard: 1,
	}
}

func submit(t *testing.T, c *Client) workunits.JobID {
	t.Helper()
	id, err := c.Submit(t.Context(), manifest(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func wantKind(t *testing.T, err error, want Kind) {
	t.Helper()
	if err == nil || KindOf(err) != want {
		t.Errorf("error %v of kind %q, want kind %q", err, KindOf(err), want)
	}
}

func TestSpecKeepsManifest(t *testing.T) {
	t.Parallel()
	want := manifest()
	link := workunits.Link{Cid: workunits.RecordCid(workunits.Sum(nil))}
	want.Stdin, want.Nominal, want.Standing = "in/a", 11, &link
	want.Limits.Checkpoint = 12 // never beside Calls, in what is signed
	want.Reduce = &workunits.Stage{Program: link, Args: []string{"--best"}}
	want.Policy.Ringers, want.Policy.Audit = make([]byte, 32), 0.5
	want.Policy.Compare = workunits.Comparator{Kind: workunits.CompareProgram, Rel: 1, Abs: 2, Program: &link}
	added := []string{"Network", "Publisher", "Created", "Work"} // by the node
	for _, of := range []any{want, want.Limits, want.Policy, want.Policy.Compare} {
		for f, v := range reflect.ValueOf(of).Fields() {
			if v.IsZero() && !slices.Contains(added, f.Name) {
				t.Errorf("field %s of %T is not set here: it could be lost", f.Name, of)
			}
		}
	}
	b, err := json.Marshal(SpecOf(want))
	if err != nil {
		t.Fatal(err)
	}
	var spec JobSpec
	if err := json.Unmarshal(b, &spec); err != nil {
		t.Fatal(err)
	}
	got, err := spec.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if string(workunits.Encode(got)) != string(workunits.Encode(want)) {
		t.Errorf("manifest changed on the way:\n got %+v\nwant %+v", got, want)
	}
}

func TestStatusPauseResume(t *testing.T) {
	t.Parallel()
	c, _, _ := serve(t, newMemNode())
	for _, step := range []struct {
		do   func() (grid.Status, error)
		want grid.State
	}{
		{func() (grid.Status, error) { return c.Status(t.Context()) }, grid.StateIdle},
		{func() (grid.Status, error) { return c.Pause(t.Context(), time.Hour) }, grid.StatePaused},
		{func() (grid.Status, error) { return c.Status(t.Context()) }, grid.StatePaused},
		{func() (grid.Status, error) { return c.Resume(t.Context()) }, grid.StateIdle},
		{func() (grid.Status, error) { return c.Finish(t.Context()) }, grid.StatePaused},
		{func() (grid.Status, error) { return c.Resume(t.Context()) }, grid.StateIdle},
		{func() (grid.Status, error) { return c.Save(t.Context()) }, grid.StatePaused},
	} {
		st, err := step.do()
		if err != nil || st.State != step.want || st.Addrs == nil {
			t.Errorf("status %+v, %v; want state %q", st, err, step.want)
		}
	}
	w, err := c.Why(t.Context())
	if err != nil || w.State != grid.StatePaused || w.Reason == "" || w.Rules == nil || w.Decisions == nil || w.Processors != 2 {
		t.Errorf("why %+v, %v", w, err)
	}
	_, err = c.Pause(t.Context(), -time.Second)
	wantKind(t, err, KindRequest)
}

func TestDesktopTells(t *testing.T) {
	t.Parallel()
	n := newMemNode()
	c, _, _ := serve(t, n)
	if err := c.Desktop(t.Context(), Desktop{Who: "tray-1", Session: "2", Source: "GNOME", Idle: 1.5, Locked: true}); err != nil {
		t.Fatal(err)
	}
	if got, want := n.events[len(n.events)-1].Text, "tray-1 2 GNOME 1.5s true false"; got != want {
		t.Errorf("the node hears %q, want %q", got, want)
	}
	for _, bad := range []Desktop{{}, {Who: strings.Repeat("x", 65)}, {Who: "x", Idle: -1}, {Who: "x", Source: strings.Repeat("x", 65)}} {
		wantKind(t, c.Desktop(t.Context(), bad), KindRequest)
	}
}

func TestListsAreNeverNull(t *testing.T) {
	t.Parallel()
	c, _, _ := serve(t, newMemNode())
	for _, route := range []string{"/v1/peers", "/v1/projects", "/v1/jobs"} {
		var raw json.RawMessage
		if err := c.call(t.Context(), "GET", route, nil, &raw); err != nil || string(raw) != "[]" {
			t.Errorf("%s: %s, %v", route, raw, err)
		}
	}
}

func TestInviteAndJoin(t *testing.T) {
	t.Parallel()
	c, _, _ := serve(t, newMemNode())
	invite, err := c.Invite(t.Context(), time.Hour, workunits.NodeID{1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Join(t.Context(), invite); err != nil {
		t.Error(err)
	}
	_, err = c.Join(t.Context(), "other/"+invite)
	wantKind(t, err, KindRequest)
}

func TestProjects(t *testing.T) {
	t.Parallel()
	c, _, _ := serve(t, newMemNode())
	own, err := c.NewProject(t.Context(), "atoms")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.NewProject(t.Context(), "no spaces please")
	wantKind(t, err, KindRequest)
	other := workunits.ProjectID{Publisher: workunits.NodeID{9}, Name: "words"}
	if err := errors.Join(
		c.Trust(t.Context(), own, true), c.Trust(t.Context(), other, true), c.Trust(t.Context(), other, false),
	); err != nil {
		t.Fatal(err)
	}
	got, err := c.Projects(t.Context())
	want := []grid.ProjectInfo{{Project: own, Own: true, Trusted: true}, {Project: other}}
	if diff := gocmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("projects: %v\n%s", err, diff)
	}
}

func TestJob(t *testing.T) {
	t.Parallel()
	node := newMemNode()
	c, _, _ := serve(t, node)
	var said []string
	id, err := c.Submit(t.Context(), manifest(), func(s string) { said = append(said, s) })
	if err != nil || len(said) != 1 {
		t.Fatalf("submit: %v, progress %q", err, said)
	}
	big := workunits.Link{Cid: workunits.RawCid(workunits.Sum([]byte("big")))}
	node.accept(id, grid.UnitResult{Unit: 2, Failed: true})
	if r, err := c.Retry(t.Context(), id); err != nil || r.Job != id || !slices.Equal(r.Units, []uint32{2}) {
		t.Errorf("retry: %+v, %v", r, err)
	}
	_, err = c.Retry(t.Context(), id)
	wantKind(t, err, KindNotFound)
	node.accept(id, grid.UnitResult{Unit: 2, Failed: true})
	node.accept(id, grid.UnitResult{Unit: 0, Outcome: workunits.Outcome{How: workunits.Exited, Out: workunits.OutFile{Size: 3, Data: []byte("hi\n")}}})

	waited := make(chan grid.JobInfo, 1)
	go func() {
		info, err := c.WaitJob(t.Context(), id)
		if err != nil {
			t.Error(err)
		}
		waited <- info
	}()
	node.accept(id, grid.UnitResult{Unit: 1, Outcome: workunits.Outcome{
		How: workunits.Trapped, Trap: "unreachable",
		Files: []workunits.OutFile{{Path: "x/y", Size: 5000, Cid: &big}},
	}})
	if info := <-waited; info.State != grid.JobDone || info.Units.Accepted != 3 {
		t.Errorf("after waiting: %+v", info)
	}

	var got []Result
	if err := c.Results(t.Context(), id, func(r Result) error { got = append(got, r); return nil }); err != nil {
		t.Fatal(err)
	}
	want := []Result{
		{Unit: 0, How: "exit", Stdout: File{Bytes: 3, Data: []byte("hi\n")}, Files: []File{}},
		{Unit: 1, How: "trap", Trap: "unreachable", Files: []File{{Path: "x/y", Bytes: 5000, Cid: big.Cid.String()}}},
		{Unit: 2, Failed: true, Files: []File{}},
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	stop := errors.New("enough")
	if err := c.Results(t.Context(), id, func(Result) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("an error of yield became %v", err)
	}
	list, err := c.Jobs(t.Context())
	if err != nil || len(list) != 1 || list[0].Job != id {
		t.Errorf("jobs: %+v, %v", list, err)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	c, _, _ := serve(t, newMemNode())
	id := submit(t, c)
	x, err := c.Ledger(t.Context(), id)
	if err != nil || len(x.Manifest) == 0 || string(x.Standing) != "stakes" || len(x.Segments) != 2 || string(x.Segments[1]) != "second" {
		t.Errorf("ledger: %q, %v", x, err)
	}
	wantKind(t, c.Cancel(t.Context(), id, strings.Repeat("x", workunits.MaxWordLen+1)), KindRequest)
	if err := c.Cancel(t.Context(), id, "a typo in its arguments"); err != nil {
		t.Fatal(err)
	}
	if w, err := c.JobWhy(t.Context(), id); err != nil || w.Job != id || w.Refused == nil {
		t.Errorf("%+v, %v", w, err)
	}
	info, err := c.WaitJob(t.Context(), id)
	if err != nil || info.State != grid.JobCancelled {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestBadJobs(t *testing.T) {
	t.Parallel()
	c, _, _ := serve(t, newMemNode())
	nothing := func(string) {}
	m := manifest()
	m.Units = 0
	_, err := c.Submit(t.Context(), m, nothing)
	wantKind(t, err, KindRequest)

	unknown := workunits.JobID{42}
	_, err = c.Job(t.Context(), unknown)
	wantKind(t, err, KindNotFound)
	_, err = c.JobWhy(t.Context(), unknown)
	wantKind(t, err, KindNotFound)
	_, err = c.WaitJob(t.Context(), unknown)
	wantKind(t, err, KindNotFound)
	wantKind(t, c.Results(t.Context(), unknown, func(Result) error { return nil }), KindNotFound)
	wantKind(t, c.Cancel(t.Context(), unknown, ""), KindNotFound)
	_, err = c.Ledger(t.Context(), unknown)
	wantKind(t, err, KindNotFound)

	var out json.RawMessage
	wantKind(t, c.call(t.Context(), "GET", "/v1/jobs/nonsense", nil, &out), KindRequest)
	wantKind(t, c.call(t.Context(), "POST", "/v1/jobs", map[string]any{"colour": "red"}, &out), KindRequest)
}

func TestData(t *testing.T) {
	t.Parallel()
	c, dir, _ := serve(t, newMemNode())
	src, dest := filepath.Join(dir, "src"), filepath.Join(dir, "dest")
	if err := os.WriteFile(src, []byte("some data"), 0o600); err != nil {
		t.Fatal(err)
	}
	var done int64
	added, err := c.AddData(t.Context(), src, func(d, _ int64) { done = d })
	if err != nil || added.Bytes != 9 || done != 9 {
		t.Fatalf("added %+v, %d bytes of progress, %v", added, done, err)
	}
	id, err := parseCid(added.Cid)
	if err != nil {
		t.Fatal(err)
	}
	nothing := func(_, _ int64) {}
	if err := c.GetData(t.Context(), id, dest, time.Second, nothing); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(dest); err != nil || string(b) != "some data" {
		t.Errorf("got %q, %v", b, err)
	}
	wantKind(t, c.GetData(t.Context(), id, dest, time.Second, nothing), KindConflict)
	nobody := workunits.RawCid(workunits.Digest{1})
	wantKind(t, c.GetData(t.Context(), nobody, dest+"2", time.Millisecond, nothing), KindTimeout)
	_, err = c.AddData(t.Context(), filepath.Join(dir, "missing"), nothing)
	wantKind(t, err, KindNotFound)
	_, err = c.AddData(t.Context(), "relative", nothing)
	wantKind(t, err, KindRequest)

	if info, err := c.DataInfo(t.Context()); err != nil || info.Chunks != 1 || info.Reasons == nil {
		t.Errorf("%+v, %v", info, err)
	}
	car := filepath.Join(dir, "car")
	if origin, err := c.ExportData(t.Context(), id, car, nil, time.Second, nothing); err != nil || origin.Here == 0 {
		t.Fatal(err)
	}
	_, err = c.ExportData(t.Context(), id, car, nil, time.Second, nothing)
	wantKind(t, err, KindConflict)
	_, err = c.ExportData(t.Context(), id, "relative", nil, time.Second, nothing)
	wantKind(t, err, KindRequest)
	in, err := c.ImportData(t.Context(), car, nothing)
	if err != nil || len(in.Roots) != 1 || in.Roots[0] != added.Cid || in.Bytes != 9 {
		t.Errorf("imported %+v, %v", in, err)
	}
	_, err = c.ImportData(t.Context(), "relative", nothing)
	wantKind(t, err, KindRequest)

	pinned, err := c.Pin(t.Context(), id, time.Second, nothing)
	if err != nil || pinned != (Pinned{added.Cid, 9}) {
		t.Errorf("pinned %+v, %v", pinned, err)
	}
	_, err = c.Pin(t.Context(), nobody, time.Millisecond, nothing)
	wantKind(t, err, KindTimeout)
	var kept []string
	if err := c.KeptData(t.Context(), func(k grid.Kept) error { kept = append(kept, k.Cid); return nil }); err != nil || !slices.Equal(kept, []string{added.Cid}) {
		t.Errorf("kept %v, %v", kept, err)
	}
	if err := c.Unpin(t.Context(), id); err != nil {
		t.Error(err)
	}
	wantKind(t, c.Unpin(t.Context(), id), KindNotFound)
}

func TestEventsResume(t *testing.T) {
	t.Parallel()
	node := newMemNode()
	c, _, _ := serve(t, node)
	id := submit(t, c)
	node.Pause(0)
	node.accept(id, grid.UnitResult{Unit: 1})

	read := func(after uint64, job workunits.JobID, n int) (kinds []string, last uint64) {
		enough := errors.New("enough")
		err := c.Events(t.Context(), after, job, func(e Event) error {
			kinds, last = append(kinds, e.Kind), e.Seq
			if len(kinds) == n {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) {
			t.Error(err)
		}
		return kinds, last
	}
	kinds, last := read(0, workunits.JobID{}, 2)
	if diff := gocmp.Diff([]string{"submitted", "paused"}, kinds); diff != "" {
		t.Error(diff)
	}
	if kinds, _ := read(last, workunits.JobID{}, 1); kinds[0] != "accepted" {
		t.Errorf("resumed with %q", kinds)
	}
	if kinds, _ := read(0, id, 2); kinds[1] != "accepted" {
		t.Errorf("events of the job: %q", kinds)
	}
}

func TestEventsByHeader(t *testing.T) {
	t.Parallel()
	node := newMemNode()
	_, dir, _ := serve(t, node)
	node.Pause(0)
	node.Resume()
	resp := sendRaw(t, dir, "GET", "/v1/events", "", map[string]string{"Last-Event-ID": "1"})
	defer resp.Body.Close()
	first := make([]byte, len("id: 2\n"))
	if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "id: 2\n" {
		t.Errorf("stream starts with %q, %v", first, err)
	}
}

func TestStopEndsRequests(t *testing.T) {
	t.Parallel()
	c, dir, stop := serve(t, newMemNode())
	id := submit(t, c)
	ended := make(chan error, 1)
	seen := make(chan struct{})
	go func() {
		ended <- c.Events(t.Context(), 0, id, func(Event) error { close(seen); return nil })
	}()
	<-seen
	stop()
	wantKind(t, <-ended, KindNotRunning)
	_, err := c.Status(t.Context())
	wantKind(t, err, KindNotRunning)
	if _, err := os.Stat(filepath.Join(dir, SocketName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestCallerGivesUp(t *testing.T) {
	t.Parallel()
	c, _, _ := serve(t, newMemNode())
	id := submit(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan struct{})
	go func() { <-seen; cancel() }()
	err := c.Events(ctx, 0, id, func(Event) error { close(seen); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestSocket(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), strings.Repeat("long", 40))} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		// What a crashed node leaves.
		if err := os.WriteFile(filepath.Join(dir, SocketName), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Listen(dir)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, SocketName))
		if err != nil || info.Mode() != os.ModeSocket|0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		conn, err := dial(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(conn.Close(), s.Close(), s.Close()); err != nil {
			t.Error(err)
		}
		left, err := os.ReadDir(dir)
		if err != nil || len(left) > 0 {
			t.Errorf("left in the folder: %v, %v", left, err)
		}
	}
}
