package steward_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/talka-grid/talka/grid/steward"
	"github.com/talka-grid/talka/grid/wire"
)

func TestFunnel(t *testing.T) {
	t.Parallel()
	j, m := published(t)
	m.Step(start, j.request("v"))
	small := j.request("w")
	small.Msg = wire.WorkRequest{Job: j.id, Units: 2, Arch: "amd64", Memory: 1}
	m.Step(start, small)
	m.Step(start+1, small)          // the same volunteer
	m.Step(start+2, j.request("p")) // the steward itself
	many := steward.Funnel{Stewards: 1, Asked: 2, Granted: 1, Holding: 1, Refused: []steward.Refusal{{Reason: "units take 1048576 bytes of memory", Volunteers: 1}}}
	if d := cmp.Diff(many, m.Funnel()); d != "" {
		t.Error(d)
	}
	m.Step(start+steward.FunnelTime+2, steward.Tick{})
	if f := m.Funnel(); f.Asked != 0 || f.Refused != nil {
		t.Errorf("long after the requests: %+v", f)
	}
}
