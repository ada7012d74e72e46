// Command sim runs the simulator of the audit law.
//
//	sim -seed 7           one run, drawn from the seed
//	sim -seed 7 -table    the table by which the law is judged
//	sim -seed 7 -crowds  bytes a volunteer and copy, of 100 to 10,000 volunteers
//	sim -seed 7 -search   every strategy against cap-2, the worst last
//	sim -backend book     nodes' own verdicts, in a small run, beside the fast model
//
// Each run prints one JSON object on a line of its own, and the last line of
// output is such an object; figures with their aims follow the table. Equal flags print equal lines. -law text takes the
// arithmetic as the design states it in place of the one that nodes use.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"

	"github.com/talka-grid/talka/grid/gridtest"
	"github.com/talka-grid/talka/grid/gridtest/lawsim"
	"github.com/talka-grid/talka/workunits/verdict/oracle"
)

func main() {
	seed := flag.Uint64("seed", 1, "what every random choice comes from")
	table := flag.Bool("table", false, "print the table")
	search := flag.Bool("search", false, "search for the worst strategies")
	law := flag.String("law", "nodes", "whose arithmetic: nodes or text")
	crowds := flag.Bool("crowds", false, "measure bytes a copy with 100, 1,000 and 10,000 volunteers")
	backend := flag.String("backend", "", "book: let nodes' own verdicts decide, in a small run, and hold the fast model against them")
	flag.Parse()
	if flag.NArg() > 0 || *law != "nodes" && *law != "text" || *table && *search || *backend != "" && *backend != lawsim.BackendBook {
		flag.Usage()
		os.Exit(2)
	}
	run := func(c lawsim.Config) lawsim.Line {
		if *law == "text" {
			c.Law = textLaw(c.Scheme)
		}
		return lawsim.Run(c).Line(c)
	}
	switch {
	case *backend != "":
		os.Exit(checked(*seed, *table))
	case *crowds:
		os.Exit(flat(*seed))
	case *table:
		tabulate(run, *seed)
	case *search:
		worst(run, *seed)
	default:
		explain(run(drawn(*seed)))
	}
}

// tabulate prints the table and then the figures by which it is judged.
func tabulate(run func(lawsim.Config) lawsim.Line, seed uint64) {
	var rows []lawsim.Row
	for _, c := range lawsim.Table(seed) {
		l := run(c)
		rows = append(rows, lawsim.Row{Config: c, Line: l})
		fmt.Println(l)
	}
	for _, f := range lawsim.Figures(rows) {
		fmt.Println(f)
	}
}

// flat measures what volunteers send and get for a copy in crowds of different
// sizes, with all the machines and codecs of nodes. A job's ledger has at most
// workunits.MaxAuthors authors.
func flat(seed uint64) (code int) {
	var least, most float64
	for _, volunteers := range []int{100, 1000, 10000} {
		w, err := gridtest.Crowd(seed, volunteers, 5*volunteers)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%d volunteers: %v\n", volunteers, err)
			return 1
		}
		b := w.BytesPerCopy()
		fmt.Println(lawsim.Figure{Name: fmt.Sprintf("bytes a volunteer and copy, of %d volunteers", volunteers), Value: b, Met: true})
		if least == 0 || b < least {
			least = b
		}
		most = max(most, b)
	}
	fmt.Println(lawsim.AtMost("bytes a volunteer and copy: most to least", most/least, 1.2))
	return 0
}

// checked plays the seed's run, or small versions of the table's, with nodes' own
// verdicts and with the fast model, and prints both where they differ.
func checked(seed uint64, table bool) (code int) {
	list := []lawsim.Config{drawn(seed)}
	if table {
		list = lawsim.Table(seed)
	}
	for _, c := range list {
		if c.Scheme != "cap-2" && c.Scheme != "strict" {
			continue
		}
		c.Volunteers, c.Units = 50, 1000
		c.Backend = lawsim.BackendBook
		rng := c.Source()
		b := lawsim.NewScheme(c, rng).(*lawsim.Book)
		book := lawsim.Play(c, b, rng).Line(c)
		c.Backend = lawsim.BackendLight
		light := lawsim.Run(c).Line(c)
		switch {
		case book == light:
		case b.TakenBack > 0: // which the fast model does not know of
			fmt.Println(light)
		default:
			code = 1
			fmt.Fprintf(os.Stderr, "the fast model differs: %s\n", light)
		}
		fmt.Println(book)
	}
	return code
}

