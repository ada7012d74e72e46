package policy_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/talka-grid/talka/grid/volunteer/policy"
)

// monday is a Monday at noon.
var monday = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func quiet() policy.Rules {
	return policy.Rules{
		InUse: policy.Limits{Percent: 100, Memory: 1 << 30}, Free: policy.Limits{Processors: 2, Percent: 50, Memory: 1 << 30},
		IdleAfter: 3 * time.Minute, Mains: true, Unmetered: true, MaxHeat: 80, MaxLoad: 40, Exclusive: []string{"Game"},
		Hours: []policy.Hours{{Days: [7]bool{time.Monday: true, time.Friday: true}, From: 9 * 60, To: 7 * 60}},
	}
}

func TestSentences(t *testing.T) {
	t.Parallel()
	const all = " Resumes when all of these have changed."
	cases := []struct {
		name string
		f    func(r *policy.Rules, f *policy.Facts)
		want string
	}{
		{"nothing known", func(*policy.Rules, *policy.Facts) {}, ""},
		{"paused", func(_ *policy.Rules, f *policy.Facts) { f.Pause = policy.PauseNow }, "Paused: by you. Resumes when you say so: `talka resume`."},
		{"paused until", func(_ *policy.Rules, f *policy.Facts) { f.Pause, f.PauseEnd = policy.PauseNow, monday.Add(time.Hour) }, "Paused: by you. Resumes at 13:00."},
		{"until tomorrow", func(_ *policy.Rules, f *policy.Facts) {
			f.Pause, f.PauseEnd = policy.PauseNow, monday.Add(18*time.Hour)
		}, "Paused: by you. Resumes on Tuesday at 06:00."},
		{"for weeks", func(_ *policy.Rules, f *policy.Facts) {
			f.Pause, f.PauseEnd = policy.PauseNow, monday.AddDate(0, 0, 14)
		}, "Paused: by you. Resumes on 7 December at 12:00."},
		{"finishing", func(_ *policy.Rules, f *policy.Facts) { f.Pause, f.Running = policy.Finish, 1 }, "Pauses as soon as running units are finished. Resumes when you say so: `talka resume`."},
		{"saving", func(_ *policy.Rules, f *policy.Facts) { f.Pause, f.Running, f.Unsaved = policy.Save, 2, 1 }, "Pauses as soon as running units have saved their state. Resumes when you say so: `talka resume`."},
		{"saved", func(_ *policy.Rules, f *policy.Facts) { f.Pause, f.Running = policy.Save, 2 }, "Paused: by you. Resumes when you say so: `talka resume`."},
		{"saving on battery", func(_ *policy.Rules, f *policy.Facts) {
			f.Pause, f.Running, f.Unsaved, f.Power = policy.Save, 1, 1, policy.OnBattery
		}, "Paused: by you, as soon as running units have saved their state and on battery. Resumes when all of these have changed."},
		{"finished", func(_ *policy.Rules, f *policy.Facts) { f.Pause = policy.Finish }, "Paused: by you. Resumes when you say so: `talka resume`."},
		{"battery", func(_ *policy.Rules, f *policy.Facts) { f.Power = policy.OnBattery }, "Paused: on battery. Resumes on mains."},
		{"battery allowed", func(r *policy.Rules, f *policy.Facts) { r.Mains, f.Power = false, policy.OnBattery }, ""},
		{"metered", func(_ *policy.Rules, f *policy.Facts) { f.Metered = true }, "Paused: the network is metered. Resumes on a network that is not."},
		{"both", func(_ *policy.Rules, f *policy.Facts) { f.Power, f.Metered = policy.OnBattery, true }, "Paused: on battery and the network is metered." + all},
		{"exclusive", func(_ *policy.Rules, f *policy.Facts) { f.Programs = []string{"sh", "game.EXE"} }, "Paused: Game is running. Resumes when it ends."},
		{"warm", func(_ *policy.Rules, f *policy.Facts) { f.Heat = 79 }, ""},
		{"hot", func(_ *policy.Rules, f *policy.Facts) { f.Heat = 80 }, "Paused: the machine is at 80 °C. Resumes at 75 °C."},
		{"cooling", func(_ *policy.Rules, f *policy.Facts) { f.Heat, f.Hot = 76, true }, "Paused: the machine is at 76 °C. Resumes at 75 °C."},
		{"cool again", func(_ *policy.Rules, f *policy.Facts) { f.Heat, f.Hot = 75, true }, ""},
		{"in use", func(_ *policy.Rules, f *policy.Facts) {
			f.Sessions = []policy.Session{{Idle: time.Minute, Source: "logind"}}
		}, "Paused: the machine is in use (logind). Resumes after 3 min without input, in 2 min."},
		{"idle", func(_ *policy.Rules, f *policy.Facts) { f.Sessions = []policy.Session{{Idle: 3 * time.Minute}} }, ""},
		{"asleep", func(_ *policy.Rules, f *policy.Facts) { f.Asleep = true }, "Paused: the machine goes to sleep. Resumes when it wakes up."},
		{"load", func(_ *policy.Rules, f *policy.Facts) { f.Load = 40 }, "Paused: other programs use 40 % of the processors. Resumes below 40 %."},
		{"no download", func(r *policy.Rules, _ *policy.Facts) { r.FreeNet.Down = -1 }, "Paused: nothing may be downloaded, and units need inputs. Resumes when `download` is not none."},
		{"no download for more", func(r *policy.Rules, f *policy.Facts) { r.FreeNet.Down, f.Running = -1, 1 },
			"Pauses as soon as running units are finished: nothing may be downloaded, and units need inputs. Resumes when `download` is not none."},
		{"no download in use", func(r *policy.Rules, f *policy.Facts) {
			r.UseNet.Down, r.InUse.Processors = -1, 1
			f.Sessions = []policy.Session{{Idle: time.Minute, Source: "logind"}}
		}, "Paused: nothing may be downloaded while the machine is in use (logind), and units need inputs. Resumes after 3 min without input, in 2 min."},
		{"no download on battery", func(r *policy.Rules, f *policy.Facts) { r.FreeNet.Down, f.Power = -1, policy.OnBattery }, "Paused: on battery. Resumes on mains."},
		{"no upload", func(r *policy.Rules, _ *policy.Facts) { r.FreeNet.Up = -1 }, ""},
		{"no processors", func(r *policy.Rules, _ *policy.Facts) { r.Free.Processors = 0 }, "Paused: no processors are allowed for units. Resumes when `processors` is above zero."},
		{"before the hours", func(_ *policy.Rules, f *policy.Facts) { f.Now = monday.Add(-4 * time.Hour) }, "Paused: outside the hours of the schedule. Resumes at 09:00."},
		{"hours over midnight", func(_ *policy.Rules, f *policy.Facts) { f.Now = monday.Add(18 * time.Hour) }, ""},
		{"after the hours", func(_ *policy.Rules, f *policy.Facts) { f.Now = monday.Add(19 * time.Hour) }, "Paused: outside the hours of the schedule. Resumes on Friday at 09:00."},
		{"no day at all", func(r *policy.Rules, _ *policy.Facts) { r.Hours[0].Days = [7]bool{} }, "Paused: outside the hours of the schedule. Resumes when the schedule has hours."},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, f := quiet(), policy.Facts{Now: monday}
			c.f(&r, &f)
			d := policy.Decide(r, f)
			if diff := cmp.Diff(c.want, d.Sentence()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if want := r.Free; !d.Paused && d.Limits != want {
				t.Errorf("limits %+v, want %+v", d.Limits, want)
			}
		})
	}
}

