package configs

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const project = "lj@12D3KooWBhV9dp6FDvNb8aZQ1mTjcXw1qz5zBZmYdbWkQy4nGk3x"

// TestPrecedence gives one setting in every source and takes the sources away
// one by one, the strongest first.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	s := Sources{
		Flags:    map[string]any{"cpu_percent": 10},
		Env:      []string{"PATH=/bin", "TALKA_CPU_PERCENT=20"},
		Override: []byte("cpu_percent = 30"),
		File:     []byte("cpu_percent = 40\npreset = \"balanced\""),
	}
	steps := []struct {
		percent int
		source  string
		drop    func()
	}{
		{10, "--cpu-percent", func() { s.Flags = nil }},
		{20, "TALKA_CPU_PERCENT", func() { s.Env = nil }},
		{30, "override.toml", func() { s.Override = nil }},
		{40, "config.toml", func() { s.File = []byte(`preset = "balanced"`) }},
		{100, "preset balanced", func() { s.File = nil }},
		{100, "preset quiet", func() {}},
	}
	for _, step := range steps {
		c, err := Load(s)
		if err != nil {
			t.Fatal(err)
		}
		if c.CPUPercent != step.percent {
			t.Errorf("cpu_percent = %d, want %d from %s", c.CPUPercent, step.percent, step.source)
		}
		if got := explained(t, s, "cpu_percent").Source; got != step.source {
			t.Errorf("source %q, want %q", got, step.source)
		}
		step.drop()
	}
}

