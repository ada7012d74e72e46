// Package tray shows Talka in the desktop's tray: an icon that tells the state by
// colour and by shape, and a menu.
//
// The tray is that of StatusNotifierItem on Linux and its kin, and of Windows. On
// macOS it needs cgo; a build without says so ([ErrNone]).
package tray

import (
	"errors"
)

// ErrNone is returned by Run where this build has no tray.
var ErrNone = errors.New("this build has no tray: on macOS it needs cgo")

// Face is what the icon tells.
type Face int

// The faces.
const (
	Lost    Face = iota // no node answers
	Waiting             // it could work
	Paused
	Working
)

// Action is what was chosen in the menu.
type Action int

// The actions.
const (
	Open Action = iota
	Start
	Resume
	PauseHalfHour
	PauseTwoHours
	PauseTomorrow
	PauseSave
	PauseFinish
	PauseOpen
	Quit
	actions
)

// View is what the tray shows.
type View struct {
	Face  Face
	Tip   string // beside the icon, and in the menu's first line
	Offer []Action
}

// Labels are the menu's texts: one for each action, and the title of those that
// pause.
type Labels struct {
	Of    [actions]string
	Pause string
}
