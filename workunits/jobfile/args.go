package jobfile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/talka-grid/talka/workunits"
)

// placeholders are the names in braces in an argument, in order. A name has
// letters, digits, . - _ and begins with a letter or _; other braces stand for
// themselves.
func placeholders(arg string) []string {
	var names []string
	for {
		_, rest, found := strings.Cut(arg, "{")
		if !found {
			return names
		}
		name, _, closed := strings.Cut(rest, "}")
		if closed && isColumn(name) {
			names = append(names, name)
		}
		arg = rest
	}
}

func isColumn(s string) bool {
	for i, r := range s {
		letter := r == '_' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		if !letter && (i == 0 || r != '.' && r != '-' && (r < '0' || r > '9')) {
			return false
		}
	}
	return s != ""
}

// UnitArgs are the arguments of one unit, with the values of {unit}, {units} and
// the {column}s of its row of the table (nil without a table). Where Units.Count
// is 0, the number of units must be put there first. An error names the argument
// and what it lacks.
func (f File) UnitArgs(unit int, row map[string]string) ([]string, error) {
	if count := f.Units.Count; unit < 0 || int64(unit) >= int64(count) {
		return nil, fmt.Errorf("unit %d of a job with %d units", unit, count)
	}
	for _, column := range sortedKeys(row) {
		if !isColumn(column) || column == "unit" || column == "units" {
			return nil, fmt.Errorf("column %q: want letters, digits and . - _, a letter first, and neither unit nor units", column)
		}
	}
	for i, a := range f.Units.Args {
		for _, p := range placeholders(a) {
			if _, ok := row[p]; !ok && p != "unit" && p != "units" {
				return nil, fmt.Errorf("%s %q: unit %d has no column %q (it has %s)", element("units.args", i), a, unit, p,
					strings.Join(append([]string{"unit", "units"}, sortedKeys(row)...), ", "))
			}
		}
	}
	args := workunits.Manifest{Units: f.Units.Count, Args: f.Units.Args}.UnitArgs(uint32(unit), row)
	for i, a := range args {
		if !isArg(a) {
			return nil, fmt.Errorf("%s of unit %d: found %s; want %s", element("units.args", i), unit, describe(a), wantArg)
		}
	}
	return args, nil
}

func sortedKeys(row map[string]string) []string {
	keys := make([]string, 0, len(row))
	for k := range row {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
