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
	"time"
)

const stopFile = "stop.json"

// Reasons that this package writes itself; the others are those of the VM
// process.
const (
	ReasonDied        = "died"         // the VM process was killed or crashed
	ReasonStartFailed = "start-failed" // it was killed before the guest could run
)

// StopRecord says how the last run of a persistent domain ended. There is none
// while it runs.
type StopRecord struct {
	Format int               `json:"format"` // set by the store
	Run    string            `json:"run"`    // token of the run that ended
	Reason string            `json:"reason"`
	Detail string            `json:"detail,omitempty"`
	Time   time.Time         `json:"time"`
	Exits  map[string]uint64 `json:"exits,omitempty"` // exits of the vCPUs by kind
	// Cleared says that a crash has been taken note of: the domain counts as shut
	// off.
	Cleared bool `json:"cleared,omitempty"`
}

// StopRecord gives the record of the last stop of a persistent domain, or
// ErrNotFound if it never ran or is running.
func (s *Store) StopRecord(u UUID) (StopRecord, error) {
	return readStop(s.DomainDir(u))
}

func readStop(dir string) (StopRecord, error) {
	var r StopRecord
	path := filepath.Join(dir, stopFile)
	err := readJSON(path, &r)
	if errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("stop record: %w", ErrNotFound)
	}
	if err != nil {
		return StopRecord{}, err
	}
	if r.Format > Format {
		return StopRecord{}, &FileError{path, ErrFormat}
	}
	return r, nil
}

// writeStop writes the record if the domain is persistent. The caller holds the
// life lock, or holds the store lock while the life lock is free.
func writeStop(dir string, r StopRecord) error {
	if _, err := os.Lstat(filepath.Join(dir, definitionFile)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	r.Format = Format
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, stopFile), append(b, '\n'), true); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write the stop record: %w", err)
	}
	return nil
}

// RecordStop writes the record of a run that never came to have a VM process, so
// that a failed start is remembered.
func (s *Store) RecordStop(u UUID, r StopRecord) error {
	if alive, err := s.Alive(u); err != nil || alive {
		return errors.Join(err, fmt.Errorf("record the stop of %s: %w", u, ErrActive))
	}
	return writeStop(s.DomainDir(u), r)
}

// ClearStop marks the record of the last stop as taken note of. A domain that
// never ran or runs is left as it is; the end of one whose run is over but for its
// life lock is waited for.
func (s *Store) ClearStop(ctx context.Context, u UUID) error {
	for try := 0; ; try++ {
		done, err := s.tryClearStop(ctx, u)
		if done || err != nil {
			return err
		}
		if err := sleep(ctx, backoff(try)); err != nil {
			return fmt.Errorf("wait for the end of the VM process of domain %s: %w", u, err)
		}
	}
}

func (s *Store) tryClearStop(ctx context.Context, u UUID) (bool, error) {
	lk, err := s.lockStore(ctx)
	if err != nil {
		return false, err
	}
	defer lk.Unlock()
	alive, err := s.Alive(u)
	if err != nil {
		return false, err
	}
	if alive {
		_, err := os.Lstat(s.RunDir(u))
		return err == nil, nil
	}
	if _, err := s.bury(u); err != nil {
		return false, err
	}
	r, err := s.StopRecord(u)
	if errors.Is(err, ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	r.Cleared = true
	return true, writeStop(s.DomainDir(u), r)
}
