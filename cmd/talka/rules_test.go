package main

import (
	"reflect"
	"slices"
	"testing"

	"github.com/talka-grid/talka/configs"
)

// TestLiveSettings: a change of a setting that is said to count at once reaches the
// rules that a running node takes, and one of another does not.
func TestLiveSettings(t *testing.T) {
	t.Parallel()
	const node = "12D3KooWBhV9dp6FDvNb8aZQ1mTjcXw1qz5zBZmYdbWkQy4nGk3x"
	base := []byte("preset = \"all-out\"\n[in_use]\nprocessors = \"50%\"\n")
	changed := map[string]string{
		"network": "other", "identity_work": "3", "listen": "/ip4/127.0.0.1/tcp/0", "join": "abc", "trust": "lj@" + node, "allow": node, "block": node,
		"seed": "true", "steward": "false", "preset": "quiet", "processors": "25%", "cpu_percent": "30", "memory": "64MiB", "disk": "1GiB",
		"disk_share": "10", "upload": "1MiB/s", "download": "none", "upload_month": "1GiB", "download_month": "1GiB", "ipfs": "false", "deny": "bafkqaaa",
		"in_use.processors": "0", "in_use.cpu_percent": "30", "in_use.memory": "64MiB", "in_use.upload": "1KiB/s", "in_use.download": "none",
		"rules.idle_after": "9m", "rules.battery": "false", "rules.metered": "false", "rules.max_heat": "70", "rules.max_load": "50",
		"rules.exclusive": "game", "rules.watts": "9", "rules.hours": "mon 01:00-02:00",
		"api.listen": "127.0.0.1:8256", "api.certificate": "c", "api.key": "k", "api.hosts": "talka.example.org",
		"metrics.listen": "127.0.0.1:8257", "log.level": "warn", "log.format": "json",
	}
	before, err := configs.Load(configs.Sources{Override: base})
	if err != nil {
		t.Fatal(err)
	}
	rules, err := ownerRules(before)
	if err != nil {
		t.Fatal(err)
	}
	all, err := configs.Explain(configs.Sources{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		value, ok := changed[s.Key]
		if s.Key == "version" || s.Key == "dir" {
			continue // not set in files
		}
		override, err := configs.Set(base, s.Key, value)
		if s.Key == "api.certificate" || s.Key == "api.key" { // go together
			override, err = configs.Set(append(slices.Clip(base), "[api]\ncertificate = \"c\"\nkey = \"k\"\n"...), s.Key, value+"2")
		}
		if !ok || err != nil {
			t.Errorf("%s: the test has no other value for it: %v", s.Key, err)
			continue
		}
		cfg, err := configs.Load(configs.Sources{Override: override})
		if err != nil {
			t.Fatal(err)
		}
		after, err := ownerRules(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if counts := !reflect.DeepEqual(rules, after); counts != s.Live {
			t.Errorf("%s: a change counts at once: %t, and is said to: %t", s.Key, counts, s.Live)
		}
	}
}
