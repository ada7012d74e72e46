package oracle

import (
	"maps"
	"slices"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
	"github.com/talka-grid/talka/workunits/verdict"
)

// Unit is the verdict on one unit.
type Unit struct {
	State      verdict.State
	Canonical  bool
	Contested  bool
	Support    int // copies that follow one another
	Copies     int // that count
	Voids      int
	Result     digest // agreed, zero for none
	Opening    ref
	Volunteers []node      // that support it, ascending
	Unsealed   []ref       // commits whose openings are due, ascending
	Compare    [][2]digest // ascending
}

// Verdict is what a set of statements implies.
type Verdict struct {
	Units  []Unit
	Stakes map[node]int      // from accepted units since the last burn, above 0
	Wrong  map[node][]uint32 // who was proven wrong, on which units, ascending
	Next   workunits.StakeTable
}

// Job is what is judged by.
type Job struct {
	ID       workunits.JobID
	Manifest workunits.Manifest
	Standing workunits.StakeTable
}

// Judge works out the verdict on every unit of a job. The entries may come in any
// order and more than once; forked lists who is proven to have equivocated.
func Judge(j Job, entries []ledger.Entry, forked []workunits.NodeID) Verdict {
	r := &reading{job: j.ID, manifest: j.Manifest, standing: j.Standing, law: Of(j.Manifest.Policy), forked: map[node]bool{}, burned: map[life]bool{}}
	for _, n := range forked {
		r.forked[n] = true
	}
	r.sort(entries)
	v := Verdict{Wrong: map[node][]uint32{}}
	for {
		var losers []life
		for u := range r.manifest.Total() {
			for _, l := range r.losers(u) {
				losers = append(losers, l)
				if !slices.Contains(v.Wrong[l.who], u) {
					v.Wrong[l.who] = append(v.Wrong[l.who], u)
				}
			}
		}
		if len(losers) == 0 {
			break
		}
		for _, l := range losers {
			r.burned[l] = true
		}
	}
	r.differ()
	for n := range v.Wrong {
		slices.Sort(v.Wrong[n])
	}
	r.units(&v)
	r.next(&v)
	return v
}

// units judges every unit, the second stage last, whose inputs are the results
// of the others.
func (r *reading) units(v *Verdict) {
	credit := map[life]int{}
	judge := func(u uint32, inputs digest) {
		x, lives := r.unit(u, inputs)
		v.Units = append(v.Units, x)
		for _, l := range lives {
			if x.State == verdict.Accepted {
				credit[l]++
			}
		}
	}
	var below workunits.StageInputs
	state := verdict.Open
	for u := range r.manifest.Units {
		judge(u, r.manifest.InputsDigest())
		x := v.Units[u]
		below.Results = append(below.Results, x.Result)
		switch {
		case x.State == verdict.Failed:
			state = verdict.Failed
		case x.State != verdict.Accepted && state != verdict.Failed:
			state = verdict.Pending
		}
	}
	switch {
	case r.manifest.Reduce == nil:
	case state != verdict.Open:
		v.Units = append(v.Units, Unit{State: state, Canonical: r.manifest.Canonical})
	default:
		_, inputs := below.Encode()
		judge(r.manifest.Units, inputs)
	}
	v.Stakes = map[node]int{}
	for l, n := range credit {
		later := false
		for o := range r.burned {
			later = later || o.who == l.who && o.number >= l.number
		}
		if !later && !r.forked[l.who] && !r.withholds(l.who) && r.strikes(l.who) < 3 {
			v.Stakes[l.who] += n
		}
	}
}

func (r *reading) strikes(n node) int {
	count := int(r.brought(n).Strikes)
	for l := range r.burned {
		if l.who == n {
			count++
		}
	}
	return count
}

// next is the standing for the project's next job.
func (r *reading) next(v *Verdict) {
	who := map[node]bool{}
	for l := range r.burned {
		who[l.who] = true
	}
	burned := maps.Clone(who)
	for n := range v.Stakes {
		who[n] = true
	}
	for _, s := range r.standing.Stakes {
		who[s.Node] = true
	}
	for _, n := range slices.SortedFunc(maps.Keys(who), node.Compare) {
		s := workunits.Stake{Node: n, Strikes: uint32(r.strikes(n)), Millis: uint64(v.Stakes[n]) * r.manifest.Nominal}
		if !burned[n] && !r.forked[n] {
			s.Millis += r.brought(n).Millis
		}
		if s.Millis > 0 || s.Strikes > 0 {
			v.Next.Stakes = append(v.Next.Stakes, s)
		}
	}
}

// unit judges one unit, whose inputs have the digest, and tells whose copies
// support the result.
func (r *reading) unit(u uint32, inputs digest) (v Unit, lives []life) {
	all := slices.DeleteFunc(r.valid(u), func(k copied) bool { return k.grant.body.Inputs != inputs })
	unknown := r.classify(u, all)
	list, canonical := r.counting(u, all)
	v = Unit{State: verdict.Pending, Canonical: canonical, Copies: len(list), Voids: r.voids(u, inputs), Compare: unknown}
	slices.SortFunc(v.Compare, func(x, y [2]digest) int {
		return slices.Compare(append(x[0][:], x[1][:]...), append(y[0][:], y[1][:]...))
	})
	open := slices.DeleteFunc(slices.Clone(list), func(k copied) bool { return !k.open })
	switch {
	case len(unknown) > 0:
		v.Unsealed = r.due(list)
		return v, nil
	case len(groups(open)) > 1:
		v.Contested, v.Unsealed = true, r.due(list)
		if len(open) == len(list) {
			v.State = verdict.Open
		}
		return r.failing(u, v), nil
	}
	v.Support = len(r.chain(list))
	// Sealed copies that came beside open ones which are enough hold nothing up.
	if enough, _ := r.enough(u, open); enough {
		v.Unsealed = r.due(list)
		return r.agreed(v, u, open)
	}
	if enough, waits := r.enough(u, list); !enough {
		if r.last(list) && !waits {
			v.State = verdict.Open
		}
		return r.failing(u, v), nil
	}
	if v.Unsealed = r.due(list); len(open) > 0 && len(v.Unsealed) == 0 {
		return r.agreed(v, u, open)
	}
	return v, nil
}

