//go:build !linux

package sandbox

import "errors"

func parentMain(string, string, bool) error { return errors.ErrUnsupported }
