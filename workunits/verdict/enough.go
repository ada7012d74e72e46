package verdict

import "slices"

// lone is the only run of copies of a unit, of one copy, which is not enough.
type lone struct {
	by    *author
	lot   float64 // what the draws on the copy say
	waits bool    // see [Law.Waits]
}

// enough reports whether the law asks for no further copy beyond the chain, and
// whether the draws on its last copy are in: before that nothing is enough.
func (b *Book) enough(u uint32, chain, list []copyOf) (enough, drawn bool) {
	if len(chain) == 0 {
		return false, false
	}
	trusted := func(k copyOf) bool { return k.by.trusted }
	last := chain[len(chain)-1]
	who := b.drawers(last, list)
	switch {
	case !b.drawn(who):
		return false, false
	case slices.ContainsFunc(list, trusted): // which decides, once it is drawn and open
		heard := slices.ContainsFunc(list, func(k copyOf) bool { return trusted(k) && (k.open || b.drawn(b.drawers(k, list))) })
		return heard, heard
	}
	var group float64
	for _, k := range chain {
		group += b.stakeAt(k, who)
	}
	first := b.stakeAt(chain[0], who)
	chance := b.chance(asked{len(chain), first, group, b.bar(who)})
	if chance <= 0 || chance >= always && len(chain) > 1 {
		return chance <= 0, true
	}
	lot := b.lot(u, who)
	if len(chain) == 1 && lot < chance {
		if later := b.stakeSince(last, who); later > first {
			chance = b.chance(asked{1, later, later, b.bar(who)})
		}
		if lot < chance {
			b.alone[u] = lone{last.by, lot, b.law.Waits(first, lot)}
		}
	}
	if chance <= 0 || chance >= always {
		return chance <= 0, true
	}
	waits, withheld := b.outstanding(last, who, list)
	return !waits && !withheld && lot >= chance, !waits
}

// asked is what the law is asked for a chance.
type asked struct {
	copies            int
	first, group, bar float64
}

// chance is the law's; the units of a batch ask for the same ones.
func (b *Book) chance(a asked) float64 {
	q, ok := b.chances[a]
	if !ok {
		if len(b.chances) >= maxChances {
			clear(b.chances)
		}
		q = b.law.Chance(a.copies, a.first, a.group, a.bar)
		b.chances[a] = q
	}
	return q
}

// maxChances is how many chances are remembered.
const maxChances = 256

// stakeSince is the stake by which a copy that is alone is judged where the one at its
// draws asks for another. It gets better with its volunteer: what the stewards that drew
// on it told since counts, too.
func (b *Book) stakeSince(k copyOf, who []*mark) float64 { return b.stakeBy(k, who, b.toldSince) }

// toldSince is the most that a steward's draw on a copy, and its heads after that, tell of
// a volunteer's stake.
func (b *Book) toldSince(n node, m *mark) uint64 {
	most := b.told(n, m)
	for _, s := range slices.Backward(m.stated) {
		if s.seq < m.draw {
			break
		}
		if s.head.seconded(m.author, b.manifest.Publisher) {
			most = max(most, s.head.tells(n))
		}
	}
	return most
}

// due lists the units whose only copy may be enough now that a head is stated, ascending.
func (b *Book) due(h *head) (units []uint32) {
	for u, x := range b.alone {
		stake := float64(h.tells(x.by.id)) + float64(x.by.history)
		if x.lot >= b.chance(asked{1, stake, stake, 0}) {
			units = append(units, u)
		}
	}
	slices.Sort(units)
	return units
}

// Waits reports whether a further copy of a unit had better wait, as there are units that
// nobody began: its only copy is not enough, and may be if its volunteer goes on, see
// [Law.Waits].
func (b *Book) Waits(u uint32) bool {
	b.settle()
	if !b.alone[u].waits || b.Untouched() == 0 {
		return false
	}
	v := b.Unit(u)
	return v.State == Open && v.Copies == 1
}
