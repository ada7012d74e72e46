//go:build !linux

package main

import "errors"

// freeBytes is not known here.
func freeBytes(string) (uint64, error) { return 0, errors.ErrUnsupported }

// clockState is not known here.
func clockState() (known, synchronised bool) { return false, false }
