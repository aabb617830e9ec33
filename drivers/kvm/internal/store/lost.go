//go:build linux

package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Lost gives the process that runs a domain whose run directory is gone, as somebody's tidying or the end of the user's last
// session takes it away: it lives, and nobody can talk to it. 0 means that there is none. A domain that is on its way up or
// down looks the same for a moment, so Lost waits a while before it says so.
func (s *Store) Lost(ctx context.Context, u UUID) (pid int, err error) {
	deadline := time.Now().Add(grace)
	for try := 0; ; try++ {
		lost, err := s.looksLost(u)
		if err != nil || !lost {
			return 0, err
		}
		if time.Now().After(deadline) {
			return s.holder(u)
		}
		if err := sleep(ctx, backoff(try)); err != nil {
			return 0, fmt.Errorf("wait for the run directory of domain %s: %w", u, err)
		}
	}
}

func (s *Store) looksLost(u UUID) (bool, error) {
	if alive, err := s.Alive(u); err != nil || !alive {
		return false, err
	}
	_, err := os.Lstat(s.RunDir(u))
	return errors.Is(err, fs.ErrNotExist), nil
}

// holder looks for the process that holds the life lock of a domain. The kernel tells no process for a lock of an open file
// description, but with each descriptor it tells the locks (proc_pid_fdinfo(5)).
func (s *Store) holder(u UUID) (int, error) {
	var lock syscall.Stat_t
	if err := syscall.Stat(s.lockPath, &lock); err != nil {
		return 0, fmt.Errorf("lock file: %w", err)
	}
	pids, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, proc := range pids {
		infos, _ := filepath.Glob(proc + "/fdinfo/*") // none of a process that is gone or another user's
		for _, info := range infos {
			b, err := os.ReadFile(info)
			if err != nil || !holds(string(b), lock.Ino, offset(lifeByte, u)) {
				continue
			}
			if pid, err := strconv.Atoi(filepath.Base(proc)); err == nil {
				return pid, nil
			}
		}
	}
	return 0, nil
}

// holds reports whether a text of /proc/PID/fdinfo has the write lock of an open file description on one byte of a file:
//
//	lock:	1: OFDLCK  ADVISORY  WRITE -1 00:1f:1234 5 5
func holds(info string, ino uint64, off int64) bool {
	for line := range strings.SplitSeq(info, "\n") {
		f := strings.Fields(line)
		if len(f) != 9 || f[0] != "lock:" || f[2] != "OFDLCK" || f[4] != "WRITE" {
			continue
		}
		if strings.HasSuffix(f[6], ":"+strconv.FormatUint(ino, 10)) && f[7] == strconv.FormatInt(off, 10) {
			return true
		}
	}
	return false
}
