package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/talka-grid/talka/grid/api"
)

// Exit codes. They are stable: scripts rely on them.
const (
	exitOK          = 0
	exitError       = 1
	exitUsage       = 2 // the command line, or a file of the user, is wrong
	exitPartial     = 3 // some of what was asked for is not there yet
	exitFailedUnits = 4
	exitNotRunning  = 10
	exitDenied      = 11
	exitNotFound    = 12
	exitTimeout     = 13
	exitNoVolunteer = 14
	exitInterrupted = 130
)

// exitErr is an error that decides the exit code.
type exitErr struct {
	code int
	err  error
}

func (e *exitErr) Error() string { return e.err.Error() }
func (e *exitErr) Unwrap() error { return e.err }

func usage(format string, args ...any) error {
	return &exitErr{exitUsage, fmt.Errorf(format, args...)}
}

// exitCode is the exit code for an error.
func exitCode(err error) int {
	var e *exitErr
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &e):
		return e.code
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	switch api.KindOf(err) {
	case api.KindRequest:
		return exitUsage
	case api.KindNotRunning:
		return exitNotRunning
	case api.KindUnauthorised:
		return exitDenied
	case api.KindNotFound:
		return exitNotFound
	case api.KindTimeout:
		return exitTimeout
	case api.KindNoVolunteer:
		return exitNoVolunteer
	case api.KindError, api.KindConflict, api.KindTooLarge, api.KindNoSpace:
	}
	return exitError
}
