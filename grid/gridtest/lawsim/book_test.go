package lawsim_test

import (
	"fmt"
	"testing"

	"github.com/talka-grid/talka/grid/gridtest/lawsim"
)

// TestBook: nodes' own verdicts give the same runs as the light scheme, copy for
// copy, whoever attacks.
func TestBook(t *testing.T) {
	t.Parallel()
	var list []lawsim.Config
	for i, a := range []lawsim.Adversary{
		lawsim.Honest, lawsim.Errors, lawsim.Always, lawsim.Spam, lawsim.Leavers, lawsim.ColdWorst,
		{Name: "late", Start: 5, Cheat: 0.3, Cheats: 2, Joiners: 0.3, Reenter: true},
		{Name: "half", Cheat: 0.5, Reenter: true, Flee: true},
	} {
		for _, scheme := range []string{"cap-2", "strict"} {
			c := lawsim.Cold(scheme, a)
			c.Seed = uint64(i)
			list = append(list, c)
			c.Name, c.Error = "loose", 2e-2 // stakes of a few copies matter
			list = append(list, c)
		}
	}
	for _, c := range lawsim.Special() {
		c.Seed = 1
		list = append(list, c)
	}
	for _, c := range list {
		t.Run(fmt.Sprint(c.Name, " ", c.Scheme, " ", c.Adversary.Name), func(t *testing.T) {
			t.Parallel()
			c.Volunteers, c.Units = 20, 300
			c.Backend = lawsim.BackendBook
			rng := c.Source()
			b := lawsim.NewScheme(c, rng).(*lawsim.Book)
			book := lawsim.Play(c, b, rng)
			c.Backend = lawsim.BackendLight
			light := lawsim.Run(c)
			if book != light && b.TakenBack == 0 || book.Accepted != light.Accepted || c.Share < 0.5 && book.Accepted < c.Units {
				t.Errorf("seed %d: the book comes to %+v, the light scheme to %+v", c.Seed, book, light)
			}
			t.Logf("%+v, %d burns taken back", book, b.TakenBack)
		})
	}
}
