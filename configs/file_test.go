package configs

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTemplate wants the written file to mean its preset, with and without the
// comment signs before its settings.
func TestTemplate(t *testing.T) {
	t.Parallel()
	for _, p := range Presets() {
		want, err := Load(Sources{Flags: map[string]any{"preset": string(p)}})
		if err != nil {
			t.Fatal(err)
		}
		file := Template(p)
		bare := regexp.MustCompile(`(?m)^# ([a-z_]+ = )`).ReplaceAll(file, []byte("$1"))
		for _, data := range [][]byte{file, bare} {
			got, err := Load(Sources{File: data})
			if err != nil {
				t.Fatalf("%v in\n%s", err, data)
			}
			if diff := cmp.Diff(want, got, cmp.Transformer("empty", func(s []string) int { return len(s) })); diff != "" {
				t.Errorf("template of %s (-want +got):\n%s", p, diff)
			}
		}
		for _, key := range keys() {
			name := key[strings.LastIndexByte(key, '.')+1:]
			if key != "dir" && !strings.Contains(string(bare), "\n"+name+" = ") {
				t.Errorf("the template leaves out %s", key)
			}
		}
	}
}

func TestSet(t *testing.T) {
	t.Parallel()
	var file []byte
	for _, kv := range [][2]string{
		{"log.level", "debug"}, {"disk", "1024MiB"}, {"join", "abc,def"}, {"seed", "true"},
		{"processors", "2"}, {"log.format", "json"}, {"upload", "unlimited"}, {"cpu_percent", "60"},
	} {
		var err error
		if file, err = Set(file, kv[0], kv[1]); err != nil {
			t.Fatalf("%s: %v", kv, err)
		}
	}
	file, err := Unset(file, "seed")
	if err != nil {
		t.Fatal(err)
	}
	want := `cpu_percent = 60
disk = '1GiB'
join = ['abc', 'def']
processors = '2'
upload = 'unlimited'
version = 1

[log]
format = 'json'
level = 'debug'
`
	if diff := cmp.Diff(want, string(file)); diff != "" {
		t.Errorf("override.toml (-want +got):\n%s", diff)
	}
	for _, tc := range []struct{ file, key, value, want string }{
		{"", "disc", "1GiB", "disc: no such setting, do you mean disk?"},
		{"", "disk", "lots", `disk = "lots": want a whole number`},
		{"", "dir", "/srv", "dir: cannot be set in a file"},
		{"", "version", "1", "version: cannot be set in a file"},
		{"bad", "disk", "1GiB", "override.toml: line 1"},
		{"disc = 1", "disk", "1GiB", "override.toml: disc: no such setting"},
		{"version = 9", "disk", "1GiB", "override.toml: version 9 is newer"},
	} {
		if _, err := Set([]byte(tc.file), tc.key, tc.value); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("Set(%q, %q, %q): %v, want %s", tc.file, tc.key, tc.value, err, tc.want)
		}
	}
	// The way out of a bad value is to unset it.
	if out, err := Unset([]byte(`disk = "x"`), "disk"); err != nil || string(out) != "version = 1\n" {
		t.Errorf("Unset of a bad value: %q, %v", out, err)
	}
	if _, err := Unset(nil, "disc"); err == nil {
		t.Error("Unset of an unknown key is accepted")
	}
}

// TestMigrate walks the steps between three made-up versions.
func TestMigrate(t *testing.T) {
	t.Parallel()
	steps := []migration{
		func(flat map[string]any) error {
			flat["disk"] = flat["quota"]
			delete(flat, "quota")
			return nil
		},
		func(flat map[string]any) error {
			if flat["disk"] == "" {
				return errors.New("disk is empty")
			}
			flat["disk"] = flat["disk"].(string) + "iB"
			return nil
		},
	}
	for _, tc := range []struct {
		in, want map[string]any
		err      string
	}{
		{in: map[string]any{"quota": "1G"}, want: map[string]any{"disk": "1GiB", "version": int64(3)}},
		{in: map[string]any{"disk": "1G", "version": int64(2)}, want: map[string]any{"disk": "1GiB", "version": int64(3)}},
		{in: map[string]any{"disk": "1GiB", "version": int64(3)}, want: map[string]any{"disk": "1GiB", "version": int64(3)}},
		{in: map[string]any{"quota": ""}, err: "version 2 to 3: disk is empty"},
		{in: map[string]any{"version": int64(4)}, err: "version 4 is newer than 3"},
	} {
		err := migrate(tc.in, 3, steps)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%v, want %s", err, tc.err)
			}
			continue
		}
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(tc.want, tc.in); diff != "" {
			t.Errorf("migrated (-want +got):\n%s", diff)
		}
	}
	if len(migrations()) != Version-1 {
		t.Errorf("%d migrations lead to version %d", len(migrations()), Version)
	}
	_, err := Load(Sources{File: []byte("version = 2")})
	if !errors.Is(err, ErrNewer) {
		t.Errorf("error %v is not ErrNewer", err)
	}
}

// TestShippedFiles wants every variable in the shipped files to be a setting.
func TestShippedFiles(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"systemd/talka.service", "container/Containerfile"} {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		env := regexp.MustCompile(`TALKA_[A-Z_]+=[^\s"]+`).FindAllString(string(data), -1)
		if len(env) == 0 {
			t.Errorf("%s sets nothing: this test looks for the wrong thing", name)
		}
		if _, err := Load(Sources{Env: env}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
