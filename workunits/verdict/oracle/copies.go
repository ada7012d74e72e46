package oracle

import (
	"slices"

	"github.com/talka-grid/talka/workunits"
)

// most is how many commits of one author that name a unit are looked at.
const most = 8

// copied is a volunteer's copy of a unit.
type copied struct {
	commit  said[workunits.Commit]
	grant   said[workunits.Grant]
	life    life
	open    bool
	openAt  []ref // openings that fit, the first one counts
	result  workunits.Result
	class   digest // the digest that stands for those which it agrees with
	givenUp bool
}

func (k copied) who() node { return k.commit.Author }

// platform is what honest copies of one unit may differ by.
func (k copied) platform() string {
	if k.grant.body.Canonical {
		return "canonical"
	}
	return k.grant.body.Arch
}

// naming lists the commits that name a unit, void or not.
func (r *reading) naming(unit uint32) (list []said[workunits.Commit]) {
	count := map[node]int{}
	for _, c := range r.commits {
		void := slices.ContainsFunc(c.body.Void, func(x workunits.VoidUnit) bool { return x.Unit == unit })
		if !void && !slices.Contains(c.body.Units, unit) {
			continue
		}
		if count[c.Author]++; count[c.Author] <= most {
			list = append(list, c)
		}
	}
	return list
}

// granted is the grant that a commit names, if it is a listed steward's for just
// this volunteer.
func (r *reading) granted(c said[workunits.Commit]) (g said[workunits.Grant], l life, ok bool) {
	i := slices.IndexFunc(r.grants, func(g said[workunits.Grant]) bool { return g.ref == c.body.Grant })
	if i < 0 || r.grants[i].body.To != c.Author || !r.listed(r.grants[i].Author) {
		return g, l, false
	}
	g, l.who = r.grants[i], c.Author
	for _, f := range r.faults {
		if f.Author == g.Author && f.Seq < g.Seq && f.body.Name == workunits.FaultWrong && f.body.Against == c.Author {
			l.number = min(l.number+1, 3)
		}
	}
	return g, l, true
}

// valid lists the copies of a unit, those of burned lives among them: of each
// life and way to execute the first that is not given up unopened; none by a
// steward that granted the unit or keeps an opening of it, unless it is the
// publisher.
func (r *reading) valid(unit uint32) (list []copied) {
	for _, c := range r.naming(unit) {
		k, ok := r.copied(c, unit)
		if !ok || k.givenUp && !k.open || slices.ContainsFunc(list, func(o copied) bool {
			return o.life == k.life && o.grant.body.Canonical == k.grant.body.Canonical && o.grant.body.Inputs == k.grant.body.Inputs
		}) {
			continue
		}
		list = append(list, k)
	}
	all := slices.Clone(list)
	return slices.DeleteFunc(list, func(k copied) bool {
		return k.who() != r.manifest.Publisher && r.listed(k.who()) && slices.ContainsFunc(all, func(o copied) bool {
			return o.grant.body.Inputs == k.grant.body.Inputs && (o.grant.Author == k.who() || slices.Contains(o.grant.body.Custodians, k.who()))
		})
	})
}

func (r *reading) copied(c said[workunits.Commit], unit uint32) (k copied, ok bool) {
	g, l, ok := r.granted(c)
	if !ok || !slices.Contains(c.body.Units, unit) || g.hash != c.body.Bound || !slices.Contains(g.body.Units, unit) ||
		!r.manifest.Reduces(unit) && g.body.Inputs != r.manifest.InputsDigest() || int(r.brought(l.who).Strikes)+l.number >= 3 {
		return k, false
	}
	k = copied{commit: c, grant: g, life: l, givenUp: r.givenUp(c)}
	var results []workunits.Result
	if k.openAt, results = r.opened(c, unit); len(results) > 0 {
		k.open, k.result, k.class = true, results[0], results[0].Digest
	}
	return k, true
}

// counting lists the copies of a unit that count, one for a volunteer, and tells
// whether they are canonical ones: lives that were proven wrong, but for what stands,
// and volunteers that equivocated do not count; nor do copies of another platform
// than the unit's, nor those of several that were proven wrong where there are no others.
func (r *reading) counting(u uint32, all []copied) (list []copied, canonical bool) {
	on, all := r.platform(all)
	for _, k := range all {
		if (!r.burned[k.life] || r.stands(u, k)) && !r.forked[k.who()] && (on == "" || k.platform() == on) &&
			!slices.ContainsFunc(list, func(o copied) bool { return o.who() == k.who() }) {
			list = append(list, k)
		}
	}
	if len(list) > 1 && !slices.ContainsFunc(list, func(k copied) bool { return !r.burned[k.life] }) {
		list = nil
	}
	return list, on == "canonical"
}

