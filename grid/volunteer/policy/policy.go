// Package policy decides how much of a machine units may have now, and says
// why: the owner's rules and what is known of the machine go in, a decision
// with its reasons comes out.
//
// What is not known never stops a node: a machine without a battery, a
// thermometer or a desktop gives no such facts. Decide is pure and may be called
// from any goroutine; the caller asks again as facts change and time passes.
package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Limits are what units may take together.
type Limits struct {
	Processors int    // units at a time; 0: none
	Percent    int    // of its time that each may work, 1 to 100
	Memory     uint64 // bytes
}

// Rules are what the owner wants. The zero value of a rule does not restrict,
// but for the limits.
type Rules struct {
	InUse     Limits        // while somebody uses the machine
	Free      Limits        // at other times
	IdleAfter time.Duration // without input until the machine counts as not in use
	Mains     bool          // pause on battery
	Unmetered bool          // pause on a metered network
	MaxHeat   int           // degrees Celsius from which units pause
	MaxLoad   int           // percent of the processors that others use, from which units pause
	Exclusive []string      // names of programs while which run units pause
	Hours     []Hours       // when units may run; none: always
}

// coolDown is how many degrees below MaxHeat a machine that paused for heat must
// be to go on, so that it does not swing around the limit.
const coolDown = 5

// Power is what a machine runs on.
type Power int

// The kinds of power.
const (
	PowerUnknown Power = iota
	OnMains
	OnBattery
)

// Pause is what the owner asked for by hand.
type Pause int

// The kinds of pause.
const (
	NoPause  Pause = iota
	PauseNow       // until Facts.PauseEnd
	Finish         // units that run end, none begins
)

// Facts are what is known now.
type Facts struct {
	Now      time.Time // in the owner's time zone
	Input    bool      // it is known when the machine was last used
	Idle     time.Duration
	Source   string // what told of Idle, for people
	Power    Power
	Metered  bool
	Heat     int // degrees Celsius of the warmest sensor; 0: unknown
	Load     int // percent of the processors that programs other than units use
	Programs []string
	Pause    Pause
	PauseEnd time.Time // zero: when the owner says so
	Running  int       // copies under way
	Hot      bool      // the last decision was Hot
}

// Rule names what a reason comes from.
type Rule string

// The rules, the one that weighs most first.
const (
	ByOwner     Rule = "owner"
	BySchedule  Rule = "schedule"
	ByBattery   Rule = "battery"
	ByMetered   Rule = "metered"
	ByExclusive Rule = "exclusive"
	ByHeat      Rule = "heat"
	ByUse       Rule = "in use"
	ByLoad      Rule = "load"
	ByLimits    Rule = "limits"
)

// Reason is a rule that has a say. Text completes "Paused: ", and Change says
// in a sentence what would change it.
type Reason struct {
	Rule   Rule   `json:"rule"`
	Text   string `json:"text"`
	Change string `json:"change"`
}

// Decision is what units may have. One that pauses freezes running copies,
// unless it lets them Finish; its limits are zero.
type Decision struct {
	Limits
	Paused  bool
	Finish  bool // running copies go on
	InUse   bool
	Hot     bool
	Reasons []Reason // of a pause, the weightiest first; none without one
}

// Decide applies the rules to the facts.
func Decide(r Rules, f Facts) Decision {
	d := Decision{InUse: f.Input && f.Idle < r.IdleAfter}
	d.Limits = r.Free
	if d.InUse {
		d.Limits = lesser(r.InUse, r.Free)
	}
	d.Hot = r.MaxHeat > 0 && f.Heat > 0 && (f.Heat >= r.MaxHeat || f.Hot && f.Heat > r.MaxHeat-coolDown)
	d.Reasons = reasons(r, f, d)
	if len(d.Reasons) > 0 {
		d.Paused = true
		d.Finish = f.Pause == Finish && len(d.Reasons) == 1 && f.Running > 0
		d.Limits = Limits{}
		return d
	}
	d.Percent = min(max(d.Percent, 1), 100)
	return d
}

// lesser keeps use of a machine from giving units more than they have without.
func lesser(a, b Limits) Limits {
	return Limits{min(a.Processors, b.Processors), min(a.Percent, b.Percent), min(a.Memory, b.Memory)}
}

