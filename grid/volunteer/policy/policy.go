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

// Traffic limits content to and from all peers together, in bytes a second each way;
// zero does not limit, below zero there is none.
type Traffic struct{ Up, Down int64 }

// none is a limit of Traffic that lets nothing pass.
const none = -1

// Rules are what the owner wants. The zero value of a rule does not restrict,
// but for the limits.
type Rules struct {
	InUse     Limits        // while somebody uses the machine
	Free      Limits        // at other times
	UseNet    Traffic       // while somebody uses the machine
	FreeNet   Traffic       // at other times
	Month     Traffic       // in a calendar month, in bytes; zero does not limit
	IdleAfter time.Duration // without input until the machine counts as not in use
	Mains     bool          // pause on battery
	Unmetered bool          // pause on a metered network, and have no traffic there
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
	Save           // units that run go on until they have saved their state, or end; none begins
)

// Facts are what is known now.
type Facts struct {
	Now      time.Time // in the owner's time zone
	Sessions []Session // of the machine, as the system tells; none: nothing is known
	Desktops []Session // what desktops tell themselves, see Session
	Power    Power
	Metered  bool
	Heat     int // degrees Celsius of the warmest sensor; 0: unknown
	Load     int // percent of the processors that programs other than units use
	Programs []string
	Pause    Pause
	PauseEnd time.Time // zero: when the owner says so
	Running  int       // copies under way
	Unsaved  int       // of them, those that have not saved their state since the owner asked for Save
	Hot      bool      // the last decision was Hot
	Asleep   bool      // the machine is about to sleep, or has not woken up yet
}

// Rule names what a reason comes from.
type Rule string

// The rules, the one that weighs most first.
const (
	BySleep     Rule = "sleep"
	ByOwner     Rule = "owner"
	BySchedule  Rule = "schedule"
	ByBattery   Rule = "battery"
	ByMetered   Rule = "metered"
	ByExclusive Rule = "exclusive"
	ByHeat      Rule = "heat"
	ByUse       Rule = "in use"
	ByLoad      Rule = "load"
	ByLimits    Rule = "limits"
	ByTraffic   Rule = "traffic"
)

// Reason is a rule that has a say. Text completes "Paused: ", and Change says
// in a sentence what would change it.
type Reason struct {
	Rule   Rule   `json:"rule"`
	Text   string `json:"text"`
	Change string `json:"change"`
}

// Decision is what units may have. One that pauses freezes running copies,
// unless it lets them Finish; its limits are zero, but those of traffic, which goes on.
// Where nothing may be received no unit begins, for it could not have its inputs.
type Decision struct {
	Limits
	Net     Traffic
	Paused  bool
	Finish  bool // running copies go on
	InUse   bool
	Source  string // what tells when the machine was last used; empty: nothing does
	Hot     bool
	Reasons []Reason // of a pause, the weightiest first; none without one
}

// Decide applies the rules to the facts.
func Decide(r Rules, f Facts) Decision {
	user, known := f.user()
	d := Decision{InUse: known && user.Idle < r.IdleAfter, Source: user.Source}
	d.Limits, d.Net = r.Free, r.FreeNet
	if d.InUse {
		d.Limits = lesser(r.InUse, r.Free)
		d.Net = Traffic{lesserRate(r.UseNet.Up, r.FreeNet.Up), lesserRate(r.UseNet.Down, r.FreeNet.Down)}
	}
	if r.Unmetered && f.Metered {
		d.Net = Traffic{none, none}
	}
	d.Hot = r.MaxHeat > 0 && f.Heat > 0 && (f.Heat >= r.MaxHeat || f.Hot && f.Heat > r.MaxHeat-coolDown)
	d.Reasons = reasons(r, f, d, user)
	if len(d.Reasons) > 0 {
		d.Paused = true
		d.Finish = len(d.Reasons) == 1 && (f.winding() || d.Reasons[0].Rule == ByTraffic && f.Running > 0)
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

// lesserRate is lesser where zero is no limit.
func lesserRate(a, b int64) int64 {
	if min(a, b) == 0 {
		return max(a, b)
	}
	return min(a, b)
}

func reasons(r Rules, f Facts, d Decision, user Session) (list []Reason) {
	say := func(if_ bool, rule Rule, text, change string) {
		if if_ {
			list = append(list, Reason{rule, text, change})
		}
	}
	say(f.Asleep, BySleep, "the machine goes to sleep", "Resumes when it wakes up.")
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
	say(d.InUse && d.Processors <= 0 && r.Free.Processors > 0, ByUse, "the machine is in use ("+cmp.Or(user.Source, "input")+")",
		fmt.Sprintf("Resumes after %s without input, in %s.", span(r.IdleAfter), span(r.IdleAfter-user.Idle)))
	say(r.MaxLoad > 0 && f.Load >= r.MaxLoad, ByLoad, fmt.Sprintf("other programs use %d %% of the processors", f.Load),
		fmt.Sprintf("Resumes below %d %%.", r.MaxLoad))
	alone := d.Net.Down < 0 && len(list) == 0 // else it goes without saying
	say(alone && r.FreeNet.Down < 0, ByTraffic, "nothing may be downloaded, and units need inputs", "Resumes when `download` is not none.")
	say(alone && r.FreeNet.Down >= 0, ByTraffic, "nothing may be downloaded while the machine is in use ("+cmp.Or(user.Source, "input")+"), and units need inputs",
		fmt.Sprintf("Resumes after %s without input, in %s.", span(r.IdleAfter), span(r.IdleAfter-user.Idle)))
	say(r.Free.Processors <= 0, ByLimits, "no processors are allowed for units", "Resumes when `processors` is above zero.")
	return list
}

// winding reports whether copies go on that the owner's pause waits for.
func (f Facts) winding() bool {
	return f.Pause == Finish && f.Running > 0 || f.Pause == Save && f.Unsaved > 0
}

func byOwner(f Facts) Reason {
	if f.winding() {
		what := "are finished"
		if f.Pause == Save {
			what = "have saved their state"
		}
		return Reason{ByOwner, "by you, as soon as running units " + what, "Resumes when you say so: `talka resume`."}
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
	if d.Finish && d.Reasons[0].Rule == ByTraffic {
		return "Pauses as soon as running units are finished: " + d.Reasons[0].Text + ". " + d.Reasons[0].Change
	}
	if d.Finish {
		return "Pauses " + strings.TrimPrefix(d.Reasons[0].Text, "by you, ") + ". " + d.Reasons[0].Change
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
