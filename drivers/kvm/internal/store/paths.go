//go:build linux

package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Paths are the two directories of one URI.
type Paths struct {
	State string // survives a reboot of the host
	Run   string // need not survive it
}

// ensureDir creates dir, mode 0700, and its parents, and checks that it is a
// directory of this user that nobody else can enter: what is in it is trusted.
func ensureDir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("create %s: %w", dir, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create %s: %w", dir, err)
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("check %s: %w", dir, err)
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch {
	case !fi.IsDir():
		return fmt.Errorf("%s: %w: it is not a directory but %s", dir, ErrUnsafeDir, fi.Mode().Type())
	case !ok || int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s: %w: it belongs to another user; give another one by state= or run= in the URI", dir, ErrUnsafeDir)
	case fi.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s: %w: others have access to it (mode %#o); look what is in it, then chmod 700 it", dir, ErrUnsafeDir, fi.Mode().Perm())
	}
	return nil
}
