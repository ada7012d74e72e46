package verdict

import (
	"slices"

	"github.com/talka-grid/talka/workunits"
)

// What one author may say about one unit; the rest counts for nothing. Its log has
// one order, so all see the same.
const (
	maxCommits = 8
	maxGrants  = 64
)

func (r *unit) grantedBy(n node) (count int) {
	for _, g := range r.grants {
		if g.Author == n {
			count++
		}
	}
	return count
}

func (r *unit) committedBy(n node) (count int) {
	for _, c := range r.commits {
		if c.Author == n {
			count++
		}
	}
	return count
}

// wanted is how many stewards must keep a result: as many as act at a time, so
// that all of them but one may die for good, and fewer where the list, or what
// is left of it by the word of its stewards, is shorter.
func (b *Book) wanted() int {
	others := len(b.list) - 1
	if others < 1 || b.manifest.Policy.Mode == workunits.VerifyNone {
		return 1
	}
	present := len(b.list)
	for _, s := range b.list {
		if b.Absent(s.Node) {
			present--
		}
	}
	return max(1, min(max(2, min(int(b.manifest.Active), others)), present))
}

// Absent reports whether a steward is not waited for: the publisher says so, or
// two other stewards do. It is no reproach and takes nothing from its word.
func (b *Book) Absent(n workunits.NodeID) bool {
	gone := b.authors[n]
	if gone == nil {
		return false
	}
	said := []by{}
	for _, a := range gone.gone {
		said = append(said, by{author: a})
	}
	return b.word(said, func(x by) bool { return x.id != n })
}

// miss takes a steward's word that another is absent.
func (b *Book) miss(a, gone *author) []uint32 {
	if slices.Contains(gone.gone, a) {
		return nil
	}
	gone.gone = append(gone.gone, a)
	if k := b.wanted(); k != b.keepers {
		b.keepers = k
		return b.allNamed()
	}
	return b.owed(gone)
}

// withheld takes a steward's word that another withholds what it owes.
func (b *Book) withheld(a, owing *author) []uint32 {
	if slices.Contains(owing.owing, a) {
		return nil
	}
	owing.owing = append(owing.owing, a)
	return b.owed(owing)
}

// owed lists the units of commits on which a steward has not drawn.
func (b *Book) owed(a *author) (units []uint32) {
	for _, c := range b.commits {
		if slices.ContainsFunc(c.marks, func(m mark) bool { return m.author == a && m.got && !m.drew }) {
			units = append(units, c.body.Units...)
		}
	}
	slices.Sort(units)
	return slices.Compact(units)
}

// word reports whether statements that satisfy a condition bind everyone: one of
// the publisher's, or those of two other stewards.
func (b *Book) word(said []by, ok func(by) bool) bool {
	var who []*author
	for _, x := range said {
		switch {
		case !x.listed || !ok(x) || slices.Contains(who, x.author):
		case x.id == b.manifest.Publisher || len(who) > 0:
			return true
		default:
			who = append(who, x.author)
		}
	}
	return false
}

// Ended reports whether a grant was given up, see Expiry.
func (b *Book) Ended(grant workunits.Ref) bool {
	g := b.grants[grant]
	return g != nil && g.ended
}

// ExpiredBy reports whether a steward gave a grant up, whatever others say.
func (b *Book) ExpiredBy(grant workunits.Ref, n workunits.NodeID) bool {
	g := b.grants[grant]
	return g != nil && slices.ContainsFunc(g.expiry, func(x by) bool { return x.id == n })
}

// GrantedBy counts a steward's grants of a unit.
func (b *Book) GrantedBy(u uint32, n workunits.NodeID) int { return b.look(u).grantedBy(n) }

// balanced cuts from a run what one grantor has in it beyond one copy more than
// all others together, latest first, so that no steward can settle a unit with
// volunteers of its own. What the publisher grants in its own job is not limited.
func balanced(run []copyOf) []copyOf {
	for len(run) > 1 {
		var most *author
		count := 0
		for _, k := range run {
			n := 0
			for _, o := range run {
				if o.grant.by == k.grant.by {
					n++
				}
			}
			if n > count && !k.grant.by.free {
				most, count = k.grant.by, n
			}
		}
		if count <= len(run)-count+1 {
			break
		}
		last := len(run) - 1
		for run[last].grant.by != most {
			last--
		}
		run = slices.Delete(slices.Clone(run), last, last+1)
	}
	return run
}

// MayGrant reports whether a further copy that a steward grants would count
// beside those of the unit that count, are void or under way, see balanced, and
// leave them to count: a copy of its own would not any more.
func (b *Book) MayGrant(u uint32, n workunits.NodeID) bool {
	if a := b.authors[n]; a != nil && a.free || len(b.look(u).grants) == 0 {
		return true
	}
	own, others := 0, 0
	count := func(by node) {
		if by == n {
			own++
		} else {
			others++
		}
	}
	b.settle()
	all := b.current(u)
	list, _ := b.counting(u, all, everyRound)
	for _, k := range list {
		count(k.grant.Author)
	}
	for _, g := range b.voided(u) {
		count(g.Author)
	}
	executes := slices.ContainsFunc(all, func(k copyOf) bool { return k.Author == n })
	for _, r := range b.Outstanding(u) {
		count(r.Author)
		g, _ := b.Grant(r)
		executes = executes || g.To == n
	}
	return own <= others && !executes
}

// Unshown lists the stewards for whose grants, that they show nobody yet, a volunteer
// committed copies of a unit.
func (b *Book) Unshown(u uint32, n workunits.NodeID) (by []workunits.NodeID) {
	for _, c := range b.look(u).commits {
		if c.Author == n && !c.grant.known {
			by = append(by, c.grant.Author)
		}
	}
	return by
}

// Proven reports whether the ledger itself shows a steward to be at fault: it
// signed two histories, or a value that is not of its chain.
func (b *Book) Proven(n workunits.NodeID) bool {
	a := b.authors[n]
	return a != nil && (a.forked || a.badDraw)
}

// KeptBy lists the stewards that said they keep the unit's agreed result.
func (b *Book) KeptBy(u uint32) (who []workunits.NodeID) {
	v := b.Unit(u)
	if !v.Agreed() {
		return nil
	}
	for _, a := range b.keeping(u, v.Result.Digest) {
		if a.listed {
			who = append(who, a.id)
		}
	}
	return who
}

// keeping lists who says that it keeps a result of the unit, whichever opening it named.
func (b *Book) keeping(u uint32, d digest) (list []*author) {
	for _, k := range b.look(u).kept {
		if !slices.Contains(list, k.by) && b.names(u, k.opening, d) {
			list = append(list, k.by)
		}
	}
	return list
}

// names reports whether an opening opens a copy of the unit to the digest.
func (b *Book) names(u uint32, at *ref, d digest) bool {
	return slices.ContainsFunc(b.look(u).commits, func(c *commit) bool {
		i, named := slices.BinarySearch(c.body.Units, u)
		if !named || i >= len(c.opened) || c.opened[i].digest != d {
			return false
		}
		return c.opened[i].first == at || slices.Contains(c.opened[i].more, at)
	})
}
