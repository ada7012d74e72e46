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

	"github.com/talka-grid/talka/grid/phrase"
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

// Reason is a rule that has a say. Its phrase completes "Paused: ", and Change says
// in a sentence what would change it.
type Reason struct {
	Rule Rule `json:"rule"`
	phrase.Phrase
	Change string        `json:"change"`
	Then   phrase.Phrase `json:"then"` // what Change is the English of
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
	say := func(if_ bool, rule Rule, text, then phrase.Phrase) {
		if if_ {
			list = append(list, Reason{rule, text, then.Text, then})
		}
	}
	say(f.Asleep, BySleep, phrase.New("sleep", "the machine goes to sleep"), phrase.New("awake", "Resumes when it wakes up."))
	text, then := byOwner(f)
	say(f.Pause != NoPause, ByOwner, text, then)
	open, next := within(r.Hours, f.Now)
	say(!open, BySchedule, phrase.New("schedule", "outside the hours of the schedule"), resumes(f.Now, next))
	say(r.Mains && f.Power == OnBattery, ByBattery, phrase.New("battery", "on battery"), phrase.New("mains", "Resumes on mains."))
	say(r.Unmetered && f.Metered, ByMetered, phrase.New("metered", "the network is metered"), phrase.New("unmetered", "Resumes on a network that is not."))
	name := exclusive(r.Exclusive, f.Programs)
	say(name != "", ByExclusive, phrase.New("exclusive", "{name} is running", "name", name), phrase.New("ends", "Resumes when it ends."))
	say(d.Hot, ByHeat, phrase.New("heat", "the machine is at {heat} °C", "heat", f.Heat), phrase.New("cool", "Resumes at {heat} °C.", "heat", r.MaxHeat-coolDown))
	source := cmp.Or(user.Source, "input")
	idle := phrase.New("idle", "Resumes after {idle} without input, in {rest}.", "idle", span(r.IdleAfter), "rest", span(r.IdleAfter-user.Idle))
	say(d.InUse && d.Processors <= 0 && r.Free.Processors > 0, ByUse, phrase.New("in_use", "the machine is in use ({source})", "source", source), idle)
	say(r.MaxLoad > 0 && f.Load >= r.MaxLoad, ByLoad, phrase.New("load", "other programs use {load} % of the processors", "load", f.Load),
		phrase.New("unload", "Resumes below {load} %.", "load", r.MaxLoad))
	alone := d.Net.Down < 0 && len(list) == 0 // else it goes without saying
	say(alone && r.FreeNet.Down < 0, ByTraffic, phrase.New("no_download", "nothing may be downloaded, and units need inputs"),
		phrase.New("download", "Resumes when `download` is not none."))
	say(alone && r.FreeNet.Down >= 0, ByTraffic,
		phrase.New("no_download_in_use", "nothing may be downloaded while the machine is in use ({source}), and units need inputs", "source", source), idle)
	say(r.Free.Processors <= 0, ByLimits, phrase.New("no_processors", "no processors are allowed for units"),
		phrase.New("processors", "Resumes when `processors` is above zero."))
	return list
}

// winding reports whether copies go on that the owner's pause waits for.
func (f Facts) winding() bool {
	return f.Pause == Finish && f.Running > 0 || f.Pause == Save && f.Unsaved > 0
}

func byOwner(f Facts) (text, then phrase.Phrase) {
	then = phrase.New("asked", "Resumes when you say so: `talka resume`.")
	switch {
	case f.winding() && f.Pause == Save:
		return phrase.New("owner_save", "by you, as soon as running units have saved their state"), then
	case f.winding():
		return phrase.New("owner_finish", "by you, as soon as running units are finished"), then
	case !f.PauseEnd.IsZero():
		then = resumes(f.Now, f.PauseEnd)
	}
	return phrase.New("owner", "by you"), then
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

// resumes says a time ahead as people do.
func resumes(now, at time.Time) phrase.Phrase {
	clock := at.Format("15:04")
	switch {
	case at.IsZero():
		return phrase.New("hourless", "Resumes when the schedule has hours.")
	case at.Sub(now) < 12*time.Hour && at.Day() == now.Day():
		return phrase.New("at", "Resumes at {time}.", "time", clock)
	case at.Sub(now) < 6*24*time.Hour:
		return phrase.New("weekday", "Resumes on {weekday} at {time}.", "weekday", at.Weekday(), "time", clock)
	}
	return phrase.New("date", "Resumes on {day} {month} at {time}.", "day", at.Day(), "month", at.Month(), "time", clock)
}

// span says a duration in whole seconds or minutes, rounded up.
func span(d time.Duration) string {
	if d = max(d, 0); d <= 90*time.Second {
		return fmt.Sprintf("%d s", (d+time.Second-1)/time.Second)
	}
	return fmt.Sprintf("%d min", (d+time.Minute-1)/time.Minute)
}

// Said says why units are paused and what would change it: one sentence each. There
// are none for a decision that does not pause.
func (d Decision) Said() []phrase.Phrase {
	if !d.Paused {
		return nil
	}
	texts := make([]phrase.Phrase, len(d.Reasons))
	for i, r := range d.Reasons {
		texts[i] = r.Phrase
	}
	first, then := d.Reasons[0], d.Reasons[0].Then
	if len(texts) > 1 {
		then = phrase.New("all", "Resumes when all of these have changed.")
	}
	switch {
	case d.Finish && first.Rule == ByTraffic:
		return []phrase.Phrase{phrase.Of("pausing", "Pauses as soon as running units are finished: {list}.", texts), then}
	case d.Finish && first.Code == "owner_save":
		return []phrase.Phrase{phrase.New("saving", "Pauses as soon as running units have saved their state."), then}
	case d.Finish:
		return []phrase.Phrase{phrase.New("finishing", "Pauses as soon as running units are finished."), then}
	}
	return []phrase.Phrase{phrase.Of("paused", "Paused: {list}.", texts), then}
}

// Sentence is what is Said, in English.
func (d Decision) Sentence() string { return phrase.Text(d.Said()) }
