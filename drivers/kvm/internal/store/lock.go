//go:build linux

package store

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Kinds of lock, as ranges of offsets in the lock file.
const (
	storeByte       = 0
	opByte    int64 = 1 << 60
	lifeByte  int64 = 2 << 60
)

// offset gives the byte that stands for a domain. Two domains share a byte with
// a chance of 2^-60 a pair; they would then wait for each other.
func offset(kind int64, u UUID) int64 {
	h := fnv.New64a()
	h.Write(u[:])
	return kind | int64(h.Sum64()&(1<<60-1))
}

// openLockFile gives a new open file description, which is what owns a lock.
func openLockFile(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// tryLock takes the lock on one byte for the open file description of f, or says
// false if another one has it.
func tryLock(f *os.File, off int64) (bool, error) {
	err := fcntlLock(f, unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: off, Len: 1})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return true, nil
}

// held says whether an open file description other than that of f has the lock.
func held(f *os.File, off int64) (bool, error) {
	lk := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: off, Len: 1}
	if err := fcntlLock(f, unix.F_OFD_GETLK, &lk); err != nil {
		return false, fmt.Errorf("ask for the lock on %s: %w", f.Name(), err)
	}
	return lk.Type != unix.F_UNLCK, nil
}

func fcntlLock(f *os.File, cmd int, lk *unix.Flock_t) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var lerr error
	if err := rc.Control(func(fd uintptr) {
		for {
			if lerr = unix.FcntlFlock(fd, cmd, lk); lerr != unix.EINTR {
				return
			}
		}
	}); err != nil {
		return err
	}
	return lerr
}

// Lock is a lock held between processes. The kernel frees it if the process dies.
type Lock struct{ f *os.File }

// Unlock frees the lock. It may be called more than once, by one goroutine.
func (l *Lock) Unlock() {
	if l.f != nil {
		l.f.Close()
		l.f = nil
	}
}

// backoff bounds how often a lock is tried: often at first, because most are held
// for a few milliseconds. There is no wait queue in the kernel that a context
// could end, without a signal to a thread of its own.
func backoff(try int) time.Duration {
	return min(time.Millisecond<<min(try, 10), 20*time.Millisecond)
}

func (s *Store) lock(ctx context.Context, off int64, what string) (*Lock, error) {
	f, err := openLockFile(s.lockPath)
	if err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		ok, err := tryLock(f, off)
		if err != nil {
			f.Close()
			return nil, err
		}
		if ok {
			return &Lock{f}, nil
		}
		if err := sleep(ctx, backoff(try)); err != nil {
			f.Close()
			return nil, fmt.Errorf("wait for the lock of %s, held by another operation: %w", what, err)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Store) lockStore(ctx context.Context) (*Lock, error) {
	return s.lock(ctx, storeByte, "the store "+s.paths.State)
}

// LockDomain takes the operation lock of a domain, which need not exist. It waits
// until ctx ends. The lock excludes every other holder of it, in this process and
// in others; it is not reentrant.
func (s *Store) LockDomain(ctx context.Context, u UUID) (*Lock, error) {
	return s.lock(ctx, offset(opByte, u), "domain "+u.String())
}

// Alive says whether the life lock of a domain is held: by its VM process, or by
// a process that is starting it.
func (s *Store) Alive(u UUID) (bool, error) {
	return held(s.probe, offset(lifeByte, u))
}
