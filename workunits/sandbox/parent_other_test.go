//go:build !linux

package sandbox

import (
	"errors"
	"io"
)

func parentMain(string, string, string, bool) error { return errors.ErrUnsupported }

func planted(bool, bool, string, string) int { return 2 }

func glutton(string, io.Reader, io.Writer) int { return 1 }

func poor(uint64) error { return errors.ErrUnsupported }

func groupedMain(string) error { return errors.ErrUnsupported }
