package workunits

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Bounds of a stake table.
const (
	MaxStakes     = 1 << 14
	MaxStakeTable = 1 << 20 // bytes of the record
	maxMillis     = 1 << 53
	maxNominal    = 1 << 32 // 50 days
)

// Stake is one volunteer's line of a stake table.
type Stake struct {
	_       struct{} `cbor:",toarray"`
	Node    NodeID
	Millis  uint64 // nominal time of its accepted copies, see Manifest.Nominal
	Strikes uint32
}

// StakeTable is the record that a standing names: what volunteers earned in a
// project. The zero value says that all are newcomers.
type StakeTable struct {
	Stakes []Stake `cbor:"stakes"` // ascending by node
}

// Encode returns the table's record and its digest.
func (t StakeTable) Encode() ([]byte, Digest) {
	raw := Encode(t)
	return raw, Sum(raw)
}

// ParseStakeTable reads the record of a table.
func ParseStakeTable(raw []byte) (StakeTable, error) {
	t, err := Decode[StakeTable](raw, MaxStakeTable)
	if err != nil {
		return StakeTable{}, fmt.Errorf("table of stakes: %w", err)
	}
	if len(t.Stakes) > MaxStakes {
		return StakeTable{}, fmt.Errorf("table of %d stakes, limit %d: %w", len(t.Stakes), MaxStakes, ErrTooLarge)
	}
	for i, s := range t.Stakes {
		if i > 0 && s.Node.Compare(t.Stakes[i-1].Node) <= 0 {
			return StakeTable{}, fmt.Errorf("table of stakes is not ascending at line %d", i)
		}
		if s.Millis > maxMillis {
			return StakeTable{}, fmt.Errorf("stake of %d ms, limit %d", s.Millis, uint64(maxMillis))
		}
	}
	return t, nil
}

// ParseStanding reads the table that the manifest names; without one the record
// is empty.
func (m Manifest) ParseStanding(record []byte) (StakeTable, error) {
	if m.Standing == nil {
		if len(record) > 0 {
			return StakeTable{}, errors.New("there is a table of stakes, and the manifest names none")
		}
		return StakeTable{}, nil
	}
	if !m.Standing.Cid.Equals(RecordCid(Sum(record))) {
		return StakeTable{}, errors.New("the table of stakes is not the one that the manifest names")
	}
	return ParseStakeTable(record)
}

// of returns a volunteer's line.
func (t StakeTable) of(n NodeID) Stake {
	i, ok := slices.BinarySearchFunc(t.Stakes, n, func(s Stake, n NodeID) int { return s.Node.Compare(n) })
	if !ok {
		return Stake{Node: n}
	}
	return t.Stakes[i]
}

// After is the table of a project whose table was t when a job ended that began
// with the table from and came to the table to. Jobs of a project may run beside
// one another: what was earned in each counts, and who lost its stake in one has
// lost it in all. Who has too little for a table of bounded size is left out.
func (t StakeTable) After(from, to StakeTable) StakeTable {
	lines := map[NodeID]Stake{}
	for _, s := range t.Stakes {
		lines[s.Node] = s
	}
	for _, end := range to.Stakes {
		had, s := from.of(end.Node), lines[end.Node]
		s.Node = end.Node
		if end.Strikes > had.Strikes || end.Millis < had.Millis {
			s.Millis, s.Strikes = end.Millis, s.Strikes+end.Strikes-min(had.Strikes, end.Strikes)
		} else {
			s.Millis = min(s.Millis+end.Millis-had.Millis, maxMillis)
		}
		lines[end.Node] = s
	}
	var list []Stake
	for _, s := range lines {
		list = append(list, s)
	}
	// Strikes weigh most: who sheds them by being left out begins anew.
	slices.SortFunc(list, func(x, y Stake) int {
		return cmp.Or(cmp.Compare(y.Strikes, x.Strikes), cmp.Compare(y.Millis, x.Millis), x.Node.Compare(y.Node))
	})
	list = list[:min(len(list), MaxStakes)]
	slices.SortFunc(list, func(x, y Stake) int { return x.Node.Compare(y.Node) })
	return StakeTable{Stakes: list}
}
