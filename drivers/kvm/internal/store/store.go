//go:build linux

package store

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// Store is the open state of one URI. It is safe for concurrent use, and any
// number of processes may have the same store open.
type Store struct {
	paths    Paths
	lockPath string
	probe    *os.File // never holds a lock: asks for those of others

	mu    sync.Mutex // guards cache
	cache map[string]cached
}

// Open creates the directories if need be and checks that they belong to the
// calling user alone. Relative paths are made absolute.
func Open(p Paths) (*Store, error) {
	state, err := filepath.Abs(p.State)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	run, err := filepath.Abs(p.Run)
	if err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	s := &Store{
		paths:    Paths{State: state, Run: run},
		lockPath: filepath.Join(state, "lock"),
		cache:    map[string]cached{},
	}
	for _, dir := range []string{state, s.domainsDir(), run} {
		if err := ensureDir(dir); err != nil {
			return nil, err
		}
	}
	if s.probe, err = openLockFile(s.lockPath); err != nil {
		return nil, err
	}
	return s, nil
}

// Close frees the store's descriptor. Locks and runs taken from it stay.
func (s *Store) Close() error { return s.probe.Close() }

// Paths gives the absolute directories of the store.
func (s *Store) Paths() Paths { return s.paths }

func (s *Store) domainsDir() string { return filepath.Join(s.paths.State, "domains") }

// DomainDir is the state directory of a persistent domain: the place for files
// that live as long as its definition, which Undefine removes with it.
func (s *Store) DomainDir(u UUID) string { return filepath.Join(s.domainsDir(), u.String()) }

// RunDir is the run directory of an active domain.
func (s *Store) RunDir(u UUID) string { return filepath.Join(s.paths.Run, u.String()) }
