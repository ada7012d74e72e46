package grid

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/verdict"
)

// Bounds of the logs that are kept. Once there are more, the oldest go.
const (
	maxLogs     = 4096
	maxLogBytes = 64 << 20
)

// CopyLog is what a copy wrote on standard error, of which the job's limits say how
// much is kept. It is no part of a result: what a program writes there, as that it goes
// on from a checkpoint, need not be the same in every copy. The nodes that executed a
// copy have it for a while.
type CopyLog struct {
	Unit uint32           `json:"unit"`
	Node workunits.NodeID `json:"peer_id"` // that executed the copy
	Time time.Time        `json:"time"`    // when it ended, by that node's clock
	How  string           `json:"how"`     // it ended: "exit 3", "trap unreachable", "void: wall time"
	Text string           `json:"text"`
}

// logs keeps the standard error of copies that were executed here, one file for the
// newest copy of a unit: how it ended, a line break, and what it wrote. Copies that
// wrote nothing have none. It is safe for concurrent use.
type logs struct {
	dir  string
	most int   // files
	room int64 // bytes

	mu      sync.Mutex
	counted bool
	files   int // at most
	bytes   int64
}

// keep copies a log into its place.
func (l *logs) keep(job workunits.JobID, unit uint32, how, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	folder := filepath.Join(l.dir, job.String())
	path := filepath.Join(folder, strconv.FormatUint(uint64(unit), 10))
	if info.Size() == 0 {
		if err = os.Remove(path); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.MultiReader(strings.NewReader(strings.ReplaceAll(how, "\n", " ")+"\n"), io.LimitReader(in, workunits.MaxLog)))
	if err := errors.Join(err, out.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	l.files++
	l.bytes += info.Size()
	return l.trim()
}

// trim removes the oldest logs once there are too many, or too many bytes, down to
// three quarters.
func (l *logs) trim() error {
	if l.counted && l.files <= l.most && l.bytes <= l.room {
		return nil
	}
	type file struct {
		path string
		fs.FileInfo
	}
	var all []file
	l.counted, l.files, l.bytes = true, 0, 0
	err := filepath.WalkDir(l.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			all = append(all, file{path, info})
			l.files++
			l.bytes += info.Size()
		}
		return err
	})
	slices.SortFunc(all, func(x, y file) int { return cmp.Or(x.ModTime().Compare(y.ModTime()), strings.Compare(x.path, y.path)) })
	if l.files <= l.most && l.bytes <= l.room {
		return err
	}
	for _, f := range all {
		if l.files <= l.most*3/4 && l.bytes <= l.room*3/4 {
			break
		}
		err = errors.Join(err, os.Remove(f.path))
		_ = os.Remove(filepath.Dir(f.path)) // unless there are more
		l.files--
		l.bytes -= f.Size()
	}
	return err
}

// drop removes the logs of a job.
func (l *logs) drop(job workunits.JobID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return os.RemoveAll(filepath.Join(l.dir, job.String()))
}

// units lists the units of a job with a log here, ascending.
func (l *logs) units(job workunits.JobID) (list []uint32, err error) {
	all, err := os.ReadDir(filepath.Join(l.dir, job.String()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range all {
		if u, err := strconv.ParseUint(e.Name(), 10, 32); err == nil {
			list = append(list, uint32(u))
		}
	}
	slices.Sort(list)
	return list, err
}

// log reads the log of a unit, of its text the last bytes; the error wraps
// fs.ErrNotExist if there is none.
func (l *logs) log(job workunits.JobID, unit uint32, last int64) (c CopyLog, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, err := os.Open(filepath.Join(l.dir, job.String(), strconv.FormatUint(uint64(unit), 10)))
	if err != nil {
		return c, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return c, err
	}
	in := bufio.NewReader(f)
	how, err := in.ReadString('\n')
	if err != nil {
		return c, fmt.Errorf("log of unit %d: %w", unit, err)
	}
	if skip := info.Size() - int64(len(how)) - last; skip > 0 {
		if _, err := f.Seek(int64(len(how))+skip, io.SeekStart); err != nil {
			return c, err
		}
		in.Reset(f)
	}
	text, err := io.ReadAll(io.LimitReader(in, last))
	return CopyLog{Unit: unit, Time: info.ModTime(), How: strings.TrimSuffix(how, "\n"), Text: strings.ToValidUTF8(string(text), "?")}, err
}

// logged keeps what a copy wrote, however it ended.
func (n *Node) logged(job workunits.JobID, unit uint32, how, from string) {
	if err := n.logs.keep(job, unit, how, from); err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.log.Warn("keep the log of a copy", "job", job, "unit", unit, "err", err)
	}
}

// howEnded says in words how a copy ended.
func howEnded(how workunits.OutcomeKind, code uint32, trap string, void workunits.VoidReason) string {
	switch {
	case void != "":
		return "void: " + string(void)
	case how == workunits.Trapped:
		return "trap " + trap
	case how == workunits.Exited:
		return fmt.Sprintf("exit %d", code)
	}
	return string(how)
}

// maxLogAsked is how many volunteers of a unit are asked for its log.
const maxLogAsked = 32

// Logs yields what copies of a job wrote on standard error that were executed here, by
// unit. Of one unit, the job's publisher asks its volunteers as well, who tell the end
// of theirs. The error wraps ErrNotFound if there is nothing; an error of yield ends it.
func (n *Node) Logs(ctx context.Context, id workunits.JobID, unit *uint32, yield func(CopyLog) error) error {
	var list []uint32
	var err error
	if unit != nil {
		list = []uint32{*unit}
	} else if list, err = n.logs.units(id); err != nil {
		return err
	}
	found := false
	for _, u := range list {
		l, err := n.logs.log(id, u, workunits.MaxLog)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			l.Node, found = n.self, true
			err = yield(l)
		}
		if err != nil {
			return err
		}
	}
	if unit != nil {
		more, err := n.askLogs(ctx, id, *unit)
		for _, l := range more {
			if err == nil {
				found = true
				err = yield(l)
			}
		}
		if err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("no copy wrote a log that is kept here; logs stay where copies are executed, and a unit's volunteers show theirs to the publisher (--unit): %w", ErrNotFound)
	}
	return nil
}

