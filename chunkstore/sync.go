package chunkstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// fewFiles is how many files are synced one by one; for more the file system is
// synced as a whole, where the system can: one commit of its journal, not one
// for each file.
const fewFiles = 32

// Sync makes everything put and kept so far survive a power cut.
func (s *Store) Sync() error {
	s.syncing.Lock() // a second caller's chunks may be in the first one's hands
	defer s.syncing.Unlock()
	s.mu.Lock()
	dirty := s.dirty
	s.dirty = map[string]bool{}
	s.mu.Unlock()
	if err := s.syncFiles(dirty); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		for path, content := range dirty {
			s.dirty[path] = s.dirty[path] || content
		}
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}

func (s *Store) syncFiles(files map[string]bool) error {
	if len(files) > fewFiles {
		if done, err := syncAll(s.dir); done || err != nil {
			return err
		}
	}
	folders := map[string]bool{s.dir: true, s.folder("chunks"): true}
	for path := range files {
		folders[filepath.Dir(path)] = true
		if err := syncFile(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if len(files) == 0 {
		return nil
	}
	for folder := range folders {
		if err := syncFile(folder); err != nil {
			return err
		}
	}
	return nil
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
