package configs

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestPresetRules wants the gentle presets to leave a machine alone that is in
// use, on battery or metered, and all-out to ask for nothing.
func TestPresetRules(t *testing.T) {
	t.Parallel()
	type row struct {
		Use, Percent, InUse int
		IdleAfter           time.Duration
		Battery, Metered    bool
		MaxHeat, MaxLoad    int
	}
	for p, want := range map[Preset]row{
		Quiet:    {Use: 2, Percent: 100, InUse: 0, IdleAfter: 3 * time.Minute, MaxHeat: 80},
		Balanced: {Use: 4, Percent: 100, InUse: 2, IdleAfter: 3 * time.Minute, MaxHeat: 90},
		AllOut:   {Use: 8, Percent: 100, InUse: 8, Battery: true, Metered: true},
	} {
		c, err := Load(Sources{Flags: map[string]any{"preset": string(p)}})
		if err != nil {
			t.Fatal(err)
		}
		got := row{IdleAfter: c.Rules.IdleAfter, Battery: c.Rules.Battery, Metered: c.Rules.Metered, MaxHeat: c.Rules.MaxHeat, MaxLoad: c.Rules.MaxLoad}
		got.Use, got.Percent = c.Compute(8)
		got.InUse, _ = c.InUse.Compute(8)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", p, diff)
		}
	}
}

func TestRulesAreChecked(t *testing.T) {
	t.Parallel()
	for key, values := range map[string][]string{
		"in_use.processors": {"-1", "101%", "many"}, "in_use.cpu_percent": {"0", "101"}, "in_use.memory": {"1B", "0"},
		"rules.idle_after": {"-1s", "25h", "3"}, "rules.battery": {"maybe"}, "rules.max_heat": {"-1", "151"}, "rules.max_load": {"101"},
		"rules.exclusive": {"/bin/game"}, "rules.hours": {"monday 10:00-11:00"},
	} {
		for _, v := range values {
			if _, err := Set(nil, key, v); err == nil {
				t.Errorf("%s = %q is taken", key, v)
			}
		}
	}
}

func TestPageAddresses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "127.0.0.1:0", "localhost:80", "[::1]:80", "0.0.0.0:443", "192.0.2.7:8300", "[2001:db8::1]:8300"} {
		if err := validPage(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"80", ":80", "example.org:80", "192.0.2.7", "192.0.2.7:", "192.0.2.7:65536", "192.0.2.7:-1", "2001:db8::1:80", "[192.0.2.7]:80", "[2001:db8::1:80", "192.0.2.7/tcp/1:80", "[fe80::1%eth0]:80"} {
		if validPage(s) == nil {
			t.Errorf("%q is taken", s)
		}
	}
	for s, ok := range map[string]bool{
		"talka.example.org": true, "nas": true, "192.0.2.7": true, "2001:db8::1": true, "": false, "Talka": false, "a..b": false,
		"-a": false, "a:80": false, "a/b": false, "*.example.org": false, "b\u00e4r": false,
	} {
		if err := validHost(s); (err == nil) != ok {
			t.Errorf("host %q: %v", s, err)
		}
	}
}
