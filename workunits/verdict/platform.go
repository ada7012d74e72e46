package verdict

import (
	"cmp"
	"slices"

	"github.com/talka-grid/talka/workunits"
)

// canonically is the platform of copies whose NaNs are canonical.
const canonically = "canonical"

// platform is what honest copies of one unit may differ by.
func (k copyOf) platform() string {
	if k.grant.body.Canonical {
		return canonically
	}
	return k.grant.body.Arch
}

// Home is the architecture of plain copies: the publisher's, empty before its log
// is here.
func (b *Book) Home() string { return b.home }

// Plain reports whether a volunteer's plain copies on an architecture count.
func (b *Book) Plain(n workunits.NodeID, arch string) bool {
	a := b.authors[n]
	return arch == b.home || b.manifest.Policy.Mode == workunits.VerifyNone || a != nil && a.trusted
}

// lead is how far the copies of one platform got.
type lead struct {
	on        string
	publisher int // 1 if its copy is among them
	drawn     int // that follow one another and are drawn
	committed int // that follow one another, if none is drawn
	home      int
}

// platform is that of the copies of a unit that count, burned ones among them: the
// one on which the publisher's drawn copy is, else where most drawn ones follow one
// another; of equals the publisher's own. What is not drawn is no reason as long as
// anything is: nobody gains by keeping a commit back. With nothing verified any
// counts while all agree.
func (b *Book) platform(all []copyOf) (on string, whatever bool) {
	if b.manifest.Canonical {
		return canonically, false
	}
	if b.manifest.Policy.Mode == workunits.VerifyNone && !mixed(all) {
		return b.home, true
	}
	var seen []string
	for _, k := range all {
		if p := k.platform(); b.may(k) && !slices.Contains(seen, p) {
			seen = append(seen, p)
		}
	}
	if len(seen) == 1 {
		return seen[0], false
	}
	top := lead{on: b.home, home: 1}
	for _, p := range seen {
		if l := b.leadOf(p, all); l.compare(top) > 0 {
			top = l
		}
	}
	return top.on, false
}

// may reports whether a copy may count on its platform.
func (b *Book) may(k copyOf) bool {
	return k.grant.body.Canonical || b.Plain(k.Author, k.grant.body.Arch)
}

// leadOf looks at the copies of one platform.
func (b *Book) leadOf(on string, all []copyOf) lead {
	l := lead{on: on}
	if on == b.home {
		l.home = 1
	}
	var list, drawn []copyOf
	for _, k := range all {
		if k.platform() != on || !b.may(k) {
			continue
		}
		list = append(list, k)
		if b.drawn(b.drawers(k, all)) {
			drawn = append(drawn, k)
			if k.publisher(b) {
				l.publisher = 1
			}
		}
	}
	if l.drawn = len(longest(drawn)); l.drawn == 0 {
		l.committed = len(longest(list))
	}
	return l
}

func (l lead) compare(o lead) int {
	return cmp.Or(cmp.Compare(l.publisher, o.publisher), cmp.Compare(l.drawn, o.drawn), cmp.Compare(l.committed, o.committed),
		cmp.Compare(l.home, o.home), cmp.Compare(l.on, o.on))
}
