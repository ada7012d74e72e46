package lawsim

// Strategies lists the adversary's strategies for identities that live for so
// many copies: when to begin, how often, how much one identity dares, how many
// only join, whether to lie always in the end, to come again, to flee from disputes,
// to leave before being caught.
func Strategies(life int) (list []Adversary) {
	for _, start := range []float64{0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9} {
		for _, cheat := range []float64{1, 0.3, 0.1, 0.03, 0.01} {
			for _, cheats := range []int{0, 1, 2, 4, 9, 16} {
				a := Adversary{Name: "searched", Start: int(start * float64(life)), Cheat: cheat, Cheats: cheats}
				list = append(list, a.ways()...)
				a.Joiners = 0.5
				list = append(list, a.ways()...)
				if a.Joiners, a.Last = 0, int(0.85*float64(life)); cheats > 0 && a.Start < a.Last {
					list = append(list, a.ways()...)
				}
			}
		}
	}
	return list
}

// ways lists a strategy with and without coming again, fleeing, leaving.
func (a Adversary) ways() (list []Adversary) {
	for i := range 8 {
		b := a
		b.Reenter, b.Flee, b.Leave = i&1 > 0, i&2 > 0, i&4 > 0
		if !b.Leave || b.Reenter && b.Cheats > 0 {
			list = append(list, b)
		}
	}
	return list
}
