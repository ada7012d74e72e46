package verdict

import (
	"slices"

	"github.com/talka-grid/talka/workunits"
)

// pair is two results of a unit that somebody compared, the first opened first.
type pair struct {
	unit uint32
	a, b digest
}

type answer struct {
	by    *author
	equal bool
}

func (b *Book) comparison(a *author, s workunits.Comparison) []uint32 {
	if b.manifest.Policy.Compare.Kind == workunits.CompareBytes || s.Program != b.manifest.Policy.Compare.ID() || s.Unit >= b.total {
		return nil
	}
	p := pair{s.Unit, s.A, s.B}
	if slices.ContainsFunc(b.answers[p], func(x answer) bool { return x.by == a }) {
		return nil
	}
	b.answers[p] = append(b.answers[p], answer{a, s.Equal})
	return []uint32{s.Unit}
}

// compared is the answer on two results: the publisher's, or that of two
// listed stewards, or the only one, none of which executed the unit.
func (b *Book) compared(p pair, list []copyOf) (equal, known bool) {
	var votes [2]int
	for _, x := range b.answers[p] {
		switch {
		case x.by.id == b.manifest.Publisher:
			return x.equal, true
		case !x.by.listed || slices.ContainsFunc(list, func(k copyOf) bool { return k.by == x.by }):
		case x.equal:
			votes[1]++
		default:
			votes[0]++
		}
	}
	equal = votes[1] > votes[0]
	return equal, votes[0] != votes[1] && max(votes[0], votes[1]) >= min(2, b.keepers)
}

// classify tells the open copies which result stands for them under the job's
// comparator. Results are compared with those that were open first, never in a
// chain: what is within tolerance of something within tolerance may not be.
func (b *Book) classify(u uint32, list []copyOf) (unknown [][2]workunits.Digest) {
	if b.manifest.Policy.Compare.Kind == workunits.CompareBytes || len(list) < 2 {
		return nil
	}
	open := openOf(list)
	if len(open) < 2 {
		return nil
	}
	first := longest(open)[0].digest
	slices.SortStableFunc(open, func(x, y copyOf) int {
		if x.digest != y.digest && (x.digest == first || y.digest == first) {
			if x.digest == first {
				return -1
			}
			return 1
		}
		return compareRefs(*x.first, *y.first)
	})
	class := map[digest]digest{}
	var heads []digest
	for _, k := range open {
		if _, done := class[k.digest]; done {
			continue
		}
		class[k.digest] = k.digest
		for _, h := range heads {
			equal, known := b.compared(pair{u, h, k.digest}, list)
			if !known {
				unknown = append(unknown, [2]workunits.Digest{h, k.digest})
			}
			if equal && known {
				class[k.digest] = h
				break
			}
		}
		if class[k.digest] == k.digest {
			heads = append(heads, k.digest)
		}
	}
	for i := range list {
		if list[i].open {
			list[i].class = class[list[i].digest]
		}
	}
	return unknown
}