func textLaw(scheme string) lawsim.Law {
	if scheme == "cap-2" {
		return oracle.Of(lawsim.Policy(2))
	}
	return oracle.Of(lawsim.Policy(0))
}

// drawn is the run of a seed: a world and an adversary.
func drawn(seed uint64) lawsim.Config {
	r := rand.New(rand.NewPCG(seed, 0xd0))
	c := lawsim.Cold("cap-2", lawsim.Honest)
	c.Volunteers = 100 << r.IntN(4)
	c.Units = 100_000
	if r.IntN(4) > 0 {
		all := lawsim.Strategies(2 * c.Units / c.Volunteers)
		c.Adversary, c.Share = all[r.IntN(len(all))], 0.2
		a := c.Adversary
		c.Adversary.Name = fmt.Sprintf("start %d, cheat %g, cheats %d, joiners %g, re-entry %t, flee %t", a.Start, a.Cheat, a.Cheats, a.Joiners, a.Reenter, a.Flee)
	}
	c.Name, c.Seed = "drawn", seed
	return c
}

func explain(l lawsim.Line) {
	fmt.Printf("seed %d: %d volunteers, %d units, %g of them colluding (%s)\n", l.Seed, l.Volunteers, l.Units, l.Share, l.Adversary)
	fmt.Printf("executions per unit   %.3f\nwrong accepted        %.2g of the units\nfalse burns           %.2f per million honest copies\n", l.CopiesPerUnit, l.Wrong, l.FalseBurns)
	fmt.Printf("completed             %.4f of the units in %d turns\na newcomer's first    accepted after %.1f turns\nledger                %.0f bytes a copy, %.0f bytes a volunteer\n", l.Completed, l.Turns, l.FirstAccepted, l.BytesPerCopy,
		l.BytesPerCopy*l.CopiesPerUnit*float64(l.Units)/float64(l.Volunteers))
	fmt.Printf("replay with: make sim SEED=%d\n%s\n", l.Seed, l)
}

// finalists is how many strategies are run again with other seeds: the worst of
// a thousand single runs is partly luck.
const finalists = 12

// worst prints the strategies with the most wrong results and those that cost
// the most copies, cold and long, each judged over several seeds.
func worst(run func(lawsim.Config) lawsim.Line, seed uint64) {
	for _, world := range []func(string, lawsim.Adversary) lawsim.Config{lawsim.Cold, lawsim.Long} {
		c := world("cap-2", lawsim.Honest)
		var all []tried
		for _, a := range lawsim.Strategies(int(1.2 * float64(c.Units/c.Volunteers))) {
			all = append(all, tried{config: world("cap-2", a)})
		}
		measure(run, all, seed, 1)
		for _, by := range []func(x, y tried) int{
			func(x, y tried) int { return cmp.Compare(y.wrong, x.wrong) },
			func(x, y tried) int { return cmp.Compare(y.copies, x.copies) },
		} {
			slices.SortStableFunc(all, by)
			last := slices.Clone(all[:finalists])
			measure(run, last, seed+1, 6)
			slices.SortStableFunc(last, by)
			slices.Reverse(last)
			for _, t := range last {
				fmt.Printf("wrong %.2g copies %.3f false burns %.1f: %+v\n", t.wrong, t.copies, t.burns, t.config.Adversary)
			}
			top := last[len(last)-1].config
			top.Seed = seed
			fmt.Println(run(top))
		}
	}
}

// tried is a strategy with the means of its runs.
type tried struct {
	config               lawsim.Config
	wrong, copies, burns float64
}

// measure runs every strategy with so many seeds, on two cores.
func measure(run func(lawsim.Config) lawsim.Line, all []tried, seed uint64, seeds int) {
	var wait sync.WaitGroup
	for half := range 2 {
		wait.Go(func() {
			for i := half; i < len(all); i += 2 {
				t := &all[i]
				t.wrong, t.copies, t.burns = 0, 0, 0
				for s := range seeds {
					c := t.config
					c.Seed = seed + uint64(s)
					l := run(c)
					t.wrong += l.Wrong / float64(seeds)
					t.copies += l.CopiesPerUnit / float64(seeds)
					t.burns += l.FalseBurns / float64(seeds)
				}
			}
		})
	}
	wait.Wait()
}
