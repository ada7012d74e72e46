package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/talka-grid/talka/workunits"
)

// clean makes hostile text safe for a screen: control and formatting characters
// (terminal escapes, reversed writing) become question marks; line breaks stay.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

// line is clean for text that must not begin a line of its own.
func line(s string) string { return strings.ReplaceAll(clean(s), "\n", " ") }

// table writes rows of cells under a heading. Cells are cleaned.
func table(w io.Writer, heading []string, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{heading}, rows...) {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			fmt.Fprint(t, line(cell))
		}
		fmt.Fprintln(t)
	}
	_ = t.Flush() // to memory
}

// fields writes name and value pairs, one a line. Values are cleaned.
func fields(w io.Writer, pairs ...string) {
	width := 0
	for i := 0; i < len(pairs); i += 2 {
		width = max(width, len(pairs[i]))
	}
	for i := 0; i < len(pairs); i += 2 {
		fmt.Fprintf(w, "%-*s  %s\n", width, pairs[i], line(pairs[i+1]))
	}
}

// size is a number of bytes as people read it.
func size(n int64) string {
	v, unit := float64(n), "B"
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if v < 1024 {
			break
		}
		v, unit = v/1024, u
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, unit)
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// who is a node's id as screens show it.
func who(n workunits.NodeID) string {
	if n.IsZero() {
		return "-"
	}
	return "…" + n.Short()
}
