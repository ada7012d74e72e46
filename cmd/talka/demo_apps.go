package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/talka-grid/talka/grid/api"
	"github.com/talka-grid/talka/workunits/apps"
)

// demoApp is a job of the demo: what it writes into its folder as a job file, and
// what it makes of the results.
type demoApp interface {
	// prepare writes job.toml and the program into dir.
	prepare(ctx context.Context, dir string, units int) error
	// add takes one unit's result; open gives the content of a file of it.
	add(r api.Result, open func(api.File) ([]byte, error)) error
	// report says what the results came to, as rows of a table, and whether it
	// is what was to be expected; the fields go into the JSON line.
	report() (rows [][2]string, fields map[string]any, err error)
}

// demoLJ looks for the global minimum of a Lennard-Jones cluster.
type demoLJ struct {
	atoms int
	best  float64
	unit  uint32
	said  string // by the second stage
}

func (d *demoLJ) prepare(_ context.Context, dir string, units int) error {
	for name, wasm := range map[string][]byte{"lj.wasm": apps.LJ(), "best.wasm": apps.Best()} {
		if err := os.WriteFile(filepath.Join(dir, name), wasm, 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "job.toml"), fmt.Appendf(nil, `name    = "lj-%d"
program = "lj.wasm"

[units]
count = %d
args  = ["--atoms", "%d", "--seed", "{unit}"]

[limits]
memory = "64MiB"
time   = "10s"
output = "1MiB"

[verify]
error = 0.01

[reduce]
program = "best.wasm"
`, d.atoms, units, d.atoms), 0o600)
}

func (d *demoLJ) add(r api.Result, _ func(api.File) ([]byte, error)) error {
	line := strings.TrimSpace(string(r.Stdout.Data))
	if r.Reduce {
		d.said = line
		return nil
	}
	text, ok := strings.CutPrefix(line, "energy ")
	e, err := strconv.ParseFloat(text, 64)
	if !ok || err != nil {
		return fmt.Errorf("unit %d printed %q", r.Unit, r.Stdout.Data)
	}
	if e < d.best {
		d.best, d.unit = e, r.Unit
	}
	return nil
}

func (d *demoLJ) report() ([][2]string, map[string]any, error) {
	published, known := apps.LJMinimum(d.atoms)
	rows := [][2]string{{"best energy found", fmt.Sprintf("%.6f (unit %d)", d.best, d.unit)}}
	fields := map[string]any{"best": d.best}
	if want := fmt.Sprintf("energy %.6f unit %d", d.best, d.unit); d.said != want {
		return rows, fields, fmt.Errorf("the second stage says %q, the units %q", d.said, want)
	}
	if !known {
		return rows, fields, nil
	}
	fields["published"] = published
	rows = append(rows, [2]string{"published minimum", fmt.Sprintf("%.6f", published)})
	if d.best < published-1e-5 {
		return rows, fields, fmt.Errorf("found %.6f, lower than the published minimum %.6f: a wrong result was accepted", d.best, published)
	}
	if math.Abs(d.best-published) > 1e-5 {
		rows = append(rows, [2]string{"", "not reached: more units or more --steps would find it"})
	}
	return rows, fields, nil
}

// demoWords are what the search looks for in a folder of Go source, or any other.
const demoWords = "goroutine,deadlock,heuristic,checksum"

// demoSearch indexes which files and lines of a folder hold some words.
type demoSearch struct {
	data  string
	found map[string]int
}

func (d *demoSearch) prepare(ctx context.Context, dir string, units int) error {
	if d.data == "" {
		out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
		if err != nil {
			return usage("--app search needs --data DIR, or the go command for the standard library's source: %v", err)
		}
		d.data = filepath.Join(strings.TrimSpace(string(out)), "src")
	}
	data, err := filepath.Abs(d.data)
	if err != nil {
		return err
	}
	d.data = data
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	program := filepath.Join(filepath.Dir(exe), "apps", "search.wasm")
	if _, err := os.Stat(program); err != nil {
		return usage("%s is missing: `make build` makes it", program)
	}
	return os.WriteFile(filepath.Join(dir, "job.toml"), fmt.Appendf(nil, `name    = "search"
program = %q

[units]
count = %d
args  = ["--tree", "/tree", "--words", %q, "--unit", "{unit}", "--units", "%d"]

[inputs]
"tree" = %q

[limits]
memory = "256MiB"
time   = "60s"
output = "16MiB"

[verify]
error = 0.01
`, program, units, demoWords, units, d.data), 0o600)
}

func (d *demoSearch) add(r api.Result, open func(api.File) ([]byte, error)) error {
	if d.found == nil {
		d.found = map[string]int{}
	}
	for _, f := range r.Files {
		index, err := open(f)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(index)) {
			word, _, _ := strings.Cut(line, "\t")
			d.found[word]++
		}
	}
	return nil
}

func (d *demoSearch) report() (rows [][2]string, fields map[string]any, err error) {
	fields = map[string]any{"data": d.data, "words": d.found}
	for _, w := range strings.Split(demoWords, ",") {
		rows = append(rows, [2]string{"lines with " + w, strconv.Itoa(d.found[w])})
	}
	return rows, fields, nil
}
