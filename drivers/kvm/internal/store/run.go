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
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	runFile    = "run.json"
	idFile     = "last-id"
	SocketName = "control.sock" // of the control socket in a run directory
	// grace is how long a start waits for the life lock of a VM process that is
	// on its way out: the kernel frees its guest memory before its locks.
	grace = 3 * time.Second
)

// Active is a domain that runs, or is being started.
type Active struct {
	Format  int             `json:"format"` // set by the store
	Name    string          `json:"name"`
	UUID    UUID            `json:"uuid"`
	ID      int             `json:"id"`    // positive, rises with every start
	Token   string          `json:"token"` // tells this run from all others
	Started bool            `json:"started"`
	PID     int             `json:"pid"`              // of the VM process, or of its starter while !Started
	Time    time.Time       `json:"time"`             // of the start
	Config  json.RawMessage `json:"config,omitempty"` // what it was started with
	Dir     string          `json:"-"`                // its run directory
}

// RunSpec is a domain that is to be started.
type RunSpec struct {
	Name      string
	UUID      UUID
	Config    json.RawMessage
	Transient bool // it must have no definition; otherwise it must have one
}

// Run is the run directory of a domain together with its life lock, in the
// process that starts it or in its VM process.
type Run struct {
	Active
	stateDir string // of the domain, if it is persistent
	life     *os.File
}

// NewRun makes the run directory of a domain, gives it an id and takes its life
// lock. The remains of a dead VM process are removed. If the domain runs, the
// error is ErrActive; if another one has its name or UUID, an [ExistsError]. The
// caller ends with Abort, or hands the life lock on and ends with Release.
func (s *Store) NewRun(ctx context.Context, spec RunSpec) (*Run, error) {
	if err := ValidateName(spec.Name); err != nil {
		return nil, err
	}
	life, err := openLockFile(s.lockPath)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(grace)
	for try := 0; ; try++ {
		r, err := s.newRun(ctx, spec, life)
		if err == nil {
			return r, nil
		}
		if !errors.Is(err, ErrActive) || time.Now().After(deadline) {
			life.Close()
			return nil, err
		}
		if serr := sleep(ctx, backoff(try)); serr != nil {
			life.Close()
			return nil, fmt.Errorf("%w: %w", err, serr)
		}
	}
}

func (s *Store) newRun(ctx context.Context, spec RunSpec, life *os.File) (*Run, error) {
	lk, err := s.lockStore(ctx)
	if err != nil {
		return nil, err
	}
	defer lk.Unlock()
	ok, err := tryLock(life, offset(lifeByte, spec.UUID))
	if err != nil {
		return nil, err
	}
	dir := s.RunDir(spec.UUID)
	if !ok {
		if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("domain %q: %w, but not under the run directory %s; use the one it was started with", spec.Name, ErrActive, s.paths.Run)
		}
		return nil, fmt.Errorf("domain %q: %w", spec.Name, ErrActive)
	}
	r, err := s.makeRun(spec, life, dir)
	if err != nil {
		// The descriptor stays open for another try; only its lock goes.
		unlock := unix.Flock_t{Type: unix.F_UNLCK, Start: offset(lifeByte, spec.UUID), Len: 1}
		return nil, errors.Join(err, fcntlLock(life, unix.F_OFD_SETLK, &unlock))
	}
	return r, nil
}

// makeRun is called with the store lock and the life lock held.
func (s *Store) makeRun(spec RunSpec, life *os.File, dir string) (*Run, error) {
	if _, err := s.Definition(spec.UUID); err != nil && !spec.Transient {
		return nil, err
	}
	if err := s.checkUnique(spec.Name, spec.UUID, !spec.Transient); err != nil {
		return nil, err
	}
	if _, err := s.bury(spec.UUID); err != nil {
		return nil, err
	}
	id, err := s.nextID()
	if err != nil {
		return nil, err
	}
	r := &Run{
		Active: Active{
			Name: spec.Name, UUID: spec.UUID, Config: spec.Config,
			ID: id, Token: token(), PID: os.Getpid(), Time: time.Now().UTC(), Dir: dir,
		},
		stateDir: s.DomainDir(spec.UUID),
		life:     life,
	}
	// The directory appears complete, with its lock held: a reaper either does
	// not see it or sees that it lives.
	tmp, err := os.MkdirTemp(s.paths.Run, ".new-")
	if err != nil {
		return nil, fmt.Errorf("make the run directory of %q: %w", spec.Name, err)
	}
	step("mkdir " + tmp)
	if err = r.write(tmp); err == nil {
		err = os.Rename(tmp, dir)
	}
	if err != nil {
		os.RemoveAll(tmp)
		return nil, fmt.Errorf("make the run directory of %q: %w", spec.Name, err)
	}
	step("rename " + dir)
	return r, nil
}

