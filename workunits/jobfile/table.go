package jobfile

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// table reads the values of one table of a document. Each getter takes the
// default and notes a problem where the value is not allowed.
type table struct {
	doc    *document
	name   string // empty for the top of the file
	values map[string]any
}

// schema lists the tables and their fields. Inputs and env take any.
var schema = [...]struct {
	table  string
	fields []string
}{
	{"", []string{"name", "program", "script", "numeric", "units", "inputs", "env", "limits", "verify", "keep", "reduce", "stewards"}},
	{"units", []string{"count", "table", "split", "by", "size", "args", "stdin", "time"}},
	{"inputs", nil},
	{"env", nil},
	{"limits", []string{"memory", "time", "cpu", "output", "files", "file", "calls", "log", "checkpoint", "tries"}},
	{"verify", []string{"mode", "error", "share", "compare", "comparator", "rtol", "atol", "min_copies", "max_agree", "history_cap", "trusted", "audit"}},
	{"keep", []string{"replicas", "days"}},
	{"reduce", []string{"program", "args"}},
	{"stewards", []string{"active", "listed"}},
}

func fieldsOf(table string) []string {
	for _, s := range schema {
		if s.table == table {
			return s.fields
		}
	}
	return nil
}

// top is the table of the file's top, checked for unknown fields.
func (d *document) top() table {
	t := table{d, "", d.root}
	t.checkFields()
	return t
}

// sub is a table below t; it is empty where the file has none.
func (t table) sub(key string) table {
	s := table{t.doc, join(t.name, key), nil}
	v, ok := t.values[key]
	if !ok {
		return s
	}
	if s.values, ok = v.(map[string]any); !ok {
		want := "want a table, [" + s.name + "]"
		if fields := fieldsOf(s.name); fields != nil {
			want += ", which takes " + strings.Join(fields, ", ")
		}
		t.doc.fail(s.name, "found "+describe(v)+"; "+want)
	}
	if fieldsOf(s.name) != nil {
		s.checkFields()
	}
	return s
}

func (t table) checkFields() {
	fields := fieldsOf(t.name)
	for _, key := range t.keys() {
		if slices.Contains(fields, key) {
			continue
		}
		text := "unknown field"
		if hint := t.suggest(key); hint != "" {
			text += "; did you mean " + hint + "?"
		}
		where := "[" + t.name + "]"
		if t.name == "" {
			where = "the top of the file"
		}
		t.fail(key, text+" ("+where+" takes "+strings.Join(fields, ", ")+")")
	}
}

// hasUnknown reports whether checkFields found something, which may be what is
// missing elsewhere.
func (t table) hasUnknown() bool {
	fields := fieldsOf(t.name)
	return slices.ContainsFunc(t.keys(), func(key string) bool { return !slices.Contains(fields, key) })
}

// suggest names the field that an unknown key is meant to be: the nearest of its
// table, or one of the same name elsewhere.
func (t table) suggest(key string) string {
	best, least := "", 2+len(key)/4
	for _, f := range fieldsOf(t.name) {
		if d := distance(key, f, least); d < least {
			best, least = f, d
		}
	}
	for _, s := range schema {
		if best == "" && s.table != t.name && slices.Contains(s.fields, key) {
			if s.table == "" {
				return key + " at the top of the file, before the first [table]"
			}
			return key + " in [" + s.table + "]"
		}
	}
	return best
}

// distance is the number of letters to insert, remove or replace between a and
// b, or limit if it is not below that.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		left := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := left
			if a[i] != b[j] {
				d = 1 + min(left, row[j], row[j+1])
			}
			left, row[j+1] = row[j+1], d
		}
	}
	return min(row[len(b)], limit)
}

