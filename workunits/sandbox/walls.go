package sandbox

// Wall is one of the walls around children.
type Wall struct {
	Name   string // what children cannot do behind it
	Active bool
	Remedy string // what to do if it is not there
}