func TestUseGivesUnitsLess(t *testing.T) {
	t.Parallel()
	r := quiet()
	r.InUse = policy.Limits{Processors: 1, Percent: 100, Memory: 1 << 20}
	d := policy.Decide(r, policy.Facts{Now: monday, Sessions: []policy.Session{{}}})
	want := policy.Limits{Processors: 1, Percent: 50, Memory: 1 << 20} // never more than when it is free
	if d.Paused || !d.InUse || d.Limits != want {
		t.Errorf("%+v, want %+v", d, want)
	}
}

// TestWhoUsesTheMachine: the desktop's own word outweighs the system's, which takes
// one that says nothing for used; terminals and people from afar count beside it.
func TestWhoUsesTheMachine(t *testing.T) {
	t.Parallel()
	const busy, gone = time.Second, time.Hour
	type list = []policy.Session
	shell := policy.Session{ID: "7", Source: "a terminal", Idle: busy, Remote: true}
	silent := policy.Session{ID: "2", Source: "logind", Desktop: true} // never says that it is idle
	for name, c := range map[string]struct {
		sessions, desktops list
		used               bool
		source             string
	}{
		"nothing known":               {nil, nil, false, ""},
		"nobody there":                {list{{Source: "logind", Idle: gone}}, nil, false, "logind"},
		"a desktop that says nothing": {list{silent}, nil, true, "logind"},
		"its own word":                {list{silent}, list{{ID: "2", Source: "Mutter", Idle: gone}}, false, "Mutter"},
		"without its id":              {list{silent}, list{{Source: "X11", Idle: gone}}, false, "X11"},
		"used":                        {list{silent}, list{{ID: "2", Source: "Mutter", Idle: busy}}, true, "Mutter"},
		"of another desktop":          {list{silent}, list{{ID: "3", Source: "Mutter", Idle: gone}}, true, "logind"},
		"a remote desktop":            {list{{ID: "4", Source: "logind", Desktop: true, Remote: true}}, list{{Source: "X11", Idle: gone}}, true, "logind"},
		"somebody by SSH":             {list{silent, shell}, list{{ID: "2", Source: "Mutter", Idle: gone}}, true, "a terminal"},
		"locked by its word":          {list{silent}, list{{ID: "2", Source: "Mutter", Idle: busy, Locked: true}}, false, "Mutter, locked"},
		"locked by the system's":      {list{{ID: "2", Desktop: true, Locked: true}}, list{{ID: "2", Source: "Mutter", Idle: busy}}, false, "Mutter, locked"},
		"locked, and SSH":             {list{{ID: "2", Desktop: true, Locked: true}, shell}, nil, true, "a terminal"},
	} {
		d := policy.Decide(quiet(), policy.Facts{Now: monday, Sessions: c.sessions, Desktops: c.desktops})
		if d.InUse != c.used || d.Source != c.source {
			t.Errorf("%s: in use %v by %q, want %v by %q", name, d.InUse, d.Source, c.used, c.source)
		}
	}
}

