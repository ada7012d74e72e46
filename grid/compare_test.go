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

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox"
)

// noisyProgram gives every node's results a second line of its own. As comparator
// it looks at the first lines.
type noisyProgram struct {
	goProgram
	noise, text string
}

func (p noisyProgram) Run(_ context.Context, t sandbox.Task, _ func(int)) (sandbox.Report, error) {
	r := sandbox.Report{Kind: workunits.Exited, Stdout: filepath.Join(t.Dir, "stdout"), Out: filepath.Join(t.Dir, "out"), CPU: time.Millisecond}
	text := fmt.Sprint(p.text, t.Args, "\n", p.noise, strings.Repeat(".", workunits.MaxInline)) // a record of its own
	if slices.Equal(t.Args, []string{workunits.CompareA, workunits.CompareB}) {
		text = ""
		var first [2]string
		for i, in := range t.Inputs {
			b, err := os.ReadFile(filepath.Join(in.Host, "stdout"))
			if err != nil || in.Path != t.Args[i] {
				return r, fmt.Errorf("result %s of %s: %w", t.Args[i], in.Path, err)
			}
			first[i], _, _ = strings.Cut(string(b), "\n")
		}
		if first[0] != first[1] {
			r.Code = 1
		}
	}
	return r, errors.Join(os.MkdirAll(r.Out, 0o700), os.WriteFile(r.Stdout, []byte(text), 0o600))
}

// TestComparator: results that differ agree where the job's program says so, and
// only there.
func TestComparator(t *testing.T) {
	t.Parallel()
	c, ctx := newCluster(t), testContext(t)
	pub, project := c.publisher(Config{Exec: noisyProgram{noise: "pub"}, Slots: 1})
	var liar *member
	for i := range 5 {
		p := noisyProgram{noise: fmt.Sprint(i)}
		if i == 4 {
			p.text = "wrong "
		}
		liar = c.start(Config{Slots: 1, Steward: i < 2, Trust: []workunits.ProjectID{project}, Exec: p})
	}
	m := testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, 30)
	m.Limits.Output = 1 << 20
	m.Policy.Compare = workunits.Comparator{Kind: workunits.CompareProgram, Program: &workunits.Link{Cid: pub.host.data.put([]byte("comparator"))}}
	id, err := pub.Submit(ctx, m, progress(t))
	if err != nil {
		t.Fatal(err)
	}
	info, err := pub.WaitJob(ctx, id)
	if err != nil || info.Units.Accepted != 30 {
		t.Fatalf("job came to %+v, %v", info, err)
	}
	for _, f := range info.Faults {
		if f.Node != liar.self {
			t.Errorf("fault %+v, want none but the liar's", f)
		}
	}
	if err := pub.Results(ctx, id, func(r UnitResult) error {
		b := r.Outcome.Out.Data
		if r.Outcome.Out.Cid != nil {
			b = pub.host.data.get(r.Outcome.Out.Cid.Cid)
		}
		if !strings.HasPrefix(string(b), fmt.Sprintf("[%d]\n", r.Unit)) {
			t.Errorf("accepted %.20q for unit %d", b, r.Unit)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
