//go:build !linux

package sandbox

// startFrom starts a child.
func (p *Pool) startFrom(_ reach, w *worker, started chan<- error) { started <- w.cmd.Start() }

func (p *Pool) stepBehind(*worker) {}

// usage is not known here: wall time bounds a program, and the engine its
// memory.
func usage(int) (u used, known bool) { return u, false }

// diskLeft is not known here.
func diskLeft(string) (bytes uint64, known bool) { return 0, false }
