package sandbox

// The walls around children.
const (
	WallCalls = "system calls" // none beyond those of an engine: no sockets, processes, tracing
	WallFiles = "files"        // none beyond those of the run
	WallAll   = "all"          // files, sockets and other processes
)

// Wall is one of the walls around children.
type Wall struct {
	Name   string
	Active bool
}