func drawLimits(t *rapid.T, name string) policy.Limits {
	return policy.Limits{
		Processors: rapid.IntRange(0, 8).Draw(t, name+" processors"), Percent: rapid.IntRange(1, 100).Draw(t, name+" percent"),
		Memory: rapid.Uint64().Draw(t, name+" memory"),
	}
}

func drawTraffic(t *rapid.T, name string) policy.Traffic {
	return policy.Traffic{Up: rapid.Int64Range(-1, 3).Draw(t, name+" up"), Down: rapid.Int64Range(-1, 3).Draw(t, name+" down")}
}

func drawRules(t *rapid.T) policy.Rules {
	r := policy.Rules{
		InUse: drawLimits(t, "in use"), Free: drawLimits(t, "free"),
		UseNet: drawTraffic(t, "in use"), FreeNet: drawTraffic(t, "free"),
		IdleAfter: time.Duration(rapid.IntRange(0, 600).Draw(t, "idle after")) * time.Second,
		Mains:     rapid.Bool().Draw(t, "mains"), Unmetered: rapid.Bool().Draw(t, "unmetered"),
		MaxHeat: rapid.IntRange(0, 100).Draw(t, "max heat"), MaxLoad: rapid.IntRange(0, 100).Draw(t, "max load"),
	}
	if rapid.Bool().Draw(t, "exclusive") {
		r.Exclusive = []string{"game"}
	}
	for range rapid.IntRange(0, 3).Draw(t, "hours") {
		h := policy.Hours{From: rapid.IntRange(0, 1439).Draw(t, "from"), To: rapid.IntRange(0, 1440).Draw(t, "to")}
		h.Days[rapid.IntRange(0, 6).Draw(t, "day")] = true
		r.Hours = append(r.Hours, h)
	}
	return r
}

