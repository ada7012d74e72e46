package sandbox

import (
	"runtime"

	"golang.org/x/sys/cpu"
)

// Platform names what honest copies of a unit may differ by, unless NaNs are
// canonical: the bits of a NaN. They follow the processor; where two NaNs meet, the
// engine, which chooses the one that comes first; and on amd64 whether the processor
// rounds by itself (SSE 4.1) or a library does. Machines of one platform give the
// same bytes.
func Platform(engine string) string {
	name := runtime.GOARCH
	if engine != Wasmtime {
		name += "-" + engine
	}
	if runtime.GOARCH == "amd64" && !cpu.X86.HasSSE41 {
		name += "-sse3"
	}
	return name
}
