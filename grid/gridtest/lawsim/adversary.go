package lawsim

// Adversary is how the colluding volunteers go about it. They know of each
// other's copies, agree on one wrong result for a unit, and never differ among
// themselves; of others' copies they know what is open to everybody.
type Adversary struct {
	Name    string
	Start   int     // copies that an identity executes honestly before it begins to cheat
	Cheat   float64 // chance to begin a cheat on a unit that none of them answered
	Cheats  int     // that one identity begins; 0 for no limit
	Joiners float64 // share of them that begin no cheat and only join
	Reenter bool    // come again under a new identity when proven wrong
	Flee    bool    // answer rightly in a dispute that others began to lose
	// Leave has an identity that dared its Cheats walk away and come again as a
	// newcomer, at the price of one, instead of staying until it is caught.
	Leave bool
	// Last has an identity that came so far lie from then on, whatever it has dared.
	Last int
	// Errors makes them no coalition: each copy is wrong with this chance, in its
	// own way.
	Errors float64
}

// answer is the result that a volunteer gives for a unit.
func (w *World) answer(i, u int) Digest {
	v, a := &w.people[i], w.c.Adversary
	switch {
	case !v.bad:
		return Right
	case a.Errors > 0:
		if w.rng.Float64() < a.Errors {
			return Own + Digest(w.report.Executed)
		}
		return Right
	}
	if wrong, ours := w.wrong[u]; ours {
		if wrong && (!a.Flee || !w.scheme.Shown(u)) {
			return Agreed
		}
		return Right
	}
	dares := v.done >= a.Start && (a.Cheats == 0 || v.cheats < a.Cheats) && w.rng.Float64() < a.Cheat
	cheat := !w.scheme.Shown(u) && !v.joiner && (dares || a.Last > 0 && v.done >= a.Last)
	w.wrong[u] = cheat
	if !cheat {
		return Right
	}
	v.cheats++
	return Agreed
}
