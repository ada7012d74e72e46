package grid

import (
	"errors"
	"testing"

	"github.com/talka-grid/talka/workunits"
)

// TestProjects: what was only heard of is listed, and told what it would run, without
// consent; a share is consent and outlives a restart.
func TestProjects(t *testing.T) {
	t.Parallel()
	c, ctx := newCluster(t), testContext(t)
	pub, project := c.publisher(Config{Slots: 1})
	m := testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, 2)
	id, err := pub.Submit(ctx, m, progress(t))
	if err != nil {
		t.Fatal(err)
	}
	v := c.start(Config{Slots: 1})
	pub.catalogue.mu.Lock()
	for _, a := range pub.catalogue.live {
		if err := v.Learn(a.data); err != nil {
			t.Error(err)
		}
	}
	pub.catalogue.mu.Unlock()
	if err := v.await(ctx, func() bool { return len(v.seen) > 0 }); err != nil {
		t.Fatal(err)
	}
	if list := v.Projects(); len(list) != 1 || list[0].Project != project || list[0].Trusted || list[0].Own || list[0].Share != 1 || list[0].OpenJobs != 1 {
		t.Errorf("heard of: %+v", list)
	}
	d, err := v.Project(ctx, project)
	if err != nil || d.Missing != 0 || len(d.Jobs) != 1 || d.Jobs[0].Job != id || d.Jobs[0].Memory != m.Limits.Memory || d.Jobs[0].Program != m.Program.Cid.String() {
		t.Errorf("%+v, %v", d, err)
	}
	for _, bad := range []int{-1, 0, 101} {
		if err := v.SetShare(project, bad); !errors.Is(err, ErrShare) {
			t.Errorf("share %d: %v", bad, err)
		}
	}
	if v.Projects()[0].Trusted {
		t.Error("a bad share is consent")
	}
	if err := v.SetShare(project, 3); err != nil {
		t.Fatal(err)
	}
	v = c.restart(v)
	if list := v.Projects(); len(list) != 1 || !list[0].Trusted || list[0].Share != 3 {
		t.Errorf("after a restart: %+v", list)
	}
}
