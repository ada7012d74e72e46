package policy_test

import (
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
		{"finishing", func(_ *policy.Rules, f *policy.Facts) { f.Pause, f.Running = policy.Finish, 1 }, "Finishes the units that run, then pauses. Resumes when you say so: `talka resume`."},
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
		{"in use", func(_ *policy.Rules, f *policy.Facts) { f.Input, f.Idle, f.Source = true, time.Minute, "logind" }, "Paused: the machine is in use (logind). Resumes after 3 min without input, in 2 min."},
		{"idle", func(_ *policy.Rules, f *policy.Facts) { f.Input, f.Idle = true, 3*time.Minute }, ""},
		{"load", func(_ *policy.Rules, f *policy.Facts) { f.Load = 40 }, "Paused: other programs use 40 % of the processors. Resumes below 40 %."},
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
	d := policy.Decide(r, policy.Facts{Now: monday, Input: true})
	want := policy.Limits{Processors: 1, Percent: 50, Memory: 1 << 20} // never more than when it is free
	if d.Paused || !d.InUse || d.Limits != want {
		t.Errorf("%+v, want %+v", d, want)
	}
}

func drawLimits(t *rapid.T, name string) policy.Limits {
	return policy.Limits{
		Processors: rapid.IntRange(0, 8).Draw(t, name+" processors"), Percent: rapid.IntRange(1, 100).Draw(t, name+" percent"),
		Memory: rapid.Uint64().Draw(t, name+" memory"),
	}
}

func drawRules(t *rapid.T) policy.Rules {
	r := policy.Rules{
		InUse: drawLimits(t, "in use"), Free: drawLimits(t, "free"),
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

func drawFacts(t *rapid.T) policy.Facts {
	f := policy.Facts{
		Now:   monday.Add(time.Duration(rapid.IntRange(0, 7*24*60-1).Draw(t, "minute")) * time.Minute),
		Input: rapid.Bool().Draw(t, "input"), Idle: time.Duration(rapid.IntRange(0, 900).Draw(t, "idle")) * time.Second,
		Power: policy.Power(rapid.IntRange(0, 2).Draw(t, "power")), Metered: rapid.Bool().Draw(t, "metered"),
		Heat: rapid.IntRange(0, 110).Draw(t, "heat"), Load: rapid.IntRange(0, 100).Draw(t, "load"),
		Pause: policy.Pause(rapid.IntRange(0, 2).Draw(t, "pause")), Running: rapid.IntRange(0, 3).Draw(t, "running"), Hot: rapid.Bool().Draw(t, "hot"),
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
		for _, x := range d.Reasons {
			if x.Rule == "" || x.Text == "" || x.Change == "" {
				t.Fatalf("reason %+v", x)
			}
		}
		if d.Finish && (f.Pause != policy.Finish || f.Running == 0) {
			t.Fatalf("finishes what? %+v", f)
		}
	})
}

// What is not known never stops a node that its limits and hours let run.
func TestUnknownNeverPauses(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := drawRules(t)
		r.Hours, r.Free.Processors = nil, max(r.Free.Processors, 1)
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
		switch rapid.IntRange(0, 6).Draw(t, "worse") {
		case 0:
			worse.Input, worse.Idle = true, f.Idle/2
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
