package configs

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

func readFile(name string, data []byte, bad *problems) layer {
	l := newLayer()
	flat, err := parse(data)
	if err != nil {
		bad.add(fmt.Errorf("%s: %w", name, err))
		return l
	}
	for _, key := range slices.Sorted(maps.Keys(flat)) {
		switch s, ok := find(key); {
		case !ok:
			bad.add(unknown(name, key, keys()))
		case s.notFile:
			bad.add(&KeyError{Source: name, Key: key, Allowed: "set it by --" + key + " or " + variable(key) + "; the file is found in it"})
		default:
			l.values[key], l.source[key] = flat[key], name
		}
	}
	return l
}

// parse reads a file of any known version into values of this version by
// dotted key.
func parse(data []byte) (map[string]any, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("has %d bytes, want at most %d", len(data), maxFile)
	}
	var tree map[string]any
	if err := toml.Unmarshal(data, &tree); err != nil {
		var at *toml.DecodeError
		if errors.As(err, &at) {
			line, column := at.Position()
			return nil, fmt.Errorf("line %d, column %d: %w", line, column, err)
		}
		return nil, err
	}
	flat := map[string]any{}
	flatten(flat, "", tree)
	if len(flat) > maxKeys {
		return nil, fmt.Errorf("has %d keys, want at most %d", len(flat), maxKeys)
	}
	err := migrate(flat, Version, migrations())
	delete(flat, "version") // a property of the file from here on
	return flat, err
}

// flatten adds the values of a table by dotted key. A name that itself holds a
// dot is quoted, so that it is not taken for a key of a table, and an empty
// table stands for itself unless it is one of ours.
func flatten(to map[string]any, prefix string, table map[string]any) {
	for name, v := range table {
		if name == "" || strings.Contains(name, ".") {
			name = fmt.Sprintf("%q", name)
		}
		inner, ok := v.(map[string]any)
		if ok && (len(inner) > 0 || slices.Contains([]string{"api", "in_use", "log", "metrics", "rules"}, prefix+name)) {
			flatten(to, prefix+name+".", inner)
			continue
		}
		to[prefix+name] = v
	}
}

// migration turns the values of one version into those of the next, in place.
type migration func(flat map[string]any) error

// migrations are the steps from each version to the next, that from version 1
// first. There is one version so far.
func migrations() []migration { return nil }

// migrate brings values to the version newest, which is len(steps)+1.
func migrate(flat map[string]any, newest int, steps []migration) error {
	v, ok := flat["version"]
	if !ok {
		v = int64(1)
	}
	n, ok := v.(int64)
	switch {
	case !ok || n < 1:
		return &KeyError{Key: "version", Value: show(v), Allowed: fmt.Sprintf("want a whole number from 1 to %d", newest)}
	case n > int64(newest):
		return fmt.Errorf("version %d is newer than %d: %w", n, newest, ErrNewer)
	}
	for i := int(n); i < newest; i++ {
		if err := steps[i-1](flat); err != nil {
			return fmt.Errorf("version %d to %d: %w", i, i+1, err)
		}
	}
	flat["version"] = int64(newest)
	return nil
}

// Template is the config.toml that `talka init` writes: the preset, and every
// other setting with its meaning and default in a comment. An empty preset is one that
// nobody has chosen yet; its line is a comment, too.
func Template(p Preset) []byte {
	c := Default()
	if p != "" {
		c.Preset = p
	}
	c.apply(c.Preset.values())
	var b strings.Builder
	b.WriteString("# Settings of this Talka node. Talka never changes this file; what the UI sets\n" +
		"# stands in " + OverrideName + " and wins over it, and so do TALKA_* variables and flags.\n")
	table := ""
	for _, s := range settings() {
		if s.notFile {
			continue
		}
		name := s.key
		if t, rest, ok := strings.Cut(s.key, "."); ok {
			if name = rest; t != table {
				b.WriteString("\n[" + t + "]\n")
				table = t
			}
		}
		b.WriteString("\n# " + s.doc + "\n")
		if s.key != "version" && (s.key != "preset" || p == "") {
			b.WriteString("# ")
		}
		b.WriteString(name + " = " + show(s.get(c)) + "\n")
	}
	return []byte(b.String())
}

// Set returns the contents of override.toml with one setting changed, given in
// the form that a variable would have. Comments are not kept.
func Set(override []byte, key, value string) ([]byte, error) {
	s, ok := find(key)
	switch {
	case !ok:
		return nil, unknown("", key, keys())
	case key == "version" || s.notFile:
		return nil, &KeyError{Key: key, Allowed: "cannot be set in a file"}
	}
	c := Default()
	if err := s.set(&c, value); err != nil {
		return nil, &KeyError{Key: key, Value: show(value), Allowed: err.Error()}
	}
	return edit(override, func(flat map[string]any) { flat[key] = s.get(c) })
}

// Unset returns the contents of override.toml without one setting.
func Unset(override []byte, key string) ([]byte, error) {
	if _, ok := find(key); !ok {
		return nil, unknown("", key, keys())
	}
	return edit(override, func(flat map[string]any) { delete(flat, key) })
}

func edit(override []byte, change func(flat map[string]any)) ([]byte, error) {
	flat, err := parse(override)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", OverrideName, err)
	}
	change(flat)
	flat["version"] = int64(Version)
	tree := map[string]any{}
	for key, v := range flat {
		t, name, ok := strings.Cut(key, ".")
		if !ok {
			tree[key] = v
			continue
		}
		inner, ok := tree[t].(map[string]any)
		if !ok {
			inner = map[string]any{}
			tree[t] = inner
		}
		inner[name] = v
	}
	out, err := toml.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", OverrideName, err)
	}
	if _, err := Load(Sources{Override: out}); err != nil {
		return nil, err
	}
	return out, nil
}
