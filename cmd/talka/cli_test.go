package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/api"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/jobfile"
)

func TestExampleParses(t *testing.T) {
	t.Parallel()
	if _, err := jobfile.Parse("job.toml", []byte(exampleJob)); err != nil {
		t.Error(err)
	}
	// What the comments offer is allowed as well.
	all := strings.NewReplacer(
		"# numeric", "numeric", "# \"start.xyz\"", "\"start.xyz\"", "# NAME", "NAME",
		"# mode", "mode", "# error", "error", "# replicas", "replicas", "# checkpoint", "checkpoint",
	).Replace(exampleJob)
	table := strings.NewReplacer("count = 100", "", "# table", "table").Replace(all)
	split := strings.NewReplacer("count = 100", "", "# split", "split", "# by", "by", "# size", "size").Replace(all)
	for _, text := range []string{all, table, split} {
		if _, err := jobfile.Parse("job.toml", []byte(text)); err != nil {
			t.Error(err)
		}
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	for want, errs := range map[int][]error{
		exitOK:          {nil},
		exitError:       {errors.New("x"), &api.Error{Kind: api.KindConflict}, &api.Error{Kind: "a kind of tomorrow"}},
		exitUsage:       {usage("x"), &api.Error{Kind: api.KindRequest}, workunits.ErrManifest},
		exitPartial:     {fmt.Errorf("x: %w", fetched{Missing: 1}.end())},
		exitFailedUnits: {fetched{Failed: 1}.end(), ended(grid.JobInfo{State: grid.JobFailed})},
		exitNotRunning:  {&api.Error{Kind: api.KindNotRunning}},
		exitDenied:      {&api.Error{Kind: api.KindUnauthorised}, fmt.Errorf("x: %w", grid.ErrDenied)},
		exitNotFound:    {&api.Error{Kind: api.KindNotFound}, grid.ErrNotFound},
		exitTimeout:     {&api.Error{Kind: api.KindTimeout}, grid.ErrTimeout, context.DeadlineExceeded},
		exitNoVolunteer: {&api.Error{Kind: api.KindNoVolunteer}},
		exitInterrupted: {fmt.Errorf("x: %w", context.Canceled)},
	} {
		for _, err := range errs {
			if got := exitCode(err); got != want {
				t.Errorf("%v: exit code %d, want %d", err, got, want)
			}
		}
	}
}

func TestHostileTextIsHarmless(t *testing.T) {
	t.Parallel()
	hostile := "a\x1b[2J\x07b\u009bc\u202ed\u200be\r\n\tü漢"
	if got, want := clean(hostile), "a?[2J?b?c?d?e?\n?ü漢"; got != want {
		t.Errorf("clean: %q, want %q", got, want)
	}
	if got := line(hostile); strings.ContainsAny(got, "\n\x1b") {
		t.Errorf("line: %q", got)
	}
	var out strings.Builder
	a := &app{out: &out, json: true}
	if err := a.show(map[string]string{"x": hostile}, nil); err != nil {
		t.Fatal(err)
	}
	for _, r := range strings.TrimSuffix(out.String(), "\n") {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			t.Errorf("JSON holds %q: %s", r, out.String())
		}
	}
	var back map[string]string
	if err := json.Unmarshal([]byte(out.String()), &back); err != nil || back["x"] != hostile {
		t.Errorf("JSON came back as %q, %v", back, err)
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = lockDir(dir)
	if want := fmt.Sprintf("already (pid %d)", os.Getpid()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("second lock: %v, want %q", err, want)
	}
	if err := first.release(); err != nil {
		t.Fatal(err)
	}
	again, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.release(); err != nil {
		t.Error(err)
	}
}

func TestKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key, made, err := ensureKey(dir)
	if err != nil || !made {
		t.Fatal(made, err)
	}
	again, made, err := ensureKey(dir)
	if err != nil || made || !key.Equal(again) {
		t.Errorf("the key changed: %v, %v", made, err)
	}
	path := filepath.Join(dir, keyName)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ensureKey(dir); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key for all to read: %v", err)
	}
	if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte("nonsense"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ensureKey(dir); err == nil || !strings.Contains(err.Error(), "PEM") {
		t.Errorf("a broken key: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "nonsense" {
		t.Errorf("a broken key was replaced: %q, %v", b, err)
	}
}

func TestCheckTable(t *testing.T) {
	t.Parallel()
	f := jobfile.File{Units: jobfile.Units{Args: []string{"-n", "{n}", "{unit}"}}}
	path := filepath.Join(t.TempDir(), "t.csv")
	for text, want := range map[string]string{
		"n,m\n1,a\n2,b\n": "", // two units
		"":                "its header",
		"n\n":             "at least one row",
		"m\n1\n":          `no column "n"`,
		"n,n\n1,2\n":      "the same name",
		"n,m\n1\n":        "wrong number of fields",
		"n,unit\n1,2\n":   `column "unit"`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		n, err := checkTable(f, path)
		if want == "" && (n != 2 || err != nil) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %d units, %v; want %q", text, n, err, want)
		}
		if err != nil && exitCode(err) != exitUsage {
			t.Errorf("%q: exit code %d", text, exitCode(err))
		}
	}
}

func TestFetchWritesInsideItsFolder(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	dir := filepath.Join(parent, "out")
	f, err := newFetch(nil, grid.JobInfo{Name: "x", Units: grid.UnitCounts{Total: 4}}, dir)
	if err != nil {
		t.Fatal(err)
	}
	file := func(path, data string) api.File {
		return api.File{Path: path, Bytes: uint64(len(data)), Data: []byte(data)}
	}
	err = errors.Join(
		f.unit(t.Context(), api.Result{Unit: 0, How: "exit", Stdout: file("", "zero"), Files: []api.File{file("a/b", "ab"), file("stdout", "not this")}}),
		f.unit(t.Context(), api.Result{Unit: 2, Failed: true}),
		f.close(true),
	)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, name := range []string{"0/stdout", "0/a/b", "0/out/stdout", resultsName} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		}
		got[name] = string(b)
	}
	want := map[string]string{
		"0/stdout": "zero", "0/a/b": "ab", "0/out/stdout": "not this",
		resultsName: `{"job":"` + workunits.JobID{}.String() + `","name":"x","project":"` + workunits.ProjectID{}.String() + `","results":[
{"unit":0,"failed":false,"how":"exit","code":0,"files":[{"path":"0/stdout","bytes":4},{"path":"0/a/b","bytes":2},{"path":"0/out/stdout","bytes":8}]},
{"unit":2,"failed":true,"code":0,"files":[]}
]}
`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !json.Valid([]byte(got[resultsName])) {
		t.Errorf("%s is not JSON", resultsName)
	}
	if err := f.sum.end(); exitCode(err) != exitPartial {
		t.Errorf("with units missing it ends with %v", err)
	}

	// A link that somebody left there leads nowhere.
	if err := os.Symlink(parent, filepath.Join(dir, "1")); err != nil {
		t.Fatal(err)
	}
	f, err = newFetch(nil, grid.JobInfo{Units: grid.UnitCounts{Total: 4}}, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.unit(t.Context(), api.Result{Unit: 1, Stdout: file("", "x")}); err == nil {
		t.Error("wrote through a link")
	}
	if err := f.unit(t.Context(), api.Result{Unit: 3, Files: []api.File{file("../../escaped", "x")}}); err == nil {
		t.Error("wrote outside the folder")
	}
	if err := f.close(false); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(parent)
	if err != nil || len(left) != 1 {
		t.Errorf("beside the folder: %v, %v", left, err)
	}
}
