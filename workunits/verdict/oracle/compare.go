package oracle

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/verdict"
)

// Difference says where a book first differs from the verdict, "" if nowhere.
func (v Verdict) Difference(b *verdict.Book) string {
	wrong := map[node][]uint32{}
	for _, f := range b.Faults() {
		if f.Name == workunits.FaultWrong {
			wrong[f.Node] = f.Units
		}
	}
	if fmt.Sprint(wrong) != fmt.Sprint(v.Wrong) {
		return fmt.Sprintf("proven wrong: the book says %v, the oracle %v", wrong, v.Wrong)
	}
	for i, want := range v.Units {
		if got := seen(b.Unit(uint32(i))); fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			return fmt.Sprintf("unit %d:\nthe book says   %+v\nthe oracle says %+v", i, got, want)
		}
	}
	for n, want := range v.Stakes {
		if got := b.Stake(n); got != want {
			return fmt.Sprintf("stake of %s: the book says %d, the oracle %d", n, got, want)
		}
	}
	if got := b.Stakes(); !bytes.Equal(workunits.Encode(got), workunits.Encode(v.Next)) {
		return fmt.Sprintf("the next standing: the book says %+v, the oracle %+v", got, v.Next)
	}
	return ""
}

// seen is a book's verdict in the oracle's form.
func seen(u verdict.Unit) Unit {
	v := Unit{State: u.State, Canonical: u.Canonical, Contested: u.Contested, Support: u.Support, Copies: u.Copies, Voids: u.Voids, Opening: u.Opening}
	v.Unsealed = append(v.Unsealed, u.Unsealed...)
	slices.SortFunc(v.Unsealed, compare)
	v.Compare = append(v.Compare, u.Compare...)
	slices.SortFunc(v.Compare, func(x, y [2]digest) int {
		return slices.Compare(append(x[0][:], x[1][:]...), append(y[0][:], y[1][:]...))
	})
	if u.Agreed() {
		v.Result = u.Result.Digest
		v.Volunteers = append(v.Volunteers, u.Volunteers...)
		slices.SortFunc(v.Volunteers, workunits.NodeID.Compare)
	}
	return v
}
