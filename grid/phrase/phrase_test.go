package phrase_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/talka-grid/talka/grid/phrase"
)

func TestPhrases(t *testing.T) {
	t.Parallel()
	one := phrase.New("hot", "it is at {heat} °C", "heat", 80)
	two := phrase.New("runs", "{name} runs {n|unit|units}", "name", "{heat}", "n", 1)
	want := []phrase.Phrase{
		{Code: "hot", With: map[string]string{"heat": "80"}, Text: "it is at 80 °C"},
		{Code: "runs", With: map[string]string{"name": "{heat}", "n": "1"}, Text: "{heat} runs 1 unit"},
	}
	if diff := cmp.Diff(want, []phrase.Phrase{one, two}); diff != "" {
		t.Error(diff)
	}
	for want, list := range map[string][]phrase.Phrase{
		"So: it is at 80 °C.":                                        {one},
		"So: it is at 80 °C and {heat} runs 1 unit.":                 {one, two},
		"So: it is at 80 °C, {heat} runs 1 unit and it is at 80 °C.": {one, two, one},
	} {
		if got := phrase.Of("so", "So: {list}.", list); got.Text != want {
			t.Errorf("%q, want %q", got.Text, want)
		}
	}
	if got := phrase.Text([]phrase.Phrase{phrase.New("a", "A.", "n", 0), phrase.New("b", "{n|b|bs}", "n", 0)}); got != "A. 0 bs" {
		t.Errorf("%q", got)
	}
}
