package steward

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/talka-grid/talka/workunits/verdict"
)

// ResumeDiff tells where a machine that New made differs from one that read all
// statements one after another, what it looks at when it wakes from what units ask for,
// and what it does then from what looking at every unit comes to; "" if nowhere.
func ResumeDiff(c Config, now uint64) string {
	got, want := New(c), replayed(c)
	diff := cmp.Diff(want.derived(), got.derived(), stateOptions...)
	if n := got.book.Counts()[verdict.Accepted]; got.headAt < 0 || got.headAt > n {
		diff += fmt.Sprintf("%d units accepted at the last head, and %d now\n", got.headAt, n)
	}
	units := got.wake(now)
	want.wakeAll(now)
	diff += cmp.Diff(want.awoken(), got.awoken(), stateOptions...)
	got.doubt, want.doubt = nil, nil
	got.now, want.now = now, now
	for _, u := range units {
		got.unit(u)
	}
	for u := range want.Manifest.Total() {
		if want.book.Named(u) && (want.Restored || !want.kept(u)) {
			want.unit(u)
		}
	}
	return diff + cmp.Diff(want.comesTo(), got.comesTo(), stateOptions...)
}

// Hints are in the order in which statements came.
var stateOptions = []cmp.Option{cmpopts.EquateEmpty(), cmp.Exporter(func(reflect.Type) bool { return true }),
	cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Hints" }, cmpopts.SortSlices(func(x, y node) bool { return x.Compare(y) < 0 }))}

// replayed is the machine as every statement tells it.
func replayed(c Config) *Machine {
	c.Snapshot = nil
	m := empty(c, c.readBook())
	m.ledger.Walk(m.ledger.Heads(), m.derive)
	for u := range m.Manifest.Total() {
		if m.book.Named(u) {
			m.want(u)
		}
	}
	return m
}

// derived is what a machine knows beside the book.
func (m *Machine) derived() map[string]any {
	thin := maps.Clone(m.thin)
	for r := range thin {
		if got, _ := m.book.Received(r, m.self); got || r.Author == m.self && !m.publisher() {
			delete(thin, r) // as the next step does
		}
	}
	owed := maps.Clone(m.owed)
	maps.DeleteFunc(owed, func(n node, list []debt) bool {
		return len(list) == 0 || m.book.Proven(n) // who is shunned whether it paid with false draws or not
	})
	slices.Sort(m.ready.stale)
	for _, h := range m.heads {
		h.checked = false
	}
	return map[string]any{
		"standings": m.standings, "heard": m.heard, "lastHeard": m.lastHeard, "identity": m.Identity, "content": m.content,
		"grantees": m.grantees, "audits": m.audits, "leases": m.leases, "lent": m.lent, "touches": m.touches,
		"lapsed": m.lapsed, "delivered": m.delivered, "thin": thin, "loose": m.loose, "unitTime": m.unitTime,
		"receipts": m.receipts, "undrawn": m.undrawn, "owed": owed,
		"heads": m.heads, "topHead": m.topHead, "bar": m.bar, "burned": m.burned,
		"missed": m.missed, "accused": m.accused, "compared": m.compared, "answers": m.answers, "unproved": m.unproved,
		"wanting": m.wanting, "stale": m.ready.stale, "news": m.news,
	}
}

// wakeAll is wake by the verdict of every unit.
func (m *Machine) wakeAll(now uint64) {
	m.wake(now)
	clear(m.due)
	clear(m.fetching)
	clear(m.lacking)
	for u := range m.Manifest.Total() {
		v := m.book.Unit(u)
		m.states[u] = v.State
		if len(v.Unsealed) > 0 {
			m.due[u] = now
		} else if v.Agreed() && v.State != verdict.Accepted {
			m.fetching[u], m.lacking[u] = now+patience, now
		} else if v.State == verdict.Accepted && (m.isActive() || m.publisher()) && !m.book.Stored(u, m.self, v.Opening) && !m.kept(u) {
			m.fetching[u] = now + patience
		}
	}
}

// kept reports whether this steward keeps an accepted result, as it said of an opening
// that is not the first any more. It need not say so again.
func (m *Machine) kept(u uint32) bool {
	v := m.book.Unit(u)
	return v.State == verdict.Accepted && slices.Contains(m.book.KeptBy(u), m.self) && !m.book.Stored(u, m.self, v.Opening)
}

func (m *Machine) awoken() map[string]any {
	return map[string]any{"due": m.due, "fetching": m.fetching, "lacking": m.lacking, "states": m.states, "reopened": m.reopened, "leases": m.leases, "touches": m.touches, "wanting": m.wanting}
}

// comesTo is what looking at units came to.
func (m *Machine) comesTo() map[string]any {
	return map[string]any{"fetch": m.fx.Fetch, "compare": m.fx.Compare, "events": m.fx.Events, "say": m.say, "due": m.due, "lacking": m.lacking, "agreed": m.agreed,
		"open": m.toOpen, "store": m.toStore, "unproved": m.unproved, "untrue": m.untrue, "accused": m.accused}
}
