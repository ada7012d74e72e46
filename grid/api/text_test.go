package api

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/talka-grid/talka/configs"
)

// A text of the page's table: its key, then one text a language.
var textRow = regexp.MustCompile(`(?m)^  (?:'([^']+)'|(\w+)): \['((?:[^'\\]|\\.)*)', '((?:[^'\\]|\\.)*)'\],$`)

// The name of a place of a text that is filled in.
var placeName = regexp.MustCompile(`\{\w+`)

// pageTexts are the texts of the page by key.
func pageTexts(t *testing.T) map[string][]string {
	t.Helper()
	raw, err := os.ReadFile("ui/src/lib/text.svelte.js")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(raw), "const table = {\n")
	table, _, ok := strings.Cut(table, "\n}\n")
	texts := map[string][]string{}
	rows := textRow.FindAllStringSubmatch(table, -1)
	for _, m := range rows {
		key := m[1] + m[2]
		if texts[key] != nil {
			t.Errorf("%s stands twice in the table", key)
		}
		for _, text := range m[3:] {
			texts[key] = append(texts[key], strings.ReplaceAll(text, `\'`, "'"))
		}
	}
	lines := 0
	for l := range strings.Lines(table) {
		if strings.TrimSpace(l) != "" {
			lines++
		}
	}
	if !ok || lines != len(rows) {
		t.Errorf("the table has %d lines that hold a text, and %d that are read as one", lines, len(rows))
	}
	return texts
}

// TestPageTexts: every text that the page asks for exists, in every language and with
// the same places to fill in, and none is left that nobody asks for.
func TestPageTexts(t *testing.T) {
	t.Parallel()
	texts := pageTexts(t)
	places := func(s string) []string {
		list := placeName.FindAllString(s, -1)
		slices.Sort(list)
		return slices.Compact(list)
	}
	for key, in := range texts {
		for _, s := range in {
			if s == "" || !slices.Equal(places(s), places(in[0])) {
				t.Errorf("%s: %q is not %q in another language", key, s, in[0])
			}
		}
	}
	var source strings.Builder
	if err := filepath.WalkDir("ui/src", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "text.svelte.js" {
			return err
		}
		raw, err := os.ReadFile(path)
		source.Write(raw)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	asked := regexp.MustCompile(`\bt\(['"]([^'"]+)['"][,)]`).FindAllStringSubmatch(source.String(), -1)
	if len(asked) < 100 {
		t.Fatalf("only %d texts are asked for: they are not found", len(asked))
	}
	for _, m := range asked {
		if texts[m[1]] == nil {
			t.Errorf("the page asks for %q, which has no text", m[1])
		}
	}
	begins := regexp.MustCompile("['\"`](\\w*_|share|mRole|mGives|mLets|mOffer)['$`]").FindAllStringSubmatch(source.String(), -1)
	for key := range texts {
		used := regexp.MustCompile("['\"`.\\s]" + regexp.QuoteMeta(key) + "['\"`:\\s,}]").MatchString(source.String())
		for _, m := range begins {
			used = used || strings.HasPrefix(key, m[1])
		}
		if !used {
			t.Errorf("nobody asks for %q", key)
		}
	}
}

// goSources are the files of Go programs that patterns name, but for tests, by name.
func goSources(t *testing.T, patterns ...string) map[string]string {
	t.Helper()
	sources := map[string]string{}
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			raw, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			sources[name] = string(raw)
		}
	}
	return sources
}

// TestEventTexts: every kind of event has its words on the page.
func TestEventTexts(t *testing.T) {
	t.Parallel()
	texts, kinds := pageTexts(t), map[string]bool{}
	said := regexp.MustCompile(`(?:\.event\(|\bEvent\{Kind: |\.Note\()"([^"]+)"`)
	for _, source := range goSources(t, "../*.go", "../steward/*.go", "../../cmd/talka/*.go") {
		for _, m := range said.FindAllStringSubmatch(source, -1) {
			kinds[m[1]] = true
		}
	}
	if len(kinds) < 15 {
		t.Errorf("only %d kinds are found: %v", len(kinds), kinds)
	}
	for kind := range kinds {
		if texts["e_"+kind] == nil {
			t.Errorf("events of the kind %q have no text", kind)
		}
	}
}

// TestPhraseTexts: the page words every phrase that a node says, and in the node's
// English. TestPageTexts holds the other languages to that.
func TestPhraseTexts(t *testing.T) {
	t.Parallel()
	texts, found := pageTexts(t), map[string]bool{"say_and": true} // it stands between them
	call := regexp.MustCompile(`\bphrase\.(New|Of)\(`)
	made := regexp.MustCompile(`\bphrase\.(?:New|Of)\(\s*"([^"]+)",\s*"([^"]+)"[,)]`)
	for name, source := range goSources(t, "*.go", "../*.go", "../*/*.go", "../*/*/*.go", "../../cmd/talka/*.go") {
		list := made.FindAllStringSubmatch(source, -1)
		if calls := call.FindAllString(source, -1); len(calls) != len(list) {
			t.Errorf("%s: of %d phrases %d are literals", name, len(calls), len(list))
		}
		for _, m := range list {
			found["say_"+m[1]] = true
			if text := texts["say_"+m[1]]; len(text) == 0 || text[0] != m[2] {
				t.Errorf("%s: phrase %s is %q, on the page %q", name, m[1], m[2], text)
			}
		}
	}
	for key := range texts {
		if strings.HasPrefix(key, "say_") && !found[key] {
			t.Errorf("no node says %q", key)
		}
	}
}

// TestSettingTexts: the page words what each setting that it does not show otherwise is
// for, and in the program's English.
func TestSettingTexts(t *testing.T) {
	t.Parallel()
	texts, found := pageTexts(t), map[string]bool{}
	settings, err := configs.Explain(configs.Sources{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range settings {
		if text := texts["x_"+s.Key]; len(text) > 0 && text[0] != s.Doc {
			t.Errorf("the setting %s is %q, on the page %q", s.Key, s.Doc, text[0])
		}
		found["x_"+s.Key] = true
	}
	for key := range texts {
		if strings.HasPrefix(key, "x_") && !found[key] {
			t.Errorf("there is no setting %q", key)
		}
	}
}
