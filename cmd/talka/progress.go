package main

import (
	"fmt"

	"github.com/schollz/progressbar/v3"
)

// bar shows progress on standard error if that is a terminal, else nothing. The
// zero bar shows nothing.
type bar struct{ p *progressbar.ProgressBar }

func (a *app) bytesBar(label string) bar {
	return a.newBar(label, progressbar.OptionShowBytes(true))
}

func (a *app) countBar(label string) bar {
	return a.newBar(label, progressbar.OptionShowCount())
}

func (a *app) newBar(label string, more progressbar.Option) bar {
	if !isTerminal(a.err) {
		return bar{}
	}
	return bar{progressbar.NewOptions64(-1, progressbar.OptionSetWriter(a.err), progressbar.OptionSetDescription(line(label)),
		progressbar.OptionFullWidth(), progressbar.OptionClearOnFinish(), more)}
}

// set moves the bar. A total of 0 is not known.
func (b bar) set(done, total int64) {
	if b.p == nil {
		return
	}
	if total > 0 {
		b.p.ChangeMax64(total)
	}
	_ = b.p.Set64(done) // a bar that cannot be drawn harms nothing
}

// end takes the bar off the screen.
func (b bar) end() {
	if b.p != nil {
		_ = b.p.Finish()
		_ = b.p.Clear()
	}
}

// note says something in passing, to people only.
func (a *app) note(format string, args ...any) {
	if !a.json {
		fmt.Fprintln(a.err, line(fmt.Sprintf(format, args...)))
	}
}
