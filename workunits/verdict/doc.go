// Package verdict says what a job's ledger implies: which units are accepted,
// with which result, who was proven wrong, and what each unit still needs.
//
// It is a pure function over the set of statements: any order of arrival that
// keeps each log's own, and any duplication, gives the same verdicts, byte for
// byte (see [Book.Digest]). A Book reads statements as they come and works out
// only the units that they touch; it reads no clock and trusts no statement
// further than its author's part in the job allows.
//
// # Copies
//
// A copy counts if its grant came from a listed steward for just that volunteer
// and unit. One copy follows another if its grantor's log holds the receipt of
// the other's commit before the grant; hash chains make that order binding.
// Agreeing copies support a result as far as they follow one another; those that
// do not count together as one, the one that was received first: the draws on a
// late or spare copy are no second chance. A result is accepted when its support is enough
// under the law, the draws are in the ledger, and enough stewards keep it.
//
// A steward that gives a grant up after it receipted the commit says that nothing
// more is to be had of that copy: unless it is open it counts for nothing, and an
// agreed result whose copies are all given up wants another copy that has it.
//
// # The law
//
// Somebody controls at most a share f of the volunteers (Policy.Share) and may
// have them all state one wrong result. The first committer of a unit cannot know
// who checks it, if anyone, since the next copy is drawn only after its commit.
// If each of its wrong commits is missed with chance d, c of them all survive
// with chance d^c, and if one is found all of its units reopen (but see below):
// c*d^c are expected to survive. A volunteer with stake n, the number of its accepted
// copies, may leave at most x = eps*(n+J)/f of them: then over all volunteers at
// most a share eps of the units is wrong. J is what an identity costs, in units.
// The largest d for which no c leaves more is
//
//	delta(x) = min over c >= 1 of (x/c)^(1/c)
//
// If m copies agree, the others were colluders with chance f^(m-1), and a further
// copy with chance q finds the fraud unless it is a colluder's, too: it is missed
// with f^(m-1)*(1-q*(1-f)). Solved for q, and in the same way for the group's
// stake S, all of which one burn loses:
//
//	q = min{ [1-delta(eps*(n1+J)/f)/f^(m-1)]/(1-f), [1-delta(eps*(S+m*J)/f)]/(1-f) }
//
// clamped to [0,1], and 1 from 0.8 on. Policy.MaxAgree caps m; a capped job can
// vouch for less, see [Book.Bound]. The cap is one higher for a first committer
// that is poor among the others, see [Law.Copies]: where all are newcomers two
// copies must do, but later nobody profits from coming, lying once and leaving.
// eps is half of the error that the job asks for, since the accepted wrong rate
// is at most eps times the copies per unit. The form q ~ C/n is that of BOINC's
// adaptive replication (Anderson, with C = 1); backtracking is blacklisting as in
// Sarmenta's credibility-based fault tolerance (2002); hidden sequential checks are
// Golle and Mironov's, and Szajda's (2005).
//
// # What a burn takes back
//
// If it took back everything, who lies at the end of a long honest life would have
// all of that done again by others. But each copy before the first one that another
// contradicts was as likely to be checked as that was. Of those a share r = 0.15
// counts no more, by lot. What was committed with the contradicted copy, shortly
// before it (a sixteenth of the log up to there) or later counts nowhere, nor does the
// word of several who were burned where nobody else agrees. Where what is done again
// shows an earlier lie, that copy is the first. The lots are the draws on the first
// contradicted copy: when an earlier one was committed nobody knew them, nor that
// they would be asked. So of j lies that were missed those stay that come before the
// first found, at most sum over k <= j of (1-r)^k of them. Who sees of each lie
// whether it was missed before it dares the next, and stops when it likes, is left
// with V(0) of them, where
//
//	V(j) = max{ j, d*V(j+1) + (1-d)*[(1-r) + ... + (1-r)^j] }
//
// With d up to r/(1+r) that is d, as before, and never more than 1.67*x. So whose x is
// more than r/(1+r) is allowed the half of it, and a stake leaves no more than the
// law says. The worst found in simulations leaves a quarter of the error that the job
// asks for on average.
//
// # Whom to ask
//
// What colluders can still do is make work: earn, be burned, and come again, so
// that their copies come to nothing and others check them meanwhile. Whoever is
// poor among others begins units that cost as many other copies without it. So
// stewards give the poor at most half of f of the further copies, as there are
// colluders among the others, too (see [Law.Checks]). Units of which results are open
// they leave to those who have something to lose: of these fewer decide a dispute, and
// newcomers in league with the burned could bear them out against a veteran. And once
// burned copies are more than a share of the accepted units, the poor get no first ones
// (see [Law.Begins]). Where honest volunteers come and go nobody is burned, and nobody
// held back. No verdict depends on this, and it binds only while others want work.
//
// # Checks that may wait
//
// A draw asks for a check by what its volunteer has at stake then, and that grows. So a
// copy that is alone is judged by the most that was told of its volunteer since; much
// of what the draws would have checked then is enough later. That gives nothing away:
// what is missed is missed as a lie of then would be, with as much to lose, and what the
// law allows the stake of then bounds all of it. So where the draw would ask for nothing
// at four times the stake, stewards leave the further copy for when there are no units
// that nobody began (see [Book.Waits]). In long lives that saves two in five further
// copies. The price is that such a unit is accepted later, and a lie in it found later.
//
// # Whose stakes decide
//
// Stakes grow while a job runs. If each verdict used what is known of them now,
// every late statement could reopen units far away. So a draw names a head: the
// list of logs that its author held and the credit of each log's author in them,
// stated before the draw in the same log and by another listed steward anywhere
// (the publisher needs no second). A decision takes the stakes of the heads that
// the draws on its last copy name, for each volunteer the lowest; with no such
// head only what the manifest's standing brings, at most Policy.HistoryCap. Of a copy
// that is alone later heads of the same stewards count as well, the highest of each, so
// that more statements only ever make enough of it. Heads are fixed by hashes, and none
// can cover itself or a draw that names it, so there is no circle; and only a burn, or a
// draw that asks for a copy, reopens a unit. Two stewards that lie together could tell
// false stakes: [FalseHeads] finds them.
//
// Stakes count nominal time, so that cheap units buy no trust for dear ones: a
// standing tells milliseconds, and Manifest.Nominal milliseconds are one unit.
// Who withholds a commit that two stewards receipted has no stake: withholding
// what speaks against one never pays.
//
// # Draws
//
// Whether a further copy is made is decided by values that stewards fixed before
// they knew the commit: each receipt takes the next value of a hash chain, whose
// end stands in the log before it, in the identity or in the receipt of the last
// value of the chain before. The publisher's value decides alone, else each pair of
// two stewards' does, any of which may ask for a copy. A steward that sees others'
// values first could show its own only where that asks for nothing. So a draw names
// the steward whose value it goes with: the unit waits for that, and wants another
// copy where the publisher or two other stewards say that it does not come. Nothing
// is accepted on one steward's values but the publisher's.
//
// # Disputes
//
// Where results differ the publisher's copy decides, else one of a volunteer that
// it trusts, else the doubt of each side (see [Law.Decides]).
//
// A volunteer on the losing side is burned: its copies count for nothing, but for
// what the burn spares, and units left without enough support reopen. It may go on:
// copies granted after a fault of its in the grantor's log belong to a new life, which
// has no stake and did not pay for an identity. The third strike closes the identity;
// strikes of the standing count.
//
// Where a lie was found or a burn reopened a unit its results are open, and a further
// copy is blind only to who cannot read them: volunteers are shown no log but their
// own until the job is over, and stewards give each other no such unit while others
// ask for work. Colluders may well read them, and know of each other's copies
// anyway; that much the figures take for granted. What is left is who works for
// nobody but in league with a steward: it may repeat an open result unexecuted, at
// most once for each copy that a burn has undone, and so earns no more than others
// have lost.
//
// # Architectures
//
// NaNs have other bits elsewhere, so a difference along architecture is no lie and
// burns nobody. Just that would be an excuse for lies: who says to be on another
// architecture than everybody else could try again and again. So copies that cannot
// be held against each other do not check each other, either. Of a unit those of one
// platform count: canonical ones wherever they were made, or plain ones on the
// publisher's architecture (see Book.platform); plain ones from elsewhere count for
// nothing but where nothing is verified or the publisher trusts their volunteer.
// Stewards have units begun on platforms that most volunteers can check, since
// the share f is of those who can.
//
// # Comparators
//
// Under a comparator other than bytes, results agree if comparisons say so: of
// the publisher, or of as many stewards as must keep a result. Each result is
// compared with the first one, never in a chain; until the answer is in, the unit
// waits (see [Unit.Compare]).
//
// # Failure
//
// A unit fails once as many of its grants came back void as the job's tries, of one
// steward's at most one more than of all others'. The publisher may have it tried
// again: each of its statements that names the unit allows as many more. That takes
// nothing from any verdict with a result, and no order of the statements matters.
//
// # The second stage
//
// The second stage of a job is one more unit. It opens once all others are
// accepted, fails while one of them has failed, and copies of it count only if
// their grant names the results that are accepted now: where an input reopens,
// earlier copies are void. Of one set of inputs there is one result: who stated
// another is burned, whatever becomes of the inputs.
//
// A Book belongs to one goroutine; questions may work verdicts out.
package verdict
