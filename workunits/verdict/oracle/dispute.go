package oracle

import (
	"slices"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/verdict"
)

// classify tells open copies which result stands for them under the job's
// comparator, and which pairs of results it must be asked about. Each digest is
// compared with those that stand for others, the first of the chain first, then
// by the place of its first opening.
func (r *reading) classify(u uint32, list []copied) (unknown [][2]digest) {
	if r.manifest.Policy.Compare.Kind == workunits.CompareBytes {
		return nil
	}
	var open []copied
	for _, k := range list {
		if k.open {
			open = append(open, k)
		}
	}
	if len(open) < 2 {
		return nil
	}
	first := r.chain(open)[0].result.Digest
	var order []copied // one for each digest, the earliest opened
	for _, k := range open {
		i := slices.IndexFunc(order, func(o copied) bool { return o.result.Digest == k.result.Digest })
		switch {
		case i < 0:
			order = append(order, k)
		case compare(k.openAt[0], order[i].openAt[0]) < 0:
			order[i] = k
		}
	}
	slices.SortFunc(order, func(x, y copied) int {
		if (x.result.Digest == first) != (y.result.Digest == first) {
			if x.result.Digest == first {
				return -1
			}
			return 1
		}
		return compare(x.openAt[0], y.openAt[0])
	})
	class := map[digest]digest{}
	var standing []digest
next:
	for _, k := range order {
		d := k.result.Digest
		for _, s := range standing {
			equal, known := r.compared(u, s, d, list)
			if !known {
				unknown = append(unknown, [2]digest{s, d})
			}
			if known && equal {
				class[d] = s
				continue next
			}
		}
		class[d], standing = d, append(standing, d)
	}
	for i := range list {
		if list[i].open {
			list[i].class = class[list[i].result.Digest]
		}
	}
	return unknown
}

// compared is the answer on two results: the publisher's, else that of most of
// the stewards that do not execute the unit, as many as must keep a result, or
// two.
func (r *reading) compared(u uint32, x, y digest, list []copied) (equal, known bool) {
	first := map[node]bool{}
	yes, no := 0, 0
	for _, c := range r.comparisons {
		if c.body.Program != r.manifest.Policy.Compare.ID() || c.body.Unit != u || c.body.A != x || c.body.B != y || first[c.Author] {
			continue
		}
		first[c.Author] = true
		switch executes := slices.ContainsFunc(list, func(k copied) bool { return k.who() == c.Author }); {
		case c.Author == r.manifest.Publisher:
			return c.body.Equal, true
		case !r.listed(c.Author) || executes:
		case c.body.Equal:
			yes++
		default:
			no++
		}
	}
	return yes > no, yes != no && max(yes, no) >= min(2, r.keepers())
}

// group is the copies that opened to results which agree.
type group struct {
	class  digest
	copies []copied
}

// groups sorts open copies by class, ascending.
func groups(list []copied) (all []group) {
	for _, k := range list {
		if !k.open {
			continue
		}
		i := slices.IndexFunc(all, func(g group) bool { return g.class == k.class })
		if i < 0 {
			i = len(all)
			all = append(all, group{class: k.class})
		}
		all[i].copies = append(all[i].copies, k)
	}
	slices.SortFunc(all, func(x, y group) int { return slices.Compare(x.class[:], y.class[:]) })
	return all
}

// losers are those lives whose open and drawn copies of the unit are proven
// wrong. Copies are held against those of equal inputs only, and only those of one
// platform count: elsewhere both may be right.
func (r *reading) losers(u uint32) (who []life) {
	all := r.valid(u)
	var inputs []digest
	for _, k := range all {
		if in := k.grant.body.Inputs; !slices.Contains(inputs, in) {
			inputs = append(inputs, in)
		}
	}
	for _, in := range inputs {
		same := slices.DeleteFunc(slices.Clone(all), func(k copied) bool { return k.grant.body.Inputs != in })
		if len(r.classify(u, same)) > 0 {
			continue // who differs is not known yet
		}
		list, _ := r.counting(u, same)
		winner, ok := r.winner(groups(list), list)
		for _, k := range list {
			if ok && k.open && k.class != winner && r.drawn(r.drawers(k, list)) {
				who = append(who, k.life)
			}
		}
	}
	return who
}

// winner is the class for which a dispute is decided: the publisher's, else that
// of those whom it trusts if they are of one mind, else the one with the least
// doubt if the law decides for it.
func (r *reading) winner(all []group, list []copied) (d digest, ok bool) {
	if len(all) < 2 {
		return d, false
	}
	var trusted []digest
	for _, g := range all {
		for _, k := range g.copies {
			if k.who() == r.manifest.Publisher {
				return g.class, true
			}
			if r.trusts(k.who()) && !slices.Contains(trusted, g.class) {
				trusted = append(trusted, g.class)
			}
		}
	}
	if len(trusted) > 0 {
		return trusted[0], len(trusted) == 1
	}
	byDoubt := func(x, y group) int {
		switch a, b := r.law.Doubt(r.side(x, list)), r.law.Doubt(r.side(y, list)); {
		case a < b:
			return -1
		case a > b:
			return 1
		}
		return 0
	}
	best := slices.MinFunc(all, byDoubt)
	rest := slices.DeleteFunc(slices.Clone(all), func(g group) bool { return g.class == best.class })
	second := slices.MinFunc(rest, byDoubt)
	return best.class, r.law.Settles(r.side(best, list), r.side(second, list))
}

// side counts a group's copies that follow one another, and its largest stake.
func (r *reading) side(g group, list []copied) verdict.Side {
	s := verdict.Side{Copies: len(r.chain(g.copies)), Most: -r.law.Price}
	for _, k := range g.copies {
		s.Most = max(s.Most, r.stake(k, r.drawers(k, list)))
	}
	return s
}