func drawSessions(t *rapid.T, name string, most int) (list []policy.Session) {
	for range rapid.IntRange(0, most).Draw(t, name+"s") {
		list = append(list, policy.Session{
			ID:   rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, name),
			Idle: time.Duration(rapid.IntRange(0, 900).Draw(t, "idle")) * time.Second, Locked: rapid.Bool().Draw(t, "locked"),
			Desktop: rapid.Bool().Draw(t, "is a desktop"), Remote: rapid.Bool().Draw(t, "remote"),
		})
	}
	return list
}

func drawFacts(t *rapid.T) policy.Facts {
	f := policy.Facts{
		Now:      monday.Add(time.Duration(rapid.IntRange(0, 7*24*60-1).Draw(t, "minute")) * time.Minute),
		Sessions: drawSessions(t, "session", 2), Desktops: drawSessions(t, "desktop", 2), Asleep: rapid.Bool().Draw(t, "asleep"),
		Power: policy.Power(rapid.IntRange(0, 2).Draw(t, "power")), Metered: rapid.Bool().Draw(t, "metered"),
		Heat: rapid.IntRange(0, 110).Draw(t, "heat"), Load: rapid.IntRange(0, 100).Draw(t, "load"),
		Pause: policy.Pause(rapid.IntRange(0, 3).Draw(t, "pause")), Running: rapid.IntRange(0, 3).Draw(t, "running"), Unsaved: rapid.IntRange(0, 3).Draw(t, "unsaved"), Hot: rapid.Bool().Draw(t, "hot"),
	}
	if rapid.Bool().Draw(t, "playing") {
		f.Programs = []string{"game"}
	}
	return f
}

// A decision either pauses, with reasons and without limits, or gives within the
// owner's limits.
func TestDecisionsHold(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r, f := drawRules(t), drawFacts(t)
		d := policy.Decide(r, f)
		if d.Paused != (len(d.Reasons) > 0) || d.Paused != (d.Sentence() != "") || d.Paused != (d.Processors == 0) {
			t.Fatalf("paused %v with %+v", d.Paused, d)
		}
		if d.Processors > r.Free.Processors || d.Percent > r.Free.Percent || d.Memory > r.Free.Memory {
			t.Fatalf("%+v is over %+v", d.Limits, r.Free)
		}
		if d.InUse && (d.Processors > r.InUse.Processors || d.Percent > r.InUse.Percent || d.Memory > r.InUse.Memory) {
			t.Fatalf("in use %+v is over %+v", d.Limits, r.InUse)
		}
		for what, of := range map[string][3]int64{"up": {d.Net.Up, r.FreeNet.Up, r.UseNet.Up}, "down": {d.Net.Down, r.FreeNet.Down, r.UseNet.Down}} {
			within := func(limit int64) bool { return limit == 0 || of[0] != 0 && of[0] <= limit } // paused or not
			want := of[1]
			if r.Unmetered && f.Metered {
				want = -1
			}
			if !within(of[1]) || d.InUse && !within(of[2]) || (!d.InUse || want < 0) && of[0] != want {
				t.Fatalf("traffic %s of %d, %d when free, %d in use: %v", what, of[0], of[1], of[2], d.InUse)
			}
		}
		for _, x := range d.Reasons {
			if x.Rule == "" || x.Text == "" || x.Change == "" {
				t.Fatalf("reason %+v", x)
			}
		}
		if d.Finish && (f.Pause != policy.Finish || f.Running == 0) && (f.Pause != policy.Save || f.Unsaved == 0) && (d.Net.Down >= 0 || f.Running == 0) {
			t.Fatalf("finishes what? %+v", f)
		}
	})
}

