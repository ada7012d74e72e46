// Package oracle is a naive second implementation of the verdict, against which
// verdict.Book is held. It is written from the law's text, not from the Book: it
// keeps nothing between two questions and works everything out from the set of
// statements, as slow as it likes and as plain as it can.
//
// In its words: a copy is a commit's result for one unit under a fitting grant.
// Copies count unless they are given up, of other inputs or another platform than
// those that decide, or of a life that was proven wrong; of such a life those stand
// that came well before its first copy of a unit whose results differ, but for a share
// that the draws on that one ask for, unless several such lives speak alone. A unit is accepted when
// the copies that count agree, those that follow one another are enough under the
// law, the draws and the openings are there, and enough stewards keep the result.
//
// Who is proven wrong is found in rounds: all disputes are judged with the stakes
// that the draws' heads tell, those on a losing side count for nothing from then
// on, until a round finds nobody.
package oracle