// differ finds, of each life, the first commit to a unit whose results differ.
func (r *reading) differ() {
	r.first = map[life]said[workunits.Commit]{}
	for u := range r.manifest.Total() {
		all := r.valid(u)
		r.classify(u, all)
		if len(groups(all)) < 2 {
			continue
		}
		for _, k := range all {
			if c, ok := r.first[k.life]; !ok || k.commit.Seq < c.Seq {
				r.first[k.life] = k.commit
			}
		}
	}
}

// stands reports whether a copy counts though its life was proven wrong: it came well
// before the first one to a unit whose results differ, and the draws on that one do not
// ask for the unit, as they do for a share.
func (r *reading) stands(u uint32, k copied) bool {
	first, ok := r.first[k.life]
	if !ok || k.commit.Seq >= r.law.Since(first.Seq) {
		return false
	}
	draws := r.drawers(copied{commit: first}, nil)
	return r.drawn(draws) && !r.ask(u, draws, r.law.Again())
}

// platform is that whose copies of a unit count, empty for all of them, and the
// copies that may count at all: canonical ones, and plain ones on the publisher's
// architecture, of trusted volunteers, or where nothing is verified. Copies of
// whoever was burned or equivocated have their say.
func (r *reading) platform(all []copied) (on string, list []copied) {
	none := r.manifest.Policy.Mode == workunits.VerifyNone
	for _, k := range all {
		if k.grant.body.Canonical || k.grant.body.Arch == r.home || r.trusts(k.who()) || none {
			list = append(list, k)
		}
	}
	switch {
	case r.manifest.Canonical:
		return "canonical", list
	case none && len(groups(all)) < 2:
		return "", list
	}
	// By four reasons, each of which decides where those before it do not.
	var best [4]int
	for _, k := range list {
		p := k.platform()
		var same, drawn []copied
		var why [4]int
		for _, o := range list {
			if o.platform() != p {
				continue
			}
			same = append(same, o)
			if r.drawn(r.drawers(o, all)) {
				drawn = append(drawn, o)
				if o.who() == r.manifest.Publisher {
					why[0] = 1
				}
			}
		}
		if why[1] = len(r.chain(drawn)); len(drawn) == 0 {
			why[2] = len(r.chain(same))
		}
		if p == r.home {
			why[3] = 1
		}
		if c := slices.Compare(why[:], best[:]); on == "" || c > 0 || c == 0 && p > on {
			on, best = p, why
		}
	}
	if on == "" {
		on = r.home
	}
	return on, list
}

// follows reports whether x was granted by a steward whose log held the receipt
// of y's commit by then.
func (r *reading) follows(x, y copied) bool {
	receipt, got := r.receipt(x.grant.Author, y.commit.ref)
	return got && receipt.body.Hash == y.commit.hash && receipt.Seq < x.grant.Seq
}

// chain is the most copies that follow one another, as far as no steward granted
// more of them than one beyond all others: the longest run up to each copy, of
// equals the one with the most that count, of which the first that counts most.
// Where still two are equal, the one whose last copy was received sooner.
func (r *reading) chain(list []copied) (best []copied) {
	for _, k := range list {
		run := r.balanced(r.run(k, list))
		if len(run) > len(best) || len(run) == len(best) && r.sooner(run, best) {
			best = run
		}
	}
	return best
}

// sooner reports whether, of the last copies in which two runs of one length
// differ, the first one's was received before the other's: a vote of the listed
// stewards that received both.
func (r *reading) sooner(run, other []copied) bool {
	for i := len(run) - 1; i >= 0; i-- {
		x, y := run[i].commit.ref, other[i].commit.ref
		if x == y {
			continue
		}
		first, second := 0, 0
		for _, s := range r.stewards() {
			a, gotA := r.receipt(s, x)
			b, gotB := r.receipt(s, y)
			switch {
			case !gotA || !gotB:
			case a.Seq < b.Seq:
				first++
			default:
				second++
			}
		}
		return first > second
	}
	return false
}

// stewards lists those that the manifest or the ledger names, once each.
func (r *reading) stewards() []node {
	who := append(r.succession(), r.manifest.Publisher)
	slices.SortFunc(who, node.Compare)
	return slices.Compact(who)
}

// run is the longest run of copies that ends with k, chosen like chain.
func (r *reading) run(k copied, list []copied) []copied {
	best := []copied{k}
	for _, o := range list {
		if o.commit.ref == k.commit.ref || !r.follows(k, o) {
			continue
		}
		x := append(slices.Clone(r.run(o, list)), k)
		most, much := len(r.balanced(best)), len(r.balanced(x))
		if len(x) > len(best) || len(x) == len(best) && (much > most || much == most && r.sooner(x, best)) {
			best = x
		}
	}
	return best
}

