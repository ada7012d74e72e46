package configs

import (
	"errors"
	"fmt"
	"strings"
)

// KeyError is a setting that was refused.
type KeyError struct {
	Source  string // as in Setting; empty for a Config made by code
	Key     string
	Value   string // shortened where long
	Allowed string // what to write instead
}

// Error is "SOURCE: KEY = VALUE: what is allowed".
func (e *KeyError) Error() string {
	var b strings.Builder
	if e.Source != "" {
		b.WriteString(e.Source + ": ")
	}
	b.WriteString(e.Key)
	if e.Value != "" {
		b.WriteString(" = " + e.Value)
	}
	return b.String() + ": " + e.Allowed
}

// ErrNewer is wrapped by the error about a file of a newer version.
var ErrNewer = errors.New("made by a newer talka: update this one")

// keys are the keys of all settings, in their order.
func keys() (all []string) {
	for _, s := range settings() {
		all = append(all, s.key)
	}
	return all
}

// variable is the name of a key's environment variable.
func variable(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// unknown is the error about a key that is none, with the nearest that is one.
func unknown(source, key string, known []string) *KeyError {
	allowed := "no such setting"
	if near := nearest(key, known); near != "" {
		allowed += ", do you mean " + near + "?"
	}
	return &KeyError{Source: source, Key: clip(key), Allowed: allowed}
}

// nearest is the known key with the fewest edits to the given one, "" if none
// is near. A part of a dotted key is near to the whole.
func nearest(key string, known []string) string {
	if len(key) > 100 {
		return ""
	}
	best, least := "", max(2, len(key)/3)+1
	for _, k := range known {
		d := distance(strings.ToLower(key), strings.ToLower(k))
		if strings.HasPrefix(k, key+".") || strings.HasPrefix(key, k+".") || strings.HasSuffix(k, "."+key) {
			d = 0
		}
		if d < least {
			best, least = k, d
		}
	}
	return best
}

// distance is the number of inserted, deleted and replaced bytes between two
// texts (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// show is a value as a file has it, shortened.
func show(v any) string {
	switch v := v.(type) {
	case string:
		return clip(fmt.Sprintf("%q", v))
	case []string:
		quoted := make([]string, len(v))
		for i, s := range v {
			quoted[i] = fmt.Sprintf("%q", s)
		}
		return clip("[" + strings.Join(quoted, ", ") + "]")
	case []any:
		return fmt.Sprintf("a list of %d items", len(v))
	case map[string]any:
		return "a table"
	}
	return clip(fmt.Sprint(v))
}

// clip shortens a text from a source for an error.
func clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// maxProblems is how many errors are shown at once.
const maxProblems = 20

// problems collects errors, those beyond maxProblems by number only.
type problems struct {
	all  []error
	more int
}

func (p *problems) add(err error) {
	if len(p.all) >= maxProblems {
		p.more++
		return
	}
	p.all = append(p.all, err)
}

func (p *problems) err() error {
	if p.more > 0 {
		return errors.Join(append(p.all, fmt.Errorf("and %d more", p.more))...)
	}
	return errors.Join(p.all...)
}