func explained(t *testing.T, s Sources, key string) Setting {
	t.Helper()
	all, err := Explain(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range all {
		if one.Key == key {
			return one
		}
	}
	t.Fatalf("Explain leaves out %s", key)
	return Setting{}
}

// TestLoad sets every field, each in a form that its source really has.
func TestLoad(t *testing.T) {
	t.Parallel()
	c, err := Load(Sources{
		Flags: map[string]any{"listen": []string{"/ip4/127.0.0.1/tcp/0"}, "seed": true, "dir": "/srv/talka"},
		Env: []string{
			"TALKA_JOIN=abc, def", "TALKA_STEWARD=false", "TALKA_LOG_FORMAT=json", "TALKA_NETWORK=",
			"TALKA_SERVICE_HOST=10.0.0.1", "TALKA_PORT=tcp://10.0.0.1:8255", "TALKA_PORT_8255_TCP=x", "TALKA_VERSION=1.2", "TALKA_TEST_SEED=4",
			"TALKA_PROCESSORS=3", "TALKA_PROCESSORS=4",
		},
		Override: []byte("memory = \"4GiB\"\nupload = \"unlimited\""),
		File: []byte("version = 1\nnetwork = \"lab-1\"\nidentity_work = 12\ntrust = [\"" + project + "\"]\npreset = \"all-out\"\n" +
			"disk = \"1536 MiB\"\ndownload = \"500kB/s\"\n[api]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"debug\"\n" +
			"[in_use]\nprocessors = 1\ncpu_percent = 40\nmemory = \"1GiB\"\n" +
			"[rules]\nidle_after = \"10m\"\nbattery = false\nmetered = false\nmax_heat = 70\nmax_load = 25\n" +
			"exclusive = [\"game\"]\nhours = [\"mon-fri 18:00-08:00\"]\n"),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Version: 1, Network: "lab-1", IdentityWork: 12, Dir: "/srv/talka",
		Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Join: []string{"abc", "def"}, Trust: []string{project},
		Seed: true, Steward: false, Preset: AllOut,
		Processors: Portion{Fixed: 3}, CPUPercent: 100, Memory: Portion{Fixed: int64(4 * GiB)},
		IPFS: true, DiskShare: 50, Disk: 1536 * MiB, Upload: 0, Download: 500_000,
		InUse: Share{Processors: Portion{Fixed: 1}, CPUPercent: 40, Memory: Portion{Fixed: int64(GiB)}},
		Rules: Rules{
			IdleAfter: 10 * time.Minute, MaxHeat: 70, MaxLoad: 25,
			Exclusive: []string{"game"}, Hours: []string{"mon-fri 18:00-08:00"},
		},
		API: API{Listen: "127.0.0.1:0"}, Log: Log{Level: "debug", Format: "json"},
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("Load (-want +got):\n%s", diff)
	}
	if err := c.Validate(); err != nil {
		t.Errorf("Validate after Load: %v", err)
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c, err := Load(Sources{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), c); diff != "" {
		t.Errorf("Load of nothing and Default (-default +load):\n%s", diff)
	}
	for _, p := range Presets() {
		c, err := Load(Sources{Flags: map[string]any{"preset": string(p)}})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Validate(); err != nil || c.Preset != p {
			t.Errorf("preset %q: %v, %v", p, c.Preset, err)
		}
	}
	for _, addr := range DefaultListen(0) {
		if err := validListen(addr); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

// TestRefused holds the text of every error that users meet.
func TestRefused(t *testing.T) {
	t.Parallel()
	file := func(s string) Sources { return Sources{File: []byte(s)} }
	for _, tc := range []struct {
		name string
		from Sources
		want string
	}{
		{"unknown key", file("cpu_precent = 5"), `config.toml: cpu_precent: no such setting, do you mean cpu_percent?`},
		{"unknown key, none near", file("colour_scheme_of_ui = 5"), `config.toml: colour_scheme_of_ui: no such setting`},
		{"table left out", file(`level = "info"`), `config.toml: level: no such setting, do you mean log.level?`},
		{"value for a table", file(`log = "info"`), `config.toml: log: no such setting, do you mean log.level?`},
		{"unknown empty table", file("[lgo]"), `config.toml: lgo: no such setting`},
		{"table for a value", file("[disk]\nquota = 3"), `config.toml: disk.quota: no such setting, do you mean disk?`},
		{"dotted name", file(`"log.level" = "info"`), `config.toml: "log.level": no such setting, do you mean log.level?`},
		{"unknown flag", Sources{Flags: map[string]any{"disc": "1GiB"}}, `--disc: disc: no such setting, do you mean disk?`},
		{"unknown variable", Sources{Env: []string{"TALKA_MEMROY=1GiB"}}, `environment: TALKA_MEMROY: no such setting, do you mean TALKA_MEMORY?`},
		{"syntax", file("disk = \n"), `config.toml: line 1, column 8: toml: `},
		{"twice", file("disk = \"1GiB\"\ndisk = \"2GiB\""), `config.toml: line 2, column 1: toml: `},
		{"dir in a file", file(`dir = "/srv"`), `config.toml: dir: set it by --dir or TALKA_DIR; the file is found in it`},
		{"newer", file("version = 2\nwhat = 1"), `config.toml: version 2 is newer than 1: made by a newer talka: update this one`},
		{"version 0", file("version = 0"), `config.toml: version = 0: want a whole number from 1 to 1`},
		{"version text", file(`version = "1"`), `config.toml: version = "1": want a whole number from 1 to 1`},
		{"version flag", Sources{Flags: map[string]any{"version": 1}}, `--version: version: no such setting`},
		{"network", file(`network = "a/b"`), `config.toml: network = "a/b": want 1 to 64 letters, digits and, after the first, . - _`},
		{"dir", Sources{Flags: map[string]any{"dir": "a\x00"}}, `--dir: dir = "a\x00": want a path`},
		{"listen", file(`listen = ["0.0.0.0:80"]`), `config.toml: listen = a list of 1 items: "0.0.0.0:80": want a multiaddr such as /ip4/0.0.0.0/tcp/8255 or /ip4/0.0.0.0/udp/8255/quic-v1`},
		{"listen transport", file(`listen = ["/ip4/0.0.0.0/tcp/80/ws"]`), `want a multiaddr such as`},
		{"list of numbers", file(`listen = [1]`), `want a list of texts`},
		{"list is a number", file(`listen = 1`), `config.toml: listen = 1: want a list of texts`},
		{"long list", Sources{Flags: map[string]any{"join": make([]string, 65)}}, `want at most 64 items`},
		{"invite", Sources{Env: []string{"TALKA_JOIN=a b"}}, "TALKA_JOIN: join = \"a b\": \"a b\": want what `talka invite` prints"},
		{"node", file(`block = ["12D3KooW"]`), "\"12D3KooW\": want the id of a node, 12D3KooW…, as talka peers prints it"},
		{"project", file(`trust = ["lj"]`), "\"lj\": want the id that `talka project new` prints, NAME@12D3KooW…"},
		{"boolean", Sources{Env: []string{"TALKA_SEED=yes"}}, `TALKA_SEED: seed = "yes": want true or false`},
		{"preset", file(`preset = "loud"`), `config.toml: preset = "loud": want one of "quiet", "balanced", "all-out"`},
		{"processors", file(`processors = 0`), `config.toml: processors = 0: want a count from 1 to 4096, or a share such as "50%"`},
		{"processors share", file(`processors = "101%"`), `config.toml: processors = "101%": want a count from 1 to 4096, or a share such as "50%"`},
		{"percent", file(`cpu_percent = 150`), `config.toml: cpu_percent = 150: want a whole number from 1 to 100`},
		{"percent fraction", file(`cpu_percent = 1.5`), `config.toml: cpu_percent = 1.5: want a whole number from 1 to 100`},
		{"memory", file(`memory = "1MiB"`), `config.toml: memory = "1MiB": want at least 64MiB, such as "4GiB", or a share such as "25%"`},
		{"disk", file(`disk = "1KiB"`), `config.toml: disk = "1KiB": want at least 64MiB`},
		{"disk unit", file(`disk = "20 gigs"`), `config.toml: disk = "20 gigs": want a whole number and a unit, such as "512MiB" or "20GiB"`},
		{"disk overflow", file(`disk = "9999999999TiB"`), `want a whole number and a unit`},
		{"rate", file(`upload = "2MiB"`), `config.toml: upload = "2MiB": want bytes a second, such as "2MiB/s", or "unlimited", or "none"`},
		{"rate of 0", file(`upload = 0`), `config.toml: upload = 0: want bytes a second`},
		{"api reaches out", file("[api]\nlisten = \"0.0.0.0:80\""), `config.toml: api.listen = "0.0.0.0:80": want a loopback address such as 127.0.0.1:8256, or nothing; other machines come by TLS only: set api.certificate, api.key and api.hosts first`},
		{"api without a name", file("[api]\nlisten = \"192.0.2.7:80\"\ncertificate = \"c\"\nkey = \"k\""), `config.toml: api.listen = "192.0.2.7:80": want api.hosts, the names by which other machines reach it`},
		{"half a certificate", file("[api]\nlisten = \"127.0.0.1:80\"\ncertificate = \"c\""), `config.toml: api.listen = "127.0.0.1:80": want api.certificate and api.key, or neither`},
		{"a host with a port", file("[api]\nhosts = [\"a.example:80\"]"), `"a.example:80": want a name in small letters such as talka.example.org, without a port`},
		{"api look-alike", file("[api]\nlisten = \"127.0.0.1.evil.org:80\""), `want an address such as 127.0.0.1:8256`},
		{"api port", file("[api]\nlisten = \"localhost:99999\""), `want an address such as 127.0.0.1:8256`},
		{"level", file("[log]\nlevel = \"trace\""), `config.toml: log.level = "trace": want one of "debug", "info", "warn", "error"`},
		{"long text", file(`network = "` + strings.Repeat("n", 5000) + `"`), `want a text of at most 4096 bytes`},
		{"long file", file(strings.Repeat("#", maxFile+1)), `config.toml: has 1048577 bytes, want at most 1048576`},
		{"many keys", file(manyKeys(257)), `config.toml: has 257 keys, want at most 256`},
		{"many mistakes", file(manyKeys(256)), "\nand 236 more"},
		{"deep", file("network = " + strings.Repeat("[", maxFile/2)), `config.toml: `},
		{"overridden", Sources{Flags: map[string]any{"disk": "1GiB"}, File: []byte(`disk = "x"`)}, `config.toml: disk = "x": want a whole number`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, err := Load(tc.from)
			if err == nil {
				t.Fatalf("accepted; want %s", tc.want)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error\n  %v\nlacks\n  %s", err, tc.want)
			}
			if diff := cmp.Diff(Config{}, c); diff != "" {
				t.Errorf("a configuration comes with the error:\n%s", diff)
			}
		})
	}
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "key%d = 1\n", i)
	}
	return b.String()
}

// TestAllRefused wants every mistake named at once, and in a fixed order.
func TestAllRefused(t *testing.T) {
	t.Parallel()
	_, err := Load(Sources{
		Flags: map[string]any{"seed": "maybe", "zeed": 1},
		File:  []byte("disk = 1\nmemory = 2\ncpu = 3\n"),
	})
	want := strings.Join([]string{
		`--zeed: zeed: no such setting, do you mean seed?`,
		`config.toml: cpu: no such setting`,
		`--seed: seed = "maybe": want true or false`,
		`config.toml: memory = 2: want at least 64MiB, such as "4GiB", or a share such as "25%"`,
		`config.toml: disk = 1: want at least 64MiB`,
	}, "\n")
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
	var one *KeyError
	if !errors.As(err, &one) || one.Key != "zeed" {
		t.Errorf("errors.As gives %+v", one)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	err := Config{}.Validate()
	for _, key := range []string{"version", "network", "preset", "processors", "cpu_percent", "memory", "disk", "log.level", "log.format"} {
		if err == nil || !strings.Contains("\n"+err.Error(), "\n"+key+" = ") {
			t.Errorf("the zero Config is not refused for %s: %v", key, err)
		}
	}
	c := Default()
	c.Listen = []string{"localhost"}
	if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), `listen = ["localhost"]: "localhost": want a multiaddr`) {
		t.Errorf("Validate: %v", err)
	}
}

func TestWork(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		network string
		asked   any
		want    int
	}{{"main", "auto", 28}, {"lab", "auto", 0}, {"main", 0, 0}, {"lab", 20, 20}} {
		got, err := Load(Sources{Flags: map[string]any{"network": c.network, "identity_work": c.asked}})
		if err != nil || got.Work() != c.want {
			t.Errorf("%s with %v asks for %d bits, want %d; %v", c.network, c.asked, got.Work(), c.want, err)
		}
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	all, err := Explain(Sources{Env: []string{"TALKA_LOG_LEVEL=warn"}, File: []byte("join = [\"abc\"]")})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for i, s := range all {
		if s.Key != keys()[i] || s.Doc == "" {
			t.Errorf("setting %d is %+v, want key %s and a doc", i, s, keys()[i])
		}
		got[s.Key] = s.Value + " " + s.Source
	}
	want := map[string]string{
		"version": "1 default", "network": `"main" default`, "identity_work": `"auto" default`, "dir": `"" default`,
		"listen": "[] default", "join": `["abc"] config.toml`, "trust": "[] default", "allow": "[] default", "block": "[] default",
		"seed": "false default", "steward": "true default", "preset": `"quiet" default`,
		"processors": `"25%" preset quiet`, "cpu_percent": "100 preset quiet", "memory": `"10%" preset quiet`,
		"disk": `"10GiB" preset quiet`, "upload": `"1MiB/s" preset quiet`, "download": `"4MiB/s" preset quiet`,
		"upload_month": `"0B" default`, "download_month": `"0B" default`, "deny": "[] default",
		"api.listen": `"" default`, "api.certificate": `"" default`, "api.key": `"" default`, "api.hosts": `[] default`, "metrics.listen": `"" default`, "log.level": `"warn" TALKA_LOG_LEVEL`, "log.format": `"text" default`,
		"ipfs": "true default", "disk_share": "50 default", "in_use.processors": `"0" preset quiet`, "in_use.cpu_percent": "100 preset quiet", "in_use.memory": `"10%" preset quiet`,
		"in_use.upload": `"256KiB/s" preset quiet`, "in_use.download": `"1MiB/s" preset quiet`,
		"rules.idle_after": `"3m0s" preset quiet`, "rules.battery": "false preset quiet", "rules.metered": "false preset quiet", "rules.watts": "0 default",
		"rules.max_heat": "80 preset quiet", "rules.max_load": "0 default", "rules.exclusive": "[] default", "rules.hours": "[] default",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Explain (-want +got):\n%s", diff)
	}
}

// FuzzLoad wants no panic, and of what is accepted a valid configuration that
// the writer of override.toml carries over unchanged.
func FuzzLoad(f *testing.F) {
	f.Add([]byte("version = 1\ndisk = \"20GiB\"\n[log]\nlevel = \"info\""))
	f.Add([]byte("listen = [\"/ip4/1.2.3.4/udp/1/quic-v1\"]\nprocessors = 3"))
	f.Add([]byte("[api]\nlisten = \"127.0.0.1:1\"\n[log]"))
	f.Add(Template(Balanced))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Load(Sources{Override: data})
		if err != nil {
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatalf("accepted, yet not valid: %v", err)
		}
		again, err := edit(data, func(map[string]any) {})
		if err != nil {
			t.Fatalf("accepted, yet not written again: %v", err)
		}
		d, err := Load(Sources{Override: again})
		if err != nil {
			t.Fatalf("written as\n%s: %v", again, err)
		}
		if diff := cmp.Diff(c, d); diff != "" {
			t.Fatalf("changed by writing (-read +written):\n%s", diff)
		}
	})
}