// keys are the table's keys, sorted.
func (t table) keys() []string {
	keys := make([]string, 0, len(t.values))
	for k := range t.values {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (t table) has(key string) bool { _, ok := t.values[key]; return ok }

func (t table) fail(key, text string) { t.doc.fail(join(t.name, key), text, t.name) }

// reject notes a value that is not allowed.
func (t table) reject(key, want string) {
	t.fail(key, "found "+describe(t.values[key])+"; want "+want)
}

// require notes a missing field.
func (t table) require(key, want string) {
	if !t.has(key) {
		t.fail(key, "missing; want "+want)
	}
}

// text reads a string that ok accepts.
func (t table) text(key, fallback, want string, ok func(string) bool) string {
	v, there := t.values[key]
	if !there {
		return fallback
	}
	s, isText := v.(string)
	if !isText || !ok(s) {
		t.reject(key, want)
		return fallback
	}
	return s
}

func (t table) choice(key, fallback string, allowed ...string) string {
	want := ""
	for i, a := range allowed {
		switch i {
		case 0:
		case len(allowed) - 1:
			want += " or "
		default:
			want += ", "
		}
		want += fmt.Sprintf("%q", a)
	}
	return t.text(key, fallback, want, func(s string) bool { return slices.Contains(allowed, s) })
}

// integer reads a whole number of low to high.
func (t table) integer(key string, fallback, low, high uint64) uint64 {
	v, there := t.values[key]
	if !there {
		return fallback
	}
	n, ok := v.(int64)
	if !ok || n < 0 || uint64(n) < low || uint64(n) > high {
		t.reject(key, fmt.Sprintf("a whole number from %d to %d", low, high))
		return fallback
	}
	return uint64(n)
}

// integer32 is integer for numbers that have 32 bits.
func (t table) integer32(key string, fallback, low, high uint32) uint32 {
	return uint32(t.integer(key, uint64(fallback), uint64(low), uint64(high)))
}

// rate reads a number between 0 and high, without the ends.
func (t table) rate(key string, fallback, high float64) float64 {
	v, there := t.values[key]
	if !there {
		return fallback
	}
	x, ok := v.(float64)
	if !ok || !(x > 0 && x < high) {
		t.reject(key, fmt.Sprintf("a number of more than 0 and less than %g, as %g", high, fallback))
		return fallback
	}
	return x
}

// tolerance reads a number of 0, which is the default, to 1e300.
func (t table) tolerance(key string) float64 {
	v, there := t.values[key]
	if whole, ok := v.(int64); ok {
		v = float64(whole)
	}
	x, ok := v.(float64)
	if there && (!ok || !(x >= 0 && x <= 1e300)) {
		t.reject(key, "a number of 0 or more, as 1e-9")
		return 0
	}
	return x
}

// size reads a number of bytes.
func (t table) size(key string, fallback, low, high uint64) uint64 {
	v, there := t.values[key]
	if !there {
		return fallback
	}
	n, ok := parseSize(v)
	if !ok || n < low || n > high {
		t.reject(key, fmt.Sprintf("a size from %s to %s, as \"256MiB\" or \"10MB\"", formatSize(low), formatSize(high)))
		return fallback
	}
	return n
}

// The limits of times.
const (
	minTime = time.Millisecond
	maxTime = 720 * time.Hour
)

// millis reads a duration.
func (t table) millis(key string, fallback uint64) uint64 {
	v, there := t.values[key]
	if !there {
		return fallback
	}
	s, _ := v.(string)
	d, err := time.ParseDuration(s)
	if err != nil || d < minTime || d > maxTime {
		t.reject(key, `a time from 1ms to 720h, as "90s", "10m" or "1h30m"`)
		return fallback
	}
	return uint64(d.Milliseconds())
}

// list reads strings, at most n of them; ok accepts each.
func (t table) list(key string, n int, want string, ok func(string) bool) []string {
	v, there := t.values[key]
	if !there {
		return nil
	}
	values, isList := v.([]any)
	if !isList || len(values) > n {
		t.reject(key, fmt.Sprintf("a list of at most %d strings", n))
		return nil
	}
	var list []string
	for i, v := range values {
		s, isText := v.(string)
		if !isText || !ok(s) {
			field := join(t.name, key)
			t.doc.fail(element(field, i), "found "+describe(v)+"; want "+want, field)
		}
		list = append(list, s)
	}
	return list
}

// describe says what a value is, in a few words.
func describe(v any) string {
	switch v := v.(type) {
	case string:
		const most = 64
		if len(v) > most {
			return fmt.Sprintf("a string of %d bytes, %q...", len(v), strings.ToValidUTF8(v[:most], ""))
		}
		return fmt.Sprintf("%q", v)
	case int64, bool:
		return fmt.Sprint(v)
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1e6 {
			return fmt.Sprintf("%.1f", v) // so that it does not look like a whole number
		}
		return fmt.Sprintf("%g", v)
	case map[string]any:
		return "a table"
	case []any:
		return fmt.Sprintf("a list of %d", len(v))
	}
	return "a date or time"
}
