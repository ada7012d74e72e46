package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/jobfile"
	"github.com/talka-grid/talka/workunits/sandbox"
	"github.com/talka-grid/talka/workunits/verdict"
)

// trial is what one unit did on this machine, and what that means for the job.
type trial struct {
	Unit    uint32                `json:"unit"` // with Of the number of units whose results the second stage had
	Of      uint32                `json:"reduce,omitempty"`
	Units   uint32                `json:"units"`
	How     workunits.OutcomeKind `json:"how"`
	Code    uint32                `json:"code"`
	Trap    string                `json:"trap,omitempty"`
	Detail  string                `json:"detail,omitempty"` // which limit ended it
	Output  int64                 `json:"output"`           // bytes of standard output
	Stdout  string                `json:"stdout"`           // its beginning
	Log     int64                 `json:"log"`              // bytes of standard error that were kept
	Stderr  string                `json:"stderr"`           // their end
	Dropped uint64                `json:"dropped"`          // bytes of standard error over the limit
	Files   []trialFile           `json:"files"`            // in /out, ascending by path
	Wall    float64               `json:"wall"`             // seconds
	CPU     float64               `json:"cpu"`              // seconds
	Memory  uint64                `json:"memory"`           // bytes of linear memory at the end
	Calls   uint64                `json:"calls"`            // of the functions of WASI
	Read    uint64                `json:"read"`             // bytes of files
	Written uint64                `json:"written"`          // bytes
	Cost    *cost                 `json:"cost,omitempty"`   // of the whole job, if all units are like this one
	Limits  string                `json:"limits,omitempty"` // a table for the job file that would be enough

	limits workunits.Limits
}

type trialFile struct {
	Path string `json:"path"`
	Size int64  `json:"size"`
}

// cost is what a job takes of volunteers whose machines are like this one.
type cost struct {
	Copies    float64 `json:"copies"`     // of a unit, by volunteers with a long record
	CopiesNew float64 `json:"copies_new"` // and by newcomers
	Hours     float64 `json:"hours"`      // of processor time, all copies by volunteers with a long record
	HoursNew  float64 `json:"hours_new"`  // and by newcomers
	KWh       float64 `json:"kwh"`        // at most, at coreWatts
	Results   float64 `json:"results"`    // bytes of accepted results, on one node
}

const (
	coreWatts  = 10     // of a busy core
	longRecord = 10_000 // units accepted of a volunteer
	mostText   = 4 << 10
)

// costOf multiplies one unit by the units of its job and the copies that its
// verification asks for.
func costOf(p workunits.Policy, t trial) *cost {
	law := verdict.LawOf(p)
	c := cost{Copies: law.Expected(longRecord), CopiesNew: law.Expected(1)}
	one := t.CPU / 3600 * float64(t.Units)
	c.Hours, c.HoursNew = one*c.Copies, one*c.CopiesNew
	c.KWh = c.HoursNew * coreWatts / 1000
	result := float64(t.Output)
	for _, f := range t.Files {
		result += float64(f.Size)
	}
	c.Results = result * float64(t.Units)
	return &c
}

// trial reads what a run left.
func (t *trier) trial(f jobfile.File, r sandbox.Report, unit, of uint32) (trial, error) {
	s := trial{
		Unit: unit, Of: of, Units: t.units, How: r.Kind, Code: r.Code, Trap: r.Trap, Detail: r.Detail, Files: []trialFile{},
		Wall: r.Wall.Seconds(), CPU: r.CPU.Seconds(), Memory: r.PeakMemory,
		Calls: r.Calls, Read: r.Read, Written: r.Written, Dropped: r.Dropped, limits: f.Limits,
	}
	var err1, err2 error
	s.Output, s.Stdout, err1 = excerpt(r.Stdout, false)
	s.Log, s.Stderr, err2 = excerpt(r.Stderr, true)
	err := filepath.WalkDir(r.Out, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(r.Out, path)
		s.Files = append(s.Files, trialFile{filepath.ToSlash(name), info.Size()})
		return err
	})
	if r.Kind == workunits.Exited && r.Code == 0 && of == 0 {
		s.Cost, s.Limits = costOf(f.Policy, s), s.enough()
	}
	return s, errors.Join(err, err1, err2)
}

