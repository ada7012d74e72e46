package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/jobfile"
	"github.com/talka-grid/talka/workunits/sandbox"
)

// voided says which line of the job file to change where a run was void.
func (t *trier) voided(err error) error {
	var v *sandbox.Void
	if !errors.As(err, &v) {
		return err
	}
	switch v.Reason {
	case workunits.VoidWall, workunits.VoidCPU:
		return t.at("limits.time", usage("%w: raise the limit, or make units smaller", err))
	case workunits.VoidStack:
		return usage("%w: the program calls itself too deeply for any volunteer; use a loop, or a smaller unit", err)
	case workunits.VoidKilled, workunits.VoidDisk, workunits.VoidInput, workunits.VoidEngine, workunits.VoidCancelled:
	}
	return err
}

// verdict is the error that a program's end stands for, with what to change.
func (t *trier) verdict(f jobfile.File, r sandbox.Report, cat bool) error {
	if r.Kind == workunits.Exited && r.Code == 0 {
		return nil
	}
	if r.Kind == workunits.OutputLimit {
		field := "limits.output"
		if strings.Contains(r.Detail, " files ") {
			field = "limits.files"
		} else if strings.Contains(r.Detail, " one file ") {
			field = "limits.file"
		}
		return &exitErr{exitFailedUnits, t.at(field, usage("%s: raise the limit, or write less", r.Detail))}
	}
	text := "the program ended with " + ending(r)
	if r.Kind == workunits.Trapped {
		text = "the program trapped: " + r.Trap
	}
	for _, s := range t.advice(f, r) {
		text += "; " + s
	}
	code := exitFailedUnits
	if cat && r.Kind == workunits.Exited {
		code = int(r.Code)
	}
	return &exitErr{code, errors.New(text)}
}

// What programs say of the commonest mistakes.
var (
	noModule = regexp.MustCompile(`No module named '([A-Za-z0-9_]+)`)
	noMemory = regexp.MustCompile(`(?i)MemoryError|out of memory|memory allocation|bad_alloc`)
	ofPython = regexp.MustCompile(`(?m)^Traceback \(most recent call last\)|^SyntaxError: `)
)

// What units do not have, by what Python says last where it is missed.
var lacking = []struct {
	said   *regexp.Regexp
	advice string
}{
	{regexp.MustCompile(`does not support processes`), "units start no processes: call what you need as a library, or compile it as a program of its own"},
	{regexp.MustCompile(`can't start new thread`), "units have one thread: more processors work on more units"},
	{regexp.MustCompile(`'_?socket' has no attribute|urlopen error`), "units have no network: what they need stands in [inputs]"},
}

// advice says what to change in the job file for a program that failed.
func (t *trier) advice(f jobfile.File, r sandbox.Report) (list []string) {
	_, log, err := excerpt(r.Stderr, true)
	if err != nil {
		return nil
	}
	if m := noModule.FindStringSubmatch(log); m != nil {
		return []string{t.module(m[1])}
	}
	if noMemory.MatchString(log) || r.PeakMemory > f.Limits.Memory/10*9 {
		list = append(list, fmt.Sprintf("it took %s of memory and wanted more than the %s that [limits] memory allows: raise it", size(int64(r.PeakMemory)), size(int64(f.Limits.Memory))))
	}
	if r.Trap == "host calls over the limit" {
		list = append(list, fmt.Sprintf("[limits] calls is %d: raise it, or read and write larger pieces", f.Limits.Calls))
	}
	switch r.Trap {
	case "unreachable":
		list = append(list, "it gave up by itself (abort, panic or a failed check), mostly saying why in its log")
	case "out of bounds memory access":
		list = append(list, "a pointer or an index is wrong, or its own stack ran over: C and C++ have 64 KiB "+
			"for calls and local arrays, more with -Wl,-z,stack-size=1048576,--stack-first")
	}
	last := log[strings.LastIndexByte(strings.TrimRight(log, "\n"), '\n')+1:]
	for _, l := range lacking {
		if l.said.MatchString(last) {
			list = append(list, l.advice)
		}
	}
	// Python looks for its own files in many places, which is no fault.
	if path := r.Refusal.Path; path != "" && (!ofPython.MatchString(log) || strings.Contains(last, filepath.Base(path))) {
		s := r.Refusal.String()
		if !r.Refusal.ReadOnly {
			s += t.besideJob(strings.TrimPrefix(path, "/"))
		}
		list = append(list, s)
	}
	return list
}

// module says how a Python module that is missing gets into the unit's tree.
func (t *trier) module(name string) string {
	for _, file := range []string{name + ".py", name} {
		if s := t.besideJob(file); s != "" {
			return fmt.Sprintf("Python has no module %s%s", name, s)
		}
	}
	return fmt.Sprintf("Python has no module %s: the interpreter has the standard library alone. "+
		"Pure Python packages can stand in [inputs], as %q = \"site-packages/%s\"; those with C code cannot run", name, name, name)
}

// besideJob says what to add to [inputs] if the file that was missing lies beside
// the job file.
func (t *trier) besideJob(path string) string {
	for _, name := range []string{path, filepath.Base(path)} {
		if !workunits.ValidPath(name) {
			continue
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(t.file), filepath.FromSlash(name))); err == nil {
			return fmt.Sprintf(": add %q = %q to [inputs]", path, name)
		}
	}
	return ""
}
