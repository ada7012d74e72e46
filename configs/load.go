package configs

import (
	"maps"
	"slices"
	"strings"
)

// Names of the two files, as they stand in the data directory and in errors.
const (
	FileName     = "config.toml"
	OverrideName = "override.toml"
)

// envPrefix begins the variables of Talka.
const envPrefix = "TALKA_"

// Sources are the places that settings come from. All may be empty.
type Sources struct {
	// Flags are the flags that were given, by key ("api.listen"); not those
	// that stand at their default. Values are string, int, bool or []string.
	Flags map[string]any
	// Env are variables as NAME=value; those without the prefix TALKA_ are
	// passed over, empty ones count as not set. A key's variable is its name
	// in capitals with "_" for "." (TALKA_API_LISTEN); lists use commas.
	Env []string
	// Override and File are the contents of override.toml and config.toml.
	Override, File []byte
}

// Setting is one setting as it came out.
type Setting struct {
	Key    string `json:"key"`    // "api.listen"
	Value  string `json:"value"`  // as in a file
	Source string `json:"source"` // "--listen", "TALKA_LISTEN", "override.toml", "config.toml", "preset quiet" or "default"
	Doc    string `json:"doc"`    // one sentence: meaning, unit, meaning of empty
	Live   bool   `json:"live"`   // a change counts at once; of others from the next start
}

// Load decides every setting. Its error joins all that is wrong with all the
// sources: *KeyError for settings, others for files that do not parse.
func Load(s Sources) (Config, error) {
	c, _, err := resolve(s)
	return c, err
}

// Explain is Load with the source of every setting, in the order of the
// documentation.
func Explain(s Sources) ([]Setting, error) {
	_, all, err := resolve(s)
	return all, err
}

// layer is one source after reading: values and the source's name by key.
type layer struct {
	values map[string]any
	source map[string]string
}

func resolve(s Sources) (Config, []Setting, error) {
	var bad problems
	layers := []layer{
		readFlags(s.Flags, &bad), readEnv(s.Env, &bad),
		readFile(OverrideName, s.Override, &bad), readFile(FileName, s.File, &bad),
	}
	c := Default()
	source := map[string]string{}
	for _, set := range settings() {
		for _, l := range layers {
			v, ok := l.values[set.key]
			if !ok {
				continue
			}
			to := &c
			if source[set.key] != "" {
				to = &Config{} // overridden, yet checked
			} else {
				source[set.key] = l.source[set.key]
			}
			if err := set.set(to, v); err != nil {
				bad.add(&KeyError{Source: l.source[set.key], Key: set.key, Value: show(v), Allowed: err.Error()})
			}
		}
	}
	if err := c.API.check(); err != nil {
		bad.add(&KeyError{Source: source["api.listen"], Key: "api.listen", Value: show(c.API.Listen), Allowed: err.Error()})
	}
	if err := bad.err(); err != nil {
		return Config{}, nil, err
	}
	for key, v := range c.Preset.values() {
		if source[key] == "" {
			c.apply(map[string]any{key: v})
			source[key] = "preset " + string(c.Preset)
		}
	}
	var all []Setting
	for _, set := range settings() {
		from := source[set.key]
		if from == "" {
			from = "default"
		}
		all = append(all, Setting{Key: set.key, Value: show(set.get(c)), Source: from, Doc: set.doc, Live: set.live})
	}
	return c, all, nil
}

func readFlags(flags map[string]any, bad *problems) layer {
	l := newLayer()
	for _, key := range slices.Sorted(maps.Keys(flags)) {
		name := "--" + strings.NewReplacer(".", "-", "_", "-").Replace(key)
		if _, ok := find(key); !ok || key == "version" {
			bad.add(unknown(name, key, keys()))
			continue
		}
		l.values[key], l.source[key] = flags[key], name
	}
	return l
}

func readEnv(env []string, bad *problems) layer {
	l := newLayer()
	byName := map[string]string{}
	var names []string
	for _, key := range keys() {
		name := variable(key)
		byName[name] = key
		names = append(names, name)
	}
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, envPrefix) || value == "" || foreign(name) {
			continue
		}
		key, ok := byName[name]
		if !ok {
			bad.add(unknown("environment", name, names))
			continue
		}
		if _, twice := l.values[key]; !twice { // the first counts, as in os.Getenv
			l.values[key], l.source[key] = value, name
		}
	}
	return l
}

// foreign reports whether a variable is somebody else's business: those that
// Kubernetes makes for a service named talka, those that images are labelled
// with, and those of Talka's own tests.
func foreign(name string) bool {
	return name == "TALKA_PORT" || name == "TALKA_VERSION" || strings.HasPrefix(name, "TALKA_PORT_") ||
		strings.HasPrefix(name, "TALKA_SERVICE_") || strings.HasPrefix(name, "TALKA_TEST_")
}

func newLayer() layer { return layer{map[string]any{}, map[string]string{}} }