// heardReply is what a volunteer answered.
type heardReply struct {
	from workunits.NodeID
	wire.LogReply
}

// askLogs asks the volunteers of a unit for their logs, if this node publishes the job.
func (n *Node) askLogs(ctx context.Context, id workunits.JobID, unit uint32) (list []CopyLog, err error) {
	heard := make(chan heardReply, maxLogAsked)
	asked := map[workunits.NodeID]bool{}
	own := false
	if derr := n.do(ctx, func() { own = n.jobs[id] != nil && n.jobs[id].manifest.Publisher == n.self }); derr != nil || !own {
		return nil, derr
	}
	err = n.book(ctx, id, func(j *job, b *verdict.Book) {
		if unit >= j.manifest.Total() {
			return
		}
		for _, c := range b.Story(unit).Copies {
			if c.Commit != nil && c.Volunteer != n.self && len(asked) < maxLogAsked {
				asked[c.Volunteer] = true
			}
		}
		n.logReplies[heard] = id
		for who := range asked {
			n.send(who, wire.LogAsk{Job: id, Unit: unit})
		}
	})
	if err != nil {
		return nil, err
	}
	defer n.post(func() { delete(n.logReplies, heard) })
	late := time.NewTimer(answerTime)
	defer late.Stop()
	for len(asked) > 0 {
		select {
		case r := <-heard:
			if r.Unit == unit && asked[r.from] && r.How != "" {
				list = append(list, CopyLog{Unit: unit, Node: r.from, Time: time.UnixMilli(int64(r.Time)), How: strings.ToValidUTF8(r.How, "?"), Text: strings.ToValidUTF8(string(r.Text), "?")})
			}
			if r.Unit == unit {
				delete(asked, r.from)
			}
		case <-late.C:
			clear(asked)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	slices.SortFunc(list, func(x, y CopyLog) int { return cmp.Or(x.Time.Compare(y.Time), x.Node.Compare(y.Node)) })
	return list, nil
}

// receiveLog takes the messages about logs of copies.
func (n *Node) receiveLog(j *job, from workunits.NodeID, m wire.Message) bool {
	switch m := m.(type) {
	case wire.LogAsk:
		n.answerLog(j, from, m)
	case wire.LogReply:
		n.hearLog(from, m)
	default:
		return false
	}
	return true
}

// answerLog shows a job's publisher the end of what a copy wrote here.
func (n *Node) answerLog(j *job, from workunits.NodeID, m wire.LogAsk) {
	if j.manifest.Publisher != from {
		return
	}
	r := wire.LogReply{Job: m.Job, Unit: m.Unit}
	if l, err := n.logs.log(m.Job, m.Unit, wire.MaxLogText); err == nil {
		r.How, r.Time, r.Text = l.How, uint64(l.Time.UnixMilli()), []byte(l.Text)
	}
	n.send(from, r)
}

// hearLog hands a volunteer's answer to those who wait for it.
func (n *Node) hearLog(from workunits.NodeID, m wire.LogReply) {
	for c, id := range n.logReplies {
		if id != m.Job {
			continue
		}
		select {
		case c <- heardReply{from, m}:
		default: // more than were asked
		}
	}
}
