package lawsim

// Cold is a job of newcomers: 1,000 volunteers and 100 units for each of them.
func Cold(scheme string, a Adversary) Config {
	c := Config{Name: "cold", Volunteers: 1000, Units: 100_000, Scheme: scheme, Price: 10, Adversary: a}
	return c.against(a)
}

// Long is a job of long lives: 100 volunteers and 10,000 units for each of them.
func Long(scheme string, a Adversary) Config {
	c := Config{Name: "long", Volunteers: 100, Units: 1_000_000, Scheme: scheme, Price: 10, Adversary: a}
	return c.against(a)
}

// against gives the adversary its fifth of the volunteers.
func (c Config) against(a Adversary) Config {
	if a.Name != Honest.Name {
		c.Share = 0.2
	}
	return c
}

// The adversaries of the tables. The worst and the dearest are what Search found
// against cap-2: most wrong results, most copies. The worst stay until they are
// caught; Leavers take one wrong result and come again as newcomers, which is what
// a cap that held for everybody could not stop.
var (
	Honest  = Adversary{Name: "honest"}
	Errors  = Adversary{Name: "errors 1%", Errors: 0.01}
	Always  = Adversary{Name: "always", Cheat: 1}
	Spam    = Adversary{Name: "always, re-entry", Cheat: 1, Reenter: true}
	Leavers = Adversary{Name: "leavers", Cheat: 1, Cheats: 1, Joiners: 0.5, Reenter: true, Flee: true, Leave: true}
	Sleeper = Adversary{Name: "sleepers", Cheat: 1, Cheats: 1, Joiners: 0.5, Flee: true}

	ColdWorst   = Adversary{Name: "worst, re-entry", Start: 84, Cheat: 0.1, Cheats: 1, Joiners: 0.5, Reenter: true, Leave: true}
	ColdDearest = Adversary{Name: "dearest", Start: 108, Cheat: 0.03, Cheats: 1}
	LongWorst   = Adversary{Name: "worst, re-entry", Start: 3450, Cheat: 0.3, Cheats: 9, Reenter: true, Flee: true}
	LongDearest = Adversary{Name: "dearest", Start: 3450, Cheat: 0.3, Cheats: 1, Reenter: true, Flee: true, Last: 10_000}

	// LongMiddle and LongLate lie often after half of a long life, and at its end alone.
	LongMiddle = Adversary{Name: "middle", Start: 5750, Cheat: 0.1, Cheats: 16, Reenter: true, Flee: true}
	LongLate   = Adversary{Name: "late", Start: 10_800, Cheat: 0.01}

	// Burners come again and again, half of them only to agree, and have everybody
	// who checked them do so for nothing.
	ColdBurners = Adversary{Name: "burners", Cheat: 1, Cheats: 1, Joiners: 0.5, Reenter: true, Flee: true}
	LongBurners = Adversary{Name: "burners", Cheat: 0.01, Joiners: 0.5, Reenter: true, Flee: true}

	// Patient ones work for a while first. In long lives nothing keeps them below
	// eps: each takes what the law lets its stake risk, and goes.
	ColdPatient = Adversary{Name: "patient leavers", Start: 17, Cheat: 0.1, Cheats: 1, Joiners: 0.5, Reenter: true, Flee: true, Leave: true}
	LongPatient = Adversary{Name: "patient leavers", Start: 1100, Cheat: 1, Cheats: 1, Reenter: true, Flee: true, Leave: true}
)

// Table is the runs by which the law is judged. Those of long lives with the most wrong
// results are in it more than once, each with a seed of its own: what is left there
// rests on few identities.
func Table(seed uint64) []Config {
	list := []Config{
		Cold("cap-2", Honest), Cold("cap-2", Errors), Cold("cap-2", Always), Cold("cap-2", Spam), Cold("cap-2", ColdWorst), Cold("cap-2", ColdDearest), Cold("cap-2", ColdBurners), Cold("cap-2", Leavers), Cold("cap-2", ColdPatient),
		Cold("strict", Honest), Cold("strict", ColdWorst), Cold("strict", Leavers),
		Cold("boinc", Honest), Cold("boinc", Always), Cold("2-of-2", Honest), Cold("2-of-2", Always), Cold("3-of-5", Always),
		Long("cap-2", Honest), Long("cap-2", Errors), Long("cap-2", Always), Long("cap-2", Spam), Long("cap-2", LongWorst), Long("cap-2", LongDearest), Long("cap-2", LongMiddle), Long("cap-2", LongLate), Long("cap-2", LongBurners), Long("cap-2", Leavers), Long("cap-2", LongPatient),
		Long("strict", Honest), Long("strict", LongWorst), Long("strict", Leavers), Long("strict", LongPatient),
		Long("boinc", Honest), Long("boinc", Always),
	}
	list = append(list, Special()...)
	for i := range list {
		list[i].Seed = seed
	}
	for again := range uint64(3) {
		for _, a := range []Adversary{LongWorst, LongMiddle} {
			c := Long("cap-2", a)
			c.Seed = seed + (again+1)<<32
			list = append(list, c)
		}
	}
	return list
}

// Special are worlds of their own.
func Special() []Config {
	assassins := Cold("cap-2", Spam)
	assassins.Name, assassins.History = "veterans assassinated", 10_000

	crowd := Cold("cap-2", Spam)
	crowd.Name, crowd.Share, crowd.History = "sybil crowd", 0.9, 1000

	sleepers := Cold("cap-2", Sleeper)
	sleepers.Name, sleepers.History, sleepers.Past = "sleepers", 10_000, 10_000
	capped := sleepers
	capped.Name, capped.HistoryCap = "sleepers, history_cap 1000", 1000

	farmed := Cold("cap-2", Sleeper)
	farmed.Name, farmed.Past = "farmed credit, standing named", 10_000

	ringers := Cold("cap-2", ColdWorst)
	ringers.Name, ringers.Ringers = "ringers 5%", 0.05

	// A turn is a minute: three in ten leave within the hour.
	churn := Cold("cap-2", Honest)
	churn.Name, churn.Churn = "churn 30 % an hour", 0.3/60
	churned := Cold("cap-2", ColdWorst)
	churned.Name, churned.Churn = churn.Name, churn.Churn
	late := Long("cap-2", Honest)
	late.Name, late.Churn = "long, churn 30 % a thousand copies", 0.3/1000
	return []Config{assassins, crowd, sleepers, capped, farmed, ringers, churn, churned, late}
}
