package grid

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/talka-grid/talka/chunkstore/exchange"
	"github.com/talka-grid/talka/grid/phrase"
	"github.com/talka-grid/talka/grid/volunteer"
	"github.com/talka-grid/talka/grid/volunteer/policy"
)

const (
	senseEvery   = 400 * time.Millisecond // a user who comes back has the processors within a second
	senseIdle    = time.Second            // while nothing executes that would have to make way
	maxDecisions = 100                    // that are remembered
)

// Sensors tell what is known of what rules ask about; *sensors.Machine is one.
// Read is called by one goroutine at a time. What only the node knows is not theirs to
// say: pauses, copies under way, the last decision. Used tells what a child of this
// process has used of the processors and holds of memory, if there is that child; it
// takes microseconds and is called at any time.
type Sensors interface {
	Read(ctx context.Context, r policy.Rules) policy.Facts
	Used(pid int) (cpu time.Duration, memory uint64, ok bool)
}

// rules is what the loop knows of the owner's rules and does about them.
type rules struct {
	policy.Decision // the last
	owner           policy.Rules
	facts           policy.Facts // as sensed
	pause           policy.Pause
	pauseEnd        time.Time
	asked           time.Time // since when copies are to save their state
	asleep          bool
	desktops        map[string]desktop      // what sessions tell, by who tells
	sample          context.CancelCauseFunc // of the sample that runs, or nil
	frozen          bool
	percent         int
	policy          volunteer.Policy
	limits          exchange.Limits
	log             []Decided // oldest first
}

// Decided is a decision that differed from the one before.
type Decided struct {
	Time time.Time       `json:"time"`
	Text string          `json:"text"`
	Said []phrase.Phrase `json:"said"` // what Text is the English of
}

// Why says what a node does, why, and what would change it.
type Why struct {
	State      State           `json:"state"`
	Reason     string          `json:"reason"`     // as in Status
	Said       []phrase.Phrase `json:"said"`       // as in Status
	Rules      []policy.Reason `json:"rules"`      // that pause units, the weightiest first
	Processors int             `json:"processors"` // that units may use now
	Percent    int             `json:"percent"`    // of its time that each may work
	Memory     uint64          `json:"memory"`     // bytes for one unit
	Up         int64           `json:"up"`         // bytes of content a second to peers, but those near; 0: any number, below: none
	Down       int64           `json:"down"`       // bytes of content a second from them; 0: any number, below: none
	InUse      bool            `json:"in_use"`
	Source     string          `json:"source"` // what tells whether the machine is in use; empty: nothing does
	Decisions  []Decided       `json:"decisions"`
	Measured   Measured        `json:"measured"`
	Executions []Execution     `json:"executions"`
}

// Why explains the node's state.
func (n *Node) Why() (w Why) {
	_ = n.do(n.ctx, func() {
		w = Why{
			Rules: slices.Clone(n.rules.Reasons), InUse: n.rules.InUse, Source: n.rules.Source,
			Processors: n.rules.Processors, Percent: n.rules.Percent, Memory: n.rules.Memory, Up: n.rules.Net.Up, Down: n.rules.Net.Down,
			Decisions: slices.Clone(n.rules.log), Measured: n.meter.measured(), Executions: n.executions(time.Now()),
		}
		w.State, w.Said = n.why()
		w.Reason = phrase.Text(w.Said)
	})
	return w
}

// SetRules changes the owner's rules, those for when the machine is not in use (Free)
// included. They count at once.
func (n *Node) SetRules(r policy.Rules) {
	_ = n.do(n.ctx, func() {
		n.rules.owner = r
		n.senseSoon()
		n.decide()
	})
}

// Pause freezes executions for d, or until Resume if d is 0.
func (n *Node) Pause(d time.Duration) {
	_ = n.do(n.ctx, func() {
		n.rules.pause, n.rules.pauseEnd = policy.PauseNow, time.Time{}
		if d > 0 {
			n.rules.pauseEnd = time.Now().Add(d)
		}
		n.decide()
	})
}

// Finish lets the copies that run end and begins no other until Resume.
func (n *Node) Finish() {
	_ = n.do(n.ctx, func() {
		n.rules.pause, n.rules.pauseEnd = policy.Finish, time.Time{}
		n.decide()
	})
}

// Save lets the copies that run go on until each has saved its state or ended, and
// begins no other until Resume: then the node can be ended, and loses nothing.
func (n *Node) Save() {
	_ = n.do(n.ctx, func() {
		n.rules.pause, n.rules.pauseEnd, n.rules.asked = policy.Save, time.Time{}, time.Now()
		n.decide()
	})
}

