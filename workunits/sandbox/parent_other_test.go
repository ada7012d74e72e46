//go:build !linux

package sandbox

import "errors"

func parentMain(string, string, bool) error { return errors.ErrUnsupported }

func planted(bool, bool, string, string) int { return 2 }