// What is not known never stops a node that its limits and hours let run.
func TestUnknownNeverPauses(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := drawRules(t)
		r.Hours, r.Free.Processors, r.FreeNet.Down = nil, max(r.Free.Processors, 1), max(r.FreeNet.Down, 0)
		if d := policy.Decide(r, policy.Facts{Now: monday}); d.Paused || d.Limits != r.Free {
			t.Fatalf("%+v under %+v", d, r)
		}
	})
}

// A worse fact never makes a paused node run or gives units more.
func TestWorseNeverGivesMore(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r, f := drawRules(t), drawFacts(t)
		worse := f
		switch rapid.IntRange(0, 7).Draw(t, "worse") {
		case 0: // somebody logs in
			worse.Sessions = append(slices.Clone(f.Sessions), policy.Session{ID: "new", Idle: time.Second})
		case 1:
			worse.Power = policy.OnBattery
		case 2:
			worse.Metered = true
		case 3:
			worse.Heat, worse.Hot = f.Heat+20, true
		case 4:
			worse.Load = 100
		case 5:
			worse.Programs = []string{"game"}
		case 6:
			worse.Pause = policy.PauseNow
		case 7:
			worse.Asleep = true
		}
		a, b := policy.Decide(r, f), policy.Decide(r, worse)
		if b.Processors > a.Processors || b.Percent > a.Percent || b.Memory > a.Memory || a.Paused && !b.Paused {
			t.Fatalf("%+v became %+v", a, b)
		}
	})
}

func TestParseHours(t *testing.T) {
	t.Parallel()
	workdays := [7]bool{time.Monday: true, time.Tuesday: true, time.Wednesday: true, time.Thursday: true, time.Friday: true}
	for s, want := range map[string]policy.Hours{
		"mon-fri 18:00-08:30": {workdays, 18 * 60, 8*60 + 30},
		"Sat 00:00-24:00":     {[7]bool{time.Saturday: true}, 0, 24 * 60},
		"sat-mon 01:05-01:05": {[7]bool{time.Saturday: true, time.Sunday: true, time.Monday: true}, 65, 65},
	} {
		if got, err := policy.ParseHours(s); err != nil || got != want {
			t.Errorf("%q: %+v %v, want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "mon", "mon ", "day 10:00-11:00", "mon- 10:00-11:00", "mon 10:00", "mon 1:00-2:00", "mon 24:00-24:00", "mon 10:60-11:00", "mon 10:00-24:01", "mon -1:00-10:00"} {
		if got, err := policy.ParseHours(s); err == nil {
			t.Errorf("%q is taken for %+v", s, got)
		}
	}
}

// TestSchedules: texts of schedules mean what the vectors say, to which the page's
// editor is held, too.
func TestSchedules(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/hours.json")
	var vectors []struct {
		Text string
		Open [][2]int // minutes from the beginning of Monday; none: the text is refused
	}
	if err == nil {
		err = json.Unmarshal(raw, &vectors)
	}
	if err != nil || len(vectors) < 20 {
		t.Fatalf("%d vectors (%v)", len(vectors), err)
	}
	for _, v := range vectors {
		r, ok := policy.Rules{Free: policy.Limits{Processors: 1}}, true
		for item := range strings.SplitSeq(v.Text, ",") {
			if item = strings.TrimSpace(item); item != "" { // as settings are read
				h, err := policy.ParseHours(item)
				r.Hours, ok = append(r.Hours, h), ok && err == nil
			}
		}
		if ok != (v.Open != nil) {
			t.Errorf("%q is read: %v", v.Text, ok)
		}
		for minute := 0; ok && minute < 7*24*60; minute++ {
			d := policy.Decide(r, policy.Facts{Now: monday.Add(time.Duration(minute-12*60) * time.Minute)})
			if open := slices.ContainsFunc(v.Open, func(o [2]int) bool { return o[0] <= minute && minute < o[1] }); d.Paused == open {
				t.Fatalf("%q: paused %v in minute %d", v.Text, d.Paused, minute)
			}
		}
	}
}