// Resume ends a pause of the owner's; the rules go on.
func (n *Node) Resume() {
	_ = n.do(n.ctx, func() {
		n.rules.pause = policy.NoPause
		n.decide()
	})
}

// sense reads the sensors until ctx ends.
func (n *Node) sense(ctx context.Context) {
	for {
		var owner policy.Rules
		var watched map[*execution]string
		wait := senseEvery
		if n.do(ctx, func() {
			owner, watched = n.rules.owner, n.watched()
			if len(n.runs) == 0 {
				wait = senseIdle
			}
		}) != nil {
			return
		}
		f, saves := n.cfg.Sensors.Read(ctx, owner), newSaves(watched)
		up, down := n.cfg.Data.Traffic()
		n.post(func() {
			n.rules.facts = f
			n.meter.look(time.Now(), n.cfg.Sensors.Used, up, down)
			n.noteSaves(saves)
			n.decide()
		})
		select {
		case <-time.After(wait):
		case <-n.stirred:
		case <-ctx.Done():
			return
		}
	}
}

// senseSoon has the sensors read at once.
func (n *Node) senseSoon() {
	select {
	case n.stirred <- struct{}{}:
	default:
	}
}

// decide applies the owner's rules to what is known now.
func (n *Node) decide() {
	r := &n.rules
	if n.cfg.Sensors != nil && r.facts.Now.IsZero() {
		return // nothing begins before the first look
	}
	f := r.facts
	f.Now, f.Running, f.Hot = time.Now(), len(n.runs), r.Hot
	if r.pause != policy.NoPause && !r.pauseEnd.IsZero() && !f.Now.Before(r.pauseEnd) {
		r.pause = policy.NoPause
	}
	f.Pause, f.PauseEnd, f.Asleep = r.pause, r.pauseEnd, r.asleep
	f.Desktops = r.told(f.Now)
	for _, e := range n.runs {
		if !e.saved.After(r.asked) {
			f.Unsaved++
		}
	}
	before := r.Decision
	r.Decision = policy.Decide(r.owner, f)
	n.sayDecided(before)
	if r.Limits != before.Limits || r.Net != before.Net {
		n.meter.restart()
	}
	if r.sample != nil && r.pause != policy.NoPause {
		r.sample(errors.New("paused by you"))
	}
	if freeze := r.Paused && !r.Finish && r.sample == nil; freeze != r.frozen {
		if r.frozen = freeze; freeze {
			n.cfg.Exec.Pause()
		} else {
			n.cfg.Exec.Resume()
		}
	}
	if !r.Paused {
		// Copies that began when more were allowed share what is allowed now.
		percent := max(r.Percent*r.Processors/max(f.Running, r.Processors), 1)
		if percent != r.percent {
			r.percent = percent
			n.cfg.Exec.SetPercent(percent)
		}
	}
	if l := (exchange.Limits{Up: r.Net.Up, Down: r.Net.Down, UpMonth: r.owner.Month.Up, DownMonth: r.owner.Month.Down}); l != r.limits {
		r.limits = l
		n.cfg.Data.Limit(l)
		n.keeper.SetRate(repairRate(l.Up))
	}
	if p := (volunteer.Policy{Slots: r.Processors, Percent: r.Percent, Memory: r.Memory}); p != r.policy {
		r.policy = p
		n.stepVolunteer(volunteer.SetPolicy{Policy: p})
	}
}

// sayDecided logs a decision that is not the one before.
func (n *Node) sayDecided(before policy.Decision) {
	d := n.rules.Decision
	same := func(x, y policy.Reason) bool { return x.Rule == y.Rule }
	if len(n.rules.log) > 0 && d.Limits == before.Limits && d.Finish == before.Finish && slices.EqualFunc(d.Reasons, before.Reasons, same) {
		return
	}
	said := d.Said()
	if !d.Paused {
		said = append(said, phrase.New("allowed", "Units may use {n} processors, {percent} % of their time.", "n", d.Processors, "percent", d.Percent))
	}
	if !d.Paused && d.InUse {
		said = append(said, phrase.New("used", "The machine is in use ({source}).", "source", d.Source))
	}
	if len(n.rules.log) == maxDecisions {
		n.rules.log = slices.Delete(n.rules.log, 0, 1)
	}
	text := phrase.Text(said)
	n.rules.log = append(n.rules.log, Decided{time.Now(), text, said})
	n.events.add(Event{Kind: "rules", Text: text, Said: said})
}
