//go:build !linux

package sandbox

import "errors"

// groups are not to be had here.
type groups struct{}

func openGroups() (*groups, error) { return nil, errors.ErrUnsupported }

func (*groups) add(int) (*group, error) { return nil, nil } //nolint:nilnil // there are none

type group struct{}

func (*group) allow(uint64) error { return nil }

func (*group) starved() bool { return false }

func (*group) remove() {}

// Grouped tells whether a node's process has groups for its children.
func Grouped(int) bool { return false }