func reasons(r Rules, f Facts, d Decision) (list []Reason) {
	say := func(if_ bool, rule Rule, text, change string) {
		if if_ {
			list = append(list, Reason{rule, text, change})
		}
	}
	if f.Pause != NoPause {
		list = append(list, byOwner(f))
	}
	open, next := within(r.Hours, f.Now)
	say(!open, BySchedule, "outside the hours of the schedule", "Resumes "+when(f.Now, next)+".")
	say(r.Mains && f.Power == OnBattery, ByBattery, "on battery", "Resumes on mains.")
	say(r.Unmetered && f.Metered, ByMetered, "the network is metered", "Resumes on a network that is not.")
	if name := exclusive(r.Exclusive, f.Programs); name != "" {
		say(true, ByExclusive, name+" is running", "Resumes when it ends.")
	}
	say(d.Hot, ByHeat, fmt.Sprintf("the machine is at %d °C", f.Heat), fmt.Sprintf("Resumes at %d °C.", r.MaxHeat-coolDown))
	say(d.InUse && d.Processors <= 0 && r.Free.Processors > 0, ByUse, "the machine is in use ("+cmp.Or(f.Source, "input")+")",
		fmt.Sprintf("Resumes after %s without input, in %s.", span(r.IdleAfter), span(r.IdleAfter-f.Idle)))
	say(r.MaxLoad > 0 && f.Load >= r.MaxLoad, ByLoad, fmt.Sprintf("other programs use %d %% of the processors", f.Load),
		fmt.Sprintf("Resumes below %d %%.", r.MaxLoad))
	say(r.Free.Processors <= 0, ByLimits, "no processors are allowed for units", "Resumes when `processors` is above zero.")
	return list
}

func byOwner(f Facts) Reason {
	if f.Pause == Finish && f.Running > 0 {
		return Reason{ByOwner, "by you, as soon as running units are finished", "Resumes when you say so: `talka resume`."}
	}
	if f.PauseEnd.IsZero() {
		return Reason{ByOwner, "by you", "Resumes when you say so: `talka resume`."}
	}
	return Reason{ByOwner, "by you", "Resumes " + when(f.Now, f.PauseEnd) + "."}
}

// exclusive is the first running program that the owner named. Case and the
// ending of Windows do not count.
func exclusive(names, running []string) string {
	plain := func(s string) string { return strings.TrimSuffix(strings.ToLower(s), ".exe") }
	for _, n := range names {
		if slices.ContainsFunc(running, func(p string) bool { return plain(p) == plain(n) }) {
			return n
		}
	}
	return ""
}

// when says a time ahead as people do.
func when(now, at time.Time) string {
	switch {
	case at.IsZero():
		return "when the schedule has hours"
	case at.Sub(now) < 12*time.Hour && at.Day() == now.Day():
		return "at " + at.Format("15:04")
	case at.Sub(now) < 6*24*time.Hour:
		return "on " + at.Format("Monday at 15:04")
	}
	return "on " + at.Format("2 January at 15:04")
}

// span says a duration in whole seconds or minutes, rounded up.
func span(d time.Duration) string {
	if d = max(d, 0); d <= 90*time.Second {
		return fmt.Sprintf("%d s", (d+time.Second-1)/time.Second)
	}
	return fmt.Sprintf("%d min", (d+time.Minute-1)/time.Minute)
}

// Sentence says why units are paused and what would change it: one sentence
// each. It is empty for a decision that does not pause.
func (d Decision) Sentence() string {
	if !d.Paused {
		return ""
	}
	if d.Finish {
		return "Finishes the units that run, then pauses. " + d.Reasons[0].Change
	}
	if first := d.Reasons[0]; len(d.Reasons) == 1 {
		return "Paused: " + first.Text + ". " + first.Change
	}
	texts := make([]string, len(d.Reasons))
	for i, r := range d.Reasons {
		texts[i] = r.Text
	}
	last := len(texts) - 1
	return "Paused: " + strings.Join(texts[:last], ", ") + " and " + texts[last] + ". Resumes when all of these have changed."
}
