package grid

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/talka-grid/talka/workunits"
)

const (
	effortEvery = time.Minute // between writes of what was executed
	effortDays  = 90          // that are told one by one
)

// Effort is what a node executed.
type Effort struct {
	Copies uint64  `json:"copies"` // void ones, too
	CPU    float64 `json:"cpu"`    // processor seconds
}

// DayEffort is the effort of a day of UTC.
type DayEffort struct {
	Day string `json:"day"` // 2026-11-23
	Effort
}

// Impact is what a node gave, and what came of it.
type Impact struct {
	Accepted int         `json:"accepted"` // its copies in accepted units, of the jobs that it knows now
	All      Effort      `json:"all"`
	Days     []DayEffort `json:"days"` // the last ones with any, oldest first
}

// effort is what was executed on a day, as it is kept: days since 1970, milliseconds.
type effort struct{ copies, millis uint64 }

// efforts are those not written yet.
type efforts struct {
	days    map[int64]effort
	written time.Time
}

func (e *efforts) add(now time.Time, millis uint64) {
	if e.days == nil {
		e.days = map[int64]effort{}
	}
	day := now.Unix() / 86400
	d := e.days[day]
	e.days[day] = effort{d.copies + 1, d.millis + millis}
}

// writeEfforts makes efforts durable, if it is time. A minute of it is lost with the power.
func (n *Node) writeEfforts(now time.Time) {
	if len(n.efforts.days) == 0 || now.Sub(n.efforts.written) < effortEvery {
		return
	}
	n.efforts.written = now
	if err := n.db.addEfforts(n.efforts.days); err != nil {
		n.log.Warn("write what was executed", "err", err)
		return
	}
	clear(n.efforts.days)
}

// Impact tells what the node gave.
func (n *Node) Impact() (i Impact, err error) {
	var days map[int64]effort
	if derr := n.do(n.ctx, func() {
		for _, j := range n.jobs {
			i.Accepted += n.creditIn(j)
		}
		days, err = n.db.efforts()
		for day, e := range n.efforts.days {
			d := days[day]
			days[day] = effort{d.copies + e.copies, d.millis + e.millis}
		}
	}); derr != nil || err != nil {
		return i, cmp.Or(derr, err)
	}
	for _, day := range slices.Sorted(maps.Keys(days)) {
		e := Effort{days[day].copies, float64(days[day].millis) / 1000}
		i.All.Copies += e.Copies
		i.All.CPU += e.CPU
		i.Days = append(i.Days, DayEffort{time.Unix(day*86400, 0).UTC().Format(time.DateOnly), e})
	}
	i.Days = i.Days[max(len(i.Days)-effortDays, 0):]
	return i, nil
}

// Contribution makes a record of what this node gave, for others to check: its own
// word, and that of every publisher whose latest table of stakes names it.
func (n *Node) Contribution(ctx context.Context) ([]byte, error) {
	i, err := n.Impact()
	if err != nil {
		return nil, err
	}
	c := workunits.Contribution{
		Network: n.cfg.Network, Made: uint64(time.Now().Unix()),
		Accepted: uint64(i.Accepted), Copies: i.All.Copies, Millis: uint64(i.All.CPU * 1000),
	}
	type source struct {
		block    []byte
		manifest workunits.Manifest
		hints    []workunits.NodeID
	}
	var newest []source // of each project first
	if err := n.do(ctx, func() {
		for _, j := range n.jobs {
			if j.manifest.Standing != nil {
				s := source{j.block, j.manifest, []workunits.NodeID{j.manifest.Publisher}}
				for _, l := range j.list {
					s.hints = append(s.hints, l.Node)
				}
				newest = append(newest, s)
			}
		}
	}); err != nil {
		return nil, err
	}
	slices.SortFunc(newest, func(x, y source) int {
		return cmp.Or(cmp.Compare(x.manifest.ProjectID().String(), y.manifest.ProjectID().String()), cmp.Compare(y.manifest.Created, x.manifest.Created))
	})
	newest = slices.CompactFunc(newest, func(x, y source) bool { return x.manifest.ProjectID() == y.manifest.ProjectID() })
	for _, s := range newest {
		raw, err := n.stakeTable(ctx, *s.manifest.Standing, slices.DeleteFunc(s.hints, func(h workunits.NodeID) bool { return h == n.self }))
		if err != nil {
			n.log.Info("a publisher's word is missing in the record", "project", s.manifest.ProjectID(), "err", err)
			continue
		}
		c.Evidence = append(c.Evidence, workunits.Evidence{Manifest: s.block, Table: raw})
		// One that does not name this node is no evidence.
		if _, _, err := workunits.ParseContribution(c.Sign(n.cfg.Key)); err != nil {
			c.Evidence = c.Evidence[:len(c.Evidence)-1]
		}
	}
	return c.Sign(n.cfg.Key), nil
}