// last reports whether the last copy of the chain has its draws; with no copy
// there is nothing to wait for.
func (r *reading) last(list []copied) bool {
	chain := r.chain(list)
	return len(chain) == 0 || r.drawn(r.drawers(chain[len(chain)-1], list))
}

// enough reports whether the law asks for no copy beyond the chain, which is not
// known before the draws on its last copy, nor while values that they go with may
// still come. A value that never comes is a copy.
func (r *reading) enough(u uint32, list []copied) (enough, waits bool) {
	chain := r.chain(list)
	switch {
	case len(chain) == 0 || !r.last(list):
		return false, false
	case slices.ContainsFunc(list, func(k copied) bool { return r.trusts(k.who()) }):
		// Its copy decides; while it is neither drawn nor open that is waited for.
		heard := slices.ContainsFunc(list, func(k copied) bool {
			return r.trusts(k.who()) && (k.open || r.drawn(r.drawers(k, list)))
		})
		return heard, !heard
	}
	draws := r.drawers(chain[len(chain)-1], list)
	var group float64
	for _, k := range chain {
		group += r.stake(k, draws)
	}
	first := r.stake(chain[0], draws)
	if len(chain) == 1 {
		first = r.since(chain[0], draws)
		group = first
	}
	q := r.law.Chance(len(chain), first, group, r.bar(draws))
	switch {
	case q <= 0:
		return true, false
	case q >= 1:
		return false, false
	}
	if some, final := r.missing(chain[len(chain)-1], draws, list); some {
		return false, !final
	}
	return !r.ask(u, draws, q), false
}

// ask reports whether draws ask for a unit with a chance: the publisher's value
// alone, else that of any two.
func (r *reading) ask(u uint32, draws []said[workunits.Draw], q float64) (asked bool) {
	for i, x := range draws {
		if x.Author == r.manifest.Publisher {
			return Fraction(r.job, u, x.body.Value, x.body.Value) < q
		}
		for _, y := range draws[:i] {
			asked = asked || Fraction(r.job, u, y.body.Value, x.body.Value) < q
		}
	}
	return asked
}

// due lists the sealed copies that have their draws.
func (r *reading) due(list []copied) (refs []ref) {
	for _, k := range list {
		if !k.open && r.drawn(r.drawers(k, list)) {
			refs = append(refs, k.commit.ref)
		}
	}
	return refs
}

// agreed names the result, that of the first opening which the others agree with
// or, if that copy counts no more, of the first one there is; and it counts the stewards that keep it. Copies that were all given up support
// nothing for long: the unit wants one that has the result, unless enough
// stewards do.
func (r *reading) agreed(v Unit, u uint32, open []copied) (Unit, []life) {
	var lives []life
	lost := true
	for _, k := range open {
		v.Volunteers, lives = append(v.Volunteers, k.who()), append(lives, k.life)
		lost = lost && k.givenUp
		stands := k.result.Digest == k.class || !slices.ContainsFunc(open, func(o copied) bool { return o.result.Digest == o.class })
		if stands && (v.Opening == ref{} || compare(k.openAt[0], v.Opening) < 0) {
			v.Opening, v.Result = k.openAt[0], k.result.Digest
		}
	}
	keep := map[node]bool{}
	for _, s := range r.storage {
		for _, x := range s.body.Results {
			for _, k := range open {
				keep[s.Author] = keep[s.Author] || r.listed(s.Author) && k.result.Digest == v.Result && slices.Contains(k.openAt, x.Opening) && slices.Contains(x.Units, u)
			}
		}
	}
	maps.DeleteFunc(keep, func(_ node, kept bool) bool { return !kept })
	switch {
	case len(keep) >= r.keepers():
		v.State = verdict.Accepted
	case lost:
		v.State = verdict.Open
	}
	return v, lives
}

// failing is the verdict on an undecided unit that came back void too often.
func (r *reading) failing(u uint32, v Unit) Unit {
	rounds := 1
	for _, again := range r.retries {
		if again.Author == r.manifest.Publisher && slices.Contains(again.body.Units, u) {
			rounds++
		}
	}
	if v.Voids >= rounds*int(r.manifest.Limits.Tries) {
		v.State = verdict.Failed
	}
	return v
}

// voids counts the grants of a unit whose copy came back void: of a steward, unless
// it is free, no more than one beyond all others'.
func (r *reading) voids(u uint32, inputs digest) (all int) {
	count := map[ref]bool{}
	for _, c := range r.naming(u) {
		void := slices.ContainsFunc(c.body.Void, func(x workunits.VoidUnit) bool { return x.Unit == u })
		g, l, ok := r.granted(c)
		if void && ok && !r.burned[l] && g.body.Inputs == inputs {
			count[g.ref] = true
		}
	}
	by := map[node]int{}
	for g := range count {
		by[g.Author]++
	}
	all = len(count)
	for n, own := range by {
		if others := len(count) - own; own > others+1 && !r.free(n) {
			all = others + others + 1
		}
	}
	return all
}
