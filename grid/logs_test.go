package grid

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox"
)

// talker is an executor whose units tell their arguments on standard error, but for
// the first, and of which the last one takes too long.
type talker struct{ goProgram }

func (e talker) Run(ctx context.Context, t sandbox.Task, started func(int)) (sandbox.Report, error) {
	r, err := e.goProgram.Run(ctx, t, started)
	text := fmt.Sprintf("I am %s\n\xff\n", t.Args)
	if slices.Contains(t.Args, "0") {
		text = ""
	}
	err = errors.Join(err, os.WriteFile(sandbox.LogFile(t.Dir), []byte(text), 0o600))
	if slices.Contains(t.Args, "3") {
		return sandbox.Report{}, &sandbox.Void{Reason: workunits.VoidWall}
	}
	return r, err
}

func (m *member) logsOf(ctx context.Context, id workunits.JobID, unit *uint32) (list []CopyLog, err error) {
	err = m.Logs(ctx, id, unit, func(l CopyLog) error { list = append(list, l); return nil })
	return list, err
}

// Logs stay with who executed the copies; the publisher is shown them, and nobody else.
func TestLogs(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := newCluster(t)
	pub, project := c.publisher(Config{})
	v := c.start(Config{Slots: 1, Steward: true, Trust: []workunits.ProjectID{project}, Exec: talker{}})
	m := testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, 4)
	m.Limits.Tries, m.Policy.Mode = 1, workunits.VerifyNone
	id, err := pub.Submit(ctx, m, progress(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pub.WaitJob(ctx, id); err != nil {
		t.Fatal(err)
	}
	var ends []string
	list, err := v.logsOf(ctx, id, nil)
	for _, l := range list {
		ends = append(ends, fmt.Sprint(l.Unit, " ", l.How))
		if l.Node != v.self || l.Text != fmt.Sprintf("I am [%d]\n?\n", l.Unit) || time.Since(l.Time) > time.Hour {
			t.Errorf("%+v", l)
		}
	}
	if want := []string{"1 exit 0", "2 exit 0", "3 void: wall time"}; err != nil || !slices.Equal(ends, want) {
		t.Errorf("%q, %v, want %q", ends, err, want)
	}
	three, nought := uint32(3), uint32(0)
	shown, err := pub.logsOf(ctx, id, &three)
	if err != nil || len(shown) != 1 || shown[0].Node != v.self || shown[0].How != list[2].How || shown[0].Text != list[2].Text {
		t.Errorf("the publisher is shown %+v, %v", shown, err)
	}
	for unit, m := range map[*uint32]*member{nil: pub, &nought: pub, &three: c.start(Config{})} {
		if list, err := m.logsOf(ctx, id, unit); !errors.Is(err, ErrNotFound) {
			t.Errorf("%+v, %v", list, err)
		}
	}
	if err := v.do(ctx, func() {
		before := len(v.after)
		v.answerLog(v.jobs[id], workunits.NodeID{1}, wire.LogAsk{Job: id, Unit: 3})
		if len(v.after) > before {
			t.Error("a stranger is answered")
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// The oldest logs go once there are too many, those of an earlier process among them;
// of a long one the publisher is shown the end.
func TestLogsAreBounded(t *testing.T) {
	t.Parallel()
	dir, job := t.TempDir(), workunits.JobID{1}
	from := filepath.Join(dir, "stderr")
	keep := func(l *logs, unit uint32, text string) {
		t.Helper()
		if err := errors.Join(os.WriteFile(from, []byte(text), 0o600), l.keep(job, unit, "exit 1", from)); err != nil {
			t.Fatal(err)
		}
		at := time.Unix(int64(unit), 0)
		path := filepath.Join(l.dir, job.String(), fmt.Sprint(unit))
		if err := os.Chtimes(path, at, at); err != nil && text != "" {
			t.Fatal(err)
		}
	}
	fresh := func() *logs { return &logs{dir: filepath.Join(dir, "logs"), most: 8, room: 1 << 20} }
	l := fresh()
	for u := range uint32(8) {
		keep(l, u, "text")
	}
	l = fresh()
	keep(l, 8, "text") // the ninth of all
	if units, err := l.units(job); err != nil || !slices.Equal(units, []uint32{3, 4, 5, 6, 7, 8}) {
		t.Errorf("units %v, %v", units, err)
	}
	keep(l, 9, strings.Repeat("x", 1<<19)+"the end")
	if c, err := l.log(job, 9, 7); err != nil || c.Text != "the end" || c.How != "exit 1" {
		t.Errorf("%+v, %v", c, err)
	}
	keep(l, 10, strings.Repeat("x", 1<<19))
	if units, err := l.units(job); err != nil || !slices.Equal(units, []uint32{10}) {
		t.Errorf("units %v, %v", units, err)
	}
	keep(l, 10, "") // the newest copy said nothing
	if units, err := l.units(job); err != nil || len(units) > 0 {
		t.Errorf("units %v, %v", units, err)
	}
	if err := l.drop(job); err != nil {
		t.Error(err)
	}
}
