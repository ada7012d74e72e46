// Package lawsim plays a job at the level of the audit law: who executes a copy
// of which unit with which result, and what the law makes of it. No bytes, no
// messages, no clock; a run of a million copies takes a second or two, which is what
// measuring one wrong result in ten thousand takes.
//
// Volunteers are equally fast and take turns in a random order. Twice as many
// units as volunteers are on offer; each volunteer takes a random one that wants
// a copy and that it has no part in. Copies of a unit follow one another, and
// whoever executes sees neither their number nor their results before the unit
// is decided. A volunteer that is proven wrong comes again as a newcomer after
// it has paid for an identity, if it comes again at all.
//
// What decides is a Scheme. Light applies verdict's Law with little bookkeeping
// of stakes, burns and backtracking; the others are baselines. The adversary's
// strategies are in Adversary; Search goes through them for the worst, Table runs
// the worst found.
//
// The model has limits: one coalition, no latency, sound draws. Rates of wrong
// results in long lives rest on few identities and vary by a third from seed to
// seed.
package lawsim
