//go:build !linux

package chunkstore

// syncAll is for systems that can sync a whole file system and tell errors.
func syncAll(string) (done bool, err error) { return false, nil }