// balanced takes from a run the latest copies of a steward that granted more of
// it than one beyond all others; the publisher may.
func (r *reading) balanced(run []copied) []copied {
	run = slices.Clone(run)
	for {
		over := -1
		for i, k := range run {
			own := 0
			for _, o := range run {
				if o.grant.Author == k.grant.Author {
					own++
				}
			}
			if !r.free(k.grant.Author) && own > len(run)-own+1 {
				over = i
			}
		}
		if over < 0 {
			return run
		}
		run = slices.Delete(run, over, over+1)
	}
}

// drawers lists the draws on a copy that count, ascending by author: of listed
// stewards that do not execute the unit, but for the publisher.
func (r *reading) drawers(k copied, list []copied) (draws []said[workunits.Draw]) {
	for _, s := range r.stewards() {
		executes := slices.ContainsFunc(list, func(o copied) bool { return o.who() == s })
		if d, ok := r.draw(s, k.commit); ok && (s == r.manifest.Publisher || !executes) {
			draws = append(draws, d)
		}
	}
	return draws
}

// drawn reports whether a copy has its draws: the publisher's, or two others'.
func (r *reading) drawn(draws []said[workunits.Draw]) bool {
	var who []node
	for _, d := range draws {
		who = append(who, d.Author)
	}
	return r.binding(who)
}

// stake is what a copy's volunteer has to lose as these draws saw it: the least
// of what their heads tell, and what the standing brought. A life after a burn
// has nothing and did not pay for an identity.
func (r *reading) stake(k copied, draws []said[workunits.Draw]) float64 {
	return r.least(k, draws, r.told)
}

// since is the stake that a copy without another is judged by: what each of these
// draws and the heads after it tell.
func (r *reading) since(k copied, draws []said[workunits.Draw]) float64 {
	return r.least(k, draws, r.toldSince)
}

func (r *reading) least(k copied, draws []said[workunits.Draw], of func(node, said[workunits.Draw]) uint64) float64 {
	if k.life.number > 0 {
		return -r.law.Price
	}
	var told []uint64
	for _, d := range draws {
		told = append(told, of(k.who(), d))
	}
	least := uint64(0)
	if len(told) > 0 {
		least = slices.Min(told)
	}
	return float64(least) + float64(r.history(k.who()))
}

// history is the stake that a volunteer brought, in units of this job, as far as
// it counts.
func (r *reading) history(n node) (units uint64) {
	if r.manifest.Nominal > 0 {
		units = r.brought(n).Millis / r.manifest.Nominal
	}
	if c := uint64(r.manifest.Policy.HistoryCap); c > 0 {
		units = min(units, c)
	}
	return units
}

// told is the credit of a volunteer in the head that a draw names.
func (r *reading) told(n node, d said[workunits.Draw]) uint64 {
	h := r.head(d)
	for i, l := range h.Logs {
		if l.Author == n {
			return h.Credit[i]
		}
	}
	return 0
}

// toldSince is the most that a draw, or any head after it in the same log that another
// steward states, too, tells of a volunteer.
func (r *reading) toldSince(n node, d said[workunits.Draw]) uint64 {
	most := r.told(n, d)
	for _, h := range r.heads {
		other := d.Author == r.manifest.Publisher || slices.ContainsFunc(r.heads, func(o said[workunits.Head]) bool {
			return o.body.ID() == h.body.ID() && o.Author != h.Author && r.listed(o.Author)
		})
		at := slices.IndexFunc(h.body.Logs, func(l workunits.LogHead) bool { return l.Author == n })
		if at >= 0 && h.Author == d.Author && h.Seq > d.Seq && other {
			most = max(most, h.body.Credit[at])
		}
	}
	return most
}

// bar is the highest that the draws' heads tell.
func (r *reading) bar(draws []said[workunits.Draw]) (bar float64) {
	for _, d := range draws {
		h := r.head(d)
		var stakes []uint64
		for i, l := range h.Logs {
			stakes = append(stakes, h.Credit[i]+r.history(l.Author))
		}
		bar = max(bar, r.law.Bar(stakes))
	}
	return bar
}

// head is the head that a draw names, if the draw's author had stated it before
// and another steward stated it, too; the publisher needs no other.
func (r *reading) head(d said[workunits.Draw]) (head workunits.Head) {
	stated, other := false, d.Author == r.manifest.Publisher
	for _, h := range r.heads {
		if h.body.ID() != d.body.Head {
			continue
		}
		stated = stated || h.Author == d.Author && h.Seq < d.Seq
		other = other || h.Author != d.Author && r.listed(h.Author)
		head = h.body
	}
	if stated && other {
		return head
	}
	return workunits.Head{}
}