// excerpt is the size of a file and its beginning or end.
func excerpt(path string, end bool) (size int64, text string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, "", err
	}
	at := int64(0)
	if end {
		at = max(0, info.Size()-mostText)
	}
	b, err := io.ReadAll(io.NewSectionReader(f, at, mostText))
	return info.Size(), strings.ToValidUTF8(string(b), "?"), err
}

func (a *app) cat(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(a.out, f)
	return err
}

func ending(r sandbox.Report) string {
	switch r.Kind {
	case workunits.Exited:
		return fmt.Sprintf("exit code %d", r.Code)
	case workunits.Trapped:
		return "trap: " + r.Trap
	case workunits.OutputLimit:
	}
	return "output limit: " + r.Detail
}

func trialFields(w io.Writer, t trial) {
	what := fmt.Sprintf("%d of %d", t.Unit, t.Units)
	if t.Of > 0 {
		what = "second stage over the results of " + plural(int(t.Of), "unit")
	}
	log := size(t.Log)
	if t.Dropped > 0 {
		log += fmt.Sprintf(" kept, %s dropped", size(int64(t.Dropped)))
	}
	fields(w,
		"unit", what,
		"end", ending(sandbox.Report{Kind: t.How, Code: t.Code, Trap: t.Trap, Detail: t.Detail}),
		"output", fmt.Sprintf("%s, and %s in /out (limits %s, %d)", size(t.Output), plural(len(t.Files), "file"), size(int64(t.limits.Output)), t.limits.Files),
		"log", log,
		"time", fmt.Sprintf("%.2f s, %.2f s of processor time (limit %g s)", t.Wall, t.CPU, float64(t.limits.Wall)/1000),
		"memory", fmt.Sprintf("%s (limit %s)", size(int64(t.Memory)), size(int64(t.limits.Memory))),
		"files", fmt.Sprintf("%s read, %s written, %d host calls", size(int64(t.Read)), size(int64(t.Written)), t.Calls),
	)
	if c := t.Cost; c != nil {
		fields(w,
			"copies", fmt.Sprintf("%.2f a unit by volunteers with a long record, %.2f by newcomers", c.Copies, c.CopiesNew),
			"whole job", fmt.Sprintf("%s of volunteers' processor time, up to %.2g kWh, %s of results", hours(c.Hours, c.HoursNew), c.KWh, size(int64(min(c.Results, math.MaxInt64/2)))),
			"enough", t.Limits,
		)
	}
	for _, f := range t.Files {
		fmt.Fprintf(w, "file: %s (%s)\n", line(f.Path), size(f.Size))
	}
	passage(w, "output", t.Stdout, t.Output)
	passage(w, "log", t.Stderr, t.Log)
}

// hours says a span of hours as briefly as its ends allow.
func hours(low, high float64) string {
	a, b := fmt.Sprintf("%.2g", low), fmt.Sprintf("%.2g", high)
	if a == b {
		return a + " hours"
	}
	return a + " to " + b + " hours"
}

// passage prints a text of the program below a rule.
func passage(w io.Writer, what, text string, whole int64) {
	if text == "" {
		return
	}
	if whole > int64(len(text)) {
		what += fmt.Sprintf(", %s of %s", size(int64(len(text))), size(whole))
	}
	fmt.Fprintf(w, "--- %s ---\n%s\n", what, strings.TrimRight(clean(text), "\n"))
}

// enough suggests limits for the job file: twice what the unit took, and five
// times its time, as other units and machines differ.
func (t trial) enough() string {
	const mib, kib = 1 << 20, 1 << 10
	output := t.Output
	for _, f := range t.Files {
		output += f.Size
	}
	return fmt.Sprintf(`memory = "%dMiB", time = "%ds", output = "%dKiB"`,
		min(max(1, (2*t.Memory+mib-1)/mib), workunits.MaxMemory/mib), max(1, int(5*t.Wall+1)), max(1, (2*output+kib-1)/kib))
}
