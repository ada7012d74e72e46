package workunits

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func stakes(list ...Stake) StakeTable { return StakeTable{Stakes: list} }

func TestStandingAfterJobs(t *testing.T) {
	t.Parallel()
	nodes := []NodeID{testNode(1), testNode(2), testNode(3)}
	slices.SortFunc(nodes, NodeID.Compare)
	a, b, c := nodes[0], nodes[1], nodes[2]
	start := stakes(Stake{Node: a, Millis: 100}, Stake{Node: b, Millis: 50, Strikes: 1})
	// Two jobs that began together: a earns in both, b is caught in the second,
	// c comes in the first.
	first := stakes(Stake{Node: a, Millis: 130}, Stake{Node: b, Millis: 60, Strikes: 1}, Stake{Node: c, Millis: 7})
	second := stakes(Stake{Node: a, Millis: 105}, Stake{Node: b, Millis: 3, Strikes: 2})
	want := stakes(Stake{Node: a, Millis: 135}, Stake{Node: b, Millis: 3, Strikes: 2}, Stake{Node: c, Millis: 7})
	ignore := cmpopts.IgnoreUnexported(Stake{})
	if diff := cmp.Diff(want, start.After(start, first).After(start, second), ignore); diff != "" {
		t.Error(diff)
	}
	// Losing a stake without a strike, as by equivocation, loses it here too.
	if got := start.After(start, stakes(Stake{Node: a, Millis: 0})).of(a).Millis; got != 0 {
		t.Errorf("who lost its stake keeps %d", got)
	}
}

func TestStakeTableIsBounded(t *testing.T) {
	t.Parallel()
	var many []Stake
	for i := range MaxStakes + 10 {
		n := testNode(1)
		n[len(n)-3], n[len(n)-2], n[len(n)-1] = byte(i>>16), byte(i>>8), byte(i)
		s := Stake{Node: n, Millis: uint64(i)}
		if i == 0 {
			s.Strikes = 1
		}
		many = append(many, s)
	}
	got := StakeTable{}.After(StakeTable{}, stakes(many...))
	raw, _ := got.Encode()
	if len(got.Stakes) != MaxStakes || got.Stakes[0].Strikes != 1 || got.Stakes[1].Millis != 11 || len(raw) > MaxStakeTable {
		t.Errorf("%d stakes in %d bytes, the first two %+v", len(got.Stakes), len(raw), got.Stakes[:2])
	}
	if _, err := ParseStakeTable(raw); err != nil {
		t.Error(err)
	}
	large, _ := stakes(many...).Encode()
	if _, err := ParseStakeTable(large); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a table too large: %v", err)
	}
	for name, bad := range map[string]StakeTable{
		"twice":      stakes(Stake{Node: testNode(1)}, Stake{Node: testNode(1)}),
		"descending": stakes(many[1], many[0]),
		"much":       stakes(Stake{Node: testNode(1), Millis: 1 << 60}),
	} {
		raw, _ := bad.Encode()
		if _, err := ParseStakeTable(raw); err == nil {
			t.Errorf("%s is a table", name)
		}
	}
}
