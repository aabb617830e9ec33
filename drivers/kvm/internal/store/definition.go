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

// Format is the version of the files that this package writes. Older ones are
// read; newer ones are refused.
const Format = 1

const (
	definitionFile = "domain.json"
	maxFile        = 4 << 20 // bound on any file that is read whole
)

// Definition is a persistent domain.
type Definition struct {
	Format int             `json:"format"` // set by the store
	Name   string          `json:"name"`
	UUID   UUID            `json:"uuid"`
	Config json.RawMessage `json:"config"` // opaque here
}

func (d *Definition) validate() error {
	if err := ValidateName(d.Name); err != nil {
		return err
	}
	if d.UUID == (UUID{}) {
		return errors.New("a domain needs a UUID that is not all zero")
	}
	if !json.Valid(d.Config) {
		return errors.New("the config of a domain must be valid JSON")
	}
	return nil
}

// Define makes a new persistent domain. If another domain, persistent or active,
// has its name or its UUID, or a persistent one has both, the error is an
// [ExistsError]. An active transient domain with both becomes persistent.
func (s *Store) Define(ctx context.Context, d Definition) error {
	if err := d.validate(); err != nil {
		return err
	}
	lk, err := s.lockStore(ctx)
	if err != nil {
		return err
	}
	defer lk.Unlock()
	if err := s.checkUnique(d.Name, d.UUID, false); err != nil {
		return err
	}
	dir := s.DomainDir(d.UUID)
	if _, err := os.Lstat(filepath.Join(dir, definitionFile)); err == nil {
		return &ExistsError{Name: d.Name, UUID: d.UUID, What: "UUID"} // a damaged one
	}
	if err := removeTree(dir); err != nil { // there may be one without a definition
		return fmt.Errorf("define %q: %w", d.Name, err)
	}
	// The directory appears complete: a crash leaves a name with a dot.
	tmp, err := os.MkdirTemp(s.domainsDir(), ".new-")
	if err != nil {
		return fmt.Errorf("define %q: %w", d.Name, err)
	}
	step("mkdir " + tmp)
	err = s.writeDefinition(tmp, d)
	if err == nil {
		err = os.Rename(tmp, dir)
	}
	if err == nil {
		step("rename " + dir)
		err = syncDir(s.domainsDir())
	}
	if err != nil {
		os.RemoveAll(tmp)
		return fmt.Errorf("define %q: %w", d.Name, err)
	}
	s.announce(Event{Type: EventDefined, Name: d.Name, UUID: d.UUID})
	return nil
}

// Redefine replaces the definition of the domain with d's UUID, whose name may
// change if no other domain has the new one.
func (s *Store) Redefine(ctx context.Context, d Definition) error {
	return s.Amend(ctx, d, EventDefined)
}

func (s *Store) writeDefinition(dir string, d Definition) error {
	d.Format = Format
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, definitionFile), append(b, '\n'), true)
}

// Undefine forgets a persistent domain and everything in its state directory. An
// active domain keeps running and is transient from then on. A definition that
// is damaged can be undefined too.
func (s *Store) Undefine(ctx context.Context, u UUID) error {
	lk, err := s.lockStore(ctx)
	if err != nil {
		return err
	}
	defer lk.Unlock()
	dir := s.DomainDir(u)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("undefine %s: %w", u, ErrNotFound)
	}
	old, _ := s.Definition(u) // a damaged one has no name to tell
	if err := removeTree(dir); err != nil {
		return fmt.Errorf("undefine %s: %w", u, err)
	}
	s.announce(Event{Type: EventUndefined, Name: old.Name, UUID: u})
	if err := syncDir(s.domainsDir()); err != nil {
		return fmt.Errorf("undefine %s: %w", u, err)
	}
	return nil
}

// checkUnique says whether a domain may have this name and UUID together. own
// says that a definition with this UUID is the domain itself. The store lock is
// held.
func (s *Store) checkUnique(name string, u UUID, own bool) error {
	defs, _ := s.Definitions() // a damaged one has no name to clash with
	for _, d := range defs {
		switch {
		case d.UUID == u && own:
		case d.Name == name:
			return &ExistsError{Name: d.Name, UUID: d.UUID, What: "name"}
		case d.UUID == u:
			return &ExistsError{Name: d.Name, UUID: d.UUID, What: "UUID"}
		}
	}
	act, err := s.Active()
	if fe := (*FileError)(nil); err != nil && !errors.As(err, &fe) {
		return err
	}
	for _, a := range act {
		switch {
		case a.UUID == u && (own || a.Name == name):
		case a.Name == name:
			return &ExistsError{Name: a.Name, UUID: a.UUID, What: "name"}
		case a.UUID == u:
			return &ExistsError{Name: a.Name, UUID: a.UUID, What: "UUID"}
		}
	}
	return nil
}