// nextID gives an id above all that were given out under this run directory. The
// store lock is held.
func (s *Store) nextID() (int, error) {
	path := filepath.Join(s.paths.Run, idFile)
	last := 0
	if b, err := readFile(path); err == nil {
		last, _ = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	// The file may be damaged; what runs still counts.
	act, err := s.Active()
	if fe := (*FileError)(nil); err != nil && !errors.As(err, &fe) {
		return 0, err
	}
	for _, a := range act {
		last = max(last, a.ID)
	}
	if last < 0 || last >= 1<<31-1 { // ids fit libvirt's int
		last = 0
	}
	next := last + 1
	return next, writeFile(path, []byte(strconv.Itoa(next)+"\n"), false)
}

func (r *Run) write(dir string) error {
	r.Format = Format
	b, err := json.Marshal(r.Active)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, runFile), append(b, '\n'), false)
}

// Life is the descriptor that holds the life lock, to be inherited by the VM
// process. It belongs to the Run.
func (r *Run) Life() *os.File { return r.life }

// Release gives up this process's part of the life lock without touching the run
// directory, which belongs to the VM process now.
func (r *Run) Release() {
	if r.life != nil {
		r.life.Close()
		r.life = nil
	}
}

// Abort undoes NewRun: nobody may have started the domain.
func (r *Run) Abort() error {
	if r.life == nil {
		return nil
	}
	err := removeTree(r.Dir)
	r.Release()
	return err
}

// Adopt is NewRun's result in the VM process: dir is the run directory, stateDir
// that of the domain if it is or may become persistent, life the inherited
// descriptor, which it owns from then on, also on failure.
func Adopt(dir, stateDir string, life *os.File) (*Run, error) {
	r := &Run{stateDir: stateDir, life: life}
	path := filepath.Join(dir, runFile)
	if err := readJSON(path, &r.Active); err != nil {
		life.Close()
		return nil, err
	}
	r.Dir = dir
	off := offset(lifeByte, r.UUID)
	if ok, err := tryLock(life, off); err != nil || !ok {
		life.Close()
		return nil, errors.Join(err, fmt.Errorf("domain %q: the life lock was not handed on", r.Name))
	}
	return r, nil
}

// StateDir is the state directory of the domain; it exists if it is persistent.
func (r *Run) StateDir() string { return r.stateDir }

// MarkStarted says that the guest runs, in this process, and forgets how the last
// run ended.
func (r *Run) MarkStarted() error {
	r.Started, r.PID = true, os.Getpid()
	if err := r.write(r.Dir); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Join(r.Dir, runFile), err)
	}
	if err := os.Remove(filepath.Join(r.stateDir, stopFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the last stop record: %w", err)
	}
	return nil
}

// Finish ends the run: writes the stop record if the domain is persistent,
// removes the run directory and frees the life lock. The latter two happen even
// if the record cannot be written; the domain then has none.
func (r *Run) Finish(rec StopRecord) error {
	if r.life == nil {
		return nil
	}
	rec.Run = r.Token
	if rec.Time.IsZero() {
		rec.Time = time.Now().UTC()
	}
	err := writeStop(r.stateDir, rec)
	err = errors.Join(err, removeTree(r.Dir))
	// The domain is inactive now; the next run begins when the life lock is free.
	err = errors.Join(err, r.announce(Event{Type: EventStopped, Time: rec.Time, Stop: &rec}))
	r.Release()
	return err
}
