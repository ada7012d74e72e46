package verdict

// Side is one digest's support in a dispute.
type Side struct {
	Copies int     // that follow one another
	Most   float64 // largest stake among its volunteers, in units
}

// Doubt is the chance that colluders of this number and stake agreed on a wrong
// digest.
func (l Law) Doubt(s Side) float64 { return l.doubt(support{s.Copies, s.Most}) }

// Settles is Decides for those who have no Book.
func (l Law) Settles(winner, second Side) bool {
	return l.Decides(support{winner.Copies, winner.Most}, support{second.Copies, second.Most})
}
