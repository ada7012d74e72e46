//go:build darwin && !cgo

package tray

import "context"

// Run returns ErrNone.
func Run(context.Context, Labels, <-chan View, func(Action)) error { return ErrNone }
