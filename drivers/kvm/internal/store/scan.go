//go:build linux

package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"syscall"
)

// cached is a definition file as it was when it was last read. A definition is
// only ever replaced by rename, so a changed one is another inode or has another
// change time.
type cached struct {
	ino   uint64
	ctime syscall.Timespec
	size  int64
	def   Definition
	err   error
}

// Definitions gives all persistent domains in order of name. Damaged files do not
// hide the others: the error then joins one [FileError] for each, beside the
// definitions that are good.
func (s *Store) Definitions() ([]Definition, error) {
	names, err := readNames(s.domainsDir())
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var (
		defs = make([]Definition, 0, len(names))
		errs []error
		seen = make(map[string]cached, len(names))
	)
	for _, n := range names {
		c, ok := s.readCached(n)
		if !ok {
			continue
		}
		seen[n] = c
		if c.err != nil {
			errs = append(errs, c.err)
			continue
		}
		defs = append(defs, c.def)
	}
	s.cache = seen // forgets those that are gone
	sort.Slice(defs, func(i, j int) bool { return defs[i].Name < defs[j].Name })
	return defs, errors.Join(errs...)
}

// Definition gives one persistent domain, or ErrNotFound.
func (s *Store) Definition(u UUID) (Definition, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.readCached(u.String())
	if !ok {
		return Definition{}, fmt.Errorf("domain %s: %w", u, ErrNotFound)
	}
	s.cache[u.String()] = c
	return c.def, c.err
}

// DefinitionByName gives one persistent domain, or ErrNotFound. The error also
// names damaged files, since one of them may be the domain that is looked for.
func (s *Store) DefinitionByName(name string) (Definition, error) {
	defs, err := s.Definitions()
	i, ok := slices.BinarySearchFunc(defs, name, func(d Definition, n string) int { return strings.Compare(d.Name, n) })
	if ok {
		return defs[i], nil
	}
	if err != nil {
		return Definition{}, fmt.Errorf("domain %q: %w that can be read: %w", name, ErrNotFound, oneLine{err})
	}
	return Definition{}, fmt.Errorf("domain %q: %w", name, ErrNotFound)
}

// oneLine is an error whose text has joined errors on one line.
type oneLine struct{ error }

func (e oneLine) Error() string { return strings.ReplaceAll(e.error.Error(), "\n", "; ") }
func (e oneLine) Unwrap() error { return e.error }

// readCached reads the definition in the directory named n, or says false if it
// is gone. s.mu is held.
func (s *Store) readCached(n string) (cached, bool) {
	path := filepath.Join(s.domainsDir(), n, definitionFile)
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return cached{}, false
		}
		return cached{err: &FileError{path, err}}, true
	}
	if c, ok := s.cache[n]; ok && c.ino == st.Ino && c.ctime == st.Ctim && c.size == st.Size && c.err == nil {
		return c, true
	}
	c := cached{ino: st.Ino, ctime: st.Ctim, size: st.Size}
	if err := readJSON(path, &c.def); errors.Is(err, fs.ErrNotExist) {
		return cached{}, false
	} else if err != nil {
		c.err = err
	} else if err := checkDefinition(c.def, n); err != nil {
		c.err = &FileError{path, err}
	}
	return c, true
}

func checkDefinition(d Definition, dir string) error {
	switch {
	case d.Format > Format:
		return fmt.Errorf("%w (format %d, this program knows %d); use a newer program", ErrFormat, d.Format, Format)
	case d.Format < 1:
		return fmt.Errorf("%w: it has no format number", ErrCorrupt)
	case d.UUID.String() != dir:
		return fmt.Errorf("%w: it is about domain %s", ErrCorrupt, d.UUID)
	case len(d.Config) == 0:
		return fmt.Errorf("%w: it has no config", ErrCorrupt)
	}
	if err := ValidateName(d.Name); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return nil
}

// readJSON reads a file of this package. Every error but that of a file that is
// not there is a *FileError.
func readJSON(path string, v any) error {
	b, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil {
		return &FileError{path, err}
	}
	if err := json.Unmarshal(b, v); err != nil {
		return &FileError{path, fmt.Errorf("%w: %w", ErrCorrupt, err)}
	}
	return nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil {
		return nil, err
	} else if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is not a regular file but %s", ErrCorrupt, fi.Mode().Type())
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%w: it is longer than %d bytes", ErrCorrupt, maxFile)
	}
	return b, nil
}

// readNames lists the domains of a directory: the entries named by a UUID.
func readNames(dir string) ([]string, error) {
	all, err := rawNames(dir)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(n string) bool {
		_, err := ParseUUID(n)
		return err != nil
	}), nil
}

func rawNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}
