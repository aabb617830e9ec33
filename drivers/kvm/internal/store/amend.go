//go:build linux

package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Amend is Redefine for a change of a part, which is announced as what it is. A
// definition with another name is announced as renamed in any case.
func (s *Store) Amend(ctx context.Context, d Definition, what EventType) error {
	if err := d.validate(); err != nil {
		return err
	}
	lk, err := s.lockStore(ctx)
	if err != nil {
		return err
	}
	defer lk.Unlock()
	dir := s.DomainDir(d.UUID)
	if _, err := os.Lstat(filepath.Join(dir, definitionFile)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("redefine %s: %w", d.UUID, ErrNotFound)
	} else if err != nil {
		return fmt.Errorf("redefine %q: %w", d.Name, err)
	}
	if err := s.checkUnique(d.Name, d.UUID, true); err != nil {
		return err
	}
	// A damaged definition may be replaced; it has no name to have been changed.
	if old, err := s.Definition(d.UUID); err == nil && old.Name != d.Name {
		what = EventRenamed
	}
	if err := s.writeDefinition(dir, d); err != nil {
		return fmt.Errorf("redefine %q: %w", d.Name, err)
	}
	s.announce(Event{Type: what, Name: d.Name, UUID: d.UUID})
	return nil
}

// AmendRun replaces the configuration that a run tells about itself. The caller
// holds the domain's operation lock, so that no other run begins. run.json is the
// VM process's until it says started, and of the holder of the store lock from
// then on; before that the error is [ErrStarting]. A run that has ended is
// ErrNotFound.
func (s *Store) AmendRun(ctx context.Context, u UUID, config json.RawMessage, what EventType) error {
	if !json.Valid(config) {
		return errors.New("the config of a run must be valid JSON")
	}
	lk, err := s.lockStore(ctx)
	if err != nil {
		return err
	}
	defer lk.Unlock()
	a, err := s.ActiveByUUID(u)
	if err != nil {
		return err
	}
	if !a.Started {
		return fmt.Errorf("domain %q: %w", a.Name, ErrStarting)
	}
	a.Config = config
	r := Run{Active: a}
	if err := r.write(a.Dir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("active domain %s: %w", u, ErrNotFound) // it has just stopped
	} else if err != nil {
		return fmt.Errorf("domain %q: %w", a.Name, err)
	}
	if what != "" {
		s.announce(Event{Type: what, Name: a.Name, UUID: u})
	}
	return nil
}
