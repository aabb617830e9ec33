//go:build linux

package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// Active gives the domains whose life lock is held, in order of id. As with
// Definitions, a damaged file does not hide the others.
func (s *Store) Active() ([]Active, error) {
	names, err := readNames(s.paths.Run)
	if err != nil {
		return nil, err
	}
	var (
		list []Active
		errs []error
	)
	for _, n := range names {
		u, err := ParseUUID(n)
		if err != nil {
			continue
		}
		a, err := s.ActiveByUUID(u)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		list = append(list, a)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].ID < list[j].ID })
	return list, errors.Join(errs...)
}

// ActiveByUUID gives one active domain, or ErrNotFound.
func (s *Store) ActiveByUUID(u UUID) (Active, error) {
	alive, err := s.Alive(u)
	if err != nil {
		return Active{}, err
	}
	if !alive {
		return Active{}, fmt.Errorf("active domain %s: %w", u, ErrNotFound)
	}
	return readRun(s.RunDir(u))
}

func readRun(dir string) (Active, error) {
	var a Active
	path := filepath.Join(dir, runFile)
	err := readJSON(path, &a)
	if errors.Is(err, fs.ErrNotExist) {
		return a, fmt.Errorf("active domain: %w", ErrNotFound)
	}
	if err != nil {
		return Active{}, err
	}
	if a.Format > Format {
		return Active{}, &FileError{path, ErrFormat}
	}
	a.Dir = dir
	return a, nil
}

// Reap removes what dead VM processes, and processes killed in the middle of an
// operation, have left, and gives persistent domains whose VM process died a stop
// record that says so. It returns how many dead runs it found. Any number of
// processes may do it at once, and it never touches a domain that is starting,
// running or stopping.
func (s *Store) Reap(ctx context.Context) (int, error) {
	lk, err := s.lockStore(ctx)
	if err != nil {
		return 0, err
	}
	defer lk.Unlock()
	errs := []error{s.sweep(s.domainsDir()), s.sweep(s.paths.Run), removeFile(filepath.Join(s.paths.Run, idFile+newSuffix))}
	names, err := readNames(s.paths.Run)
	errs = append(errs, err)
	n := 0
	for _, name := range names {
		u, err := ParseUUID(name)
		if err != nil {
			continue
		}
		alive, err := s.Alive(u)
		if err != nil || alive {
			errs = append(errs, err)
			continue
		}
		found, err := s.bury(u)
		errs = append(errs, err)
		if found {
			n++
		}
	}
	return n, errors.Join(errs...)
}

// ReapDomain waits until the VM process of a domain, which the caller knows to be
// dying, is gone and removes what it left. It waits until ctx ends.
func (s *Store) ReapDomain(ctx context.Context, u UUID) error {
	for try := 0; ; try++ {
		done, err := s.TryReap(ctx, u)
		if done || err != nil {
			return err
		}
		if err := sleep(ctx, backoff(try)); err != nil {
			return fmt.Errorf("wait for the end of the VM process of domain %s: %w", u, err)
		}
	}
}

// TryReap is ReapDomain for one that may have been started again meanwhile: it
// says false and does nothing if the domain is alive. It waits for the store lock
// only.
func (s *Store) TryReap(ctx context.Context, u UUID) (bool, error) {
	lk, err := s.lockStore(ctx)
	if err != nil {
		return false, err
	}
	defer lk.Unlock()
	if alive, err := s.Alive(u); err != nil || alive {
		return false, err
	}
	_, err = s.bury(u)
	return true, err
}

// bury removes the run directory of a domain that is not alive, if there is one.
// The store lock is held, and the life lock is free or the caller's own.
func (s *Store) bury(u UUID) (bool, error) {
	dir := s.RunDir(u)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	rec, own := s.autopsy(u)
	if !own {
		rec.Time = time.Now().UTC()
		if err := writeStop(s.DomainDir(u), rec); err != nil {
			return false, err // keep the evidence for the next reaper
		}
	}
	a, _ := readRun(dir)
	if err := removeTree(dir); err != nil {
		return false, fmt.Errorf("remove the run directory of dead domain %s: %w", u, err)
	}
	if a.Started { // else nobody has heard of it
		s.announce(Event{Type: EventStopped, Time: rec.Time, Name: a.Name, UUID: u, Run: a.Token, Stop: &rec})
	}
	return true, nil
}

// autopsy says how the run ended whose remains are in the run directory. own is
// true if its VM process got as far as its own record.
func (s *Store) autopsy(u UUID) (rec StopRecord, own bool) {
	state := s.DomainDir(u)
	a, err := readRun(s.RunDir(u))
	if err != nil {
		a = Active{UUID: u} // damaged: still dead
	}
	last, err := readStop(state)
	if err == nil && last.Run == a.Token && a.Token != "" {
		return last, true
	}
	if !a.Started {
		return StopRecord{Run: a.Token, Reason: ReasonStartFailed,
			Detail: "the processes that started the domain were killed before its guest could run"}, false
	}
	return StopRecord{Run: a.Token, Reason: ReasonDied, Detail: fmt.Sprintf(
		"the VM process (pid %d) was killed or crashed; its last words may be in %s", a.PID, filepath.Join(state, LogName))}, false
}

// LastStop is StopRecord for readers that may not clear away after a dead VM
// process: it says what Reap would write. Its time is zero then.
func (s *Store) LastStop(u UUID) (StopRecord, error) {
	alive, err := s.Alive(u)
	if err != nil {
		return StopRecord{}, err
	}
	if _, err := os.Lstat(s.RunDir(u)); err == nil && !alive {
		rec, _ := s.autopsy(u)
		return rec, nil
	}
	return s.StopRecord(u)
}

// LogName is the file in a domain's state directory to which its VM process
// writes.
const LogName = "vmm.log"

// sweep removes directories that were being made or removed by a process that
// died, and files that were being written. The store lock is held, so nobody is
// at work on them; only a stop record may be, by a VM process that lives.
func (s *Store) sweep(dir string) error {
	names, err := rawNames(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range names {
		path := filepath.Join(dir, n)
		switch u, perr := ParseUUID(n); {
		case strings.HasPrefix(n, ".new-"), strings.HasPrefix(n, ".old-"):
			errs = append(errs, s.sweepHidden(path))
		case perr == nil:
			errs = append(errs, removeFile(filepath.Join(path, definitionFile+newSuffix)))
			if alive, err := s.Alive(u); err == nil && !alive {
				errs = append(errs, removeFile(filepath.Join(path, stopFile+newSuffix)))
			}
		}
	}
	return errors.Join(errs...)
}

// sweepHidden removes a half-made or half-removed directory. One that a VM
// process is removing at this moment may vanish meanwhile, which is fine.
func (s *Store) sweepHidden(path string) error {
	if err := os.RemoveAll(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
