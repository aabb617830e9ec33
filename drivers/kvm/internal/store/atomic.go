//go:build linux

package store

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// step is called after each step of a write; tests end the process in it.
var step = func(string) {}

// newSuffix marks a file that is being written. There is one writer at a time
// for each file, so the name is fixed and what a killed writer left is
// overwritten by the next.
const newSuffix = ".new"

// writeFile replaces path so that after a crash at any moment it has either its
// old or its new content. sync says whether it must survive a crash of the host.
func writeFile(path string, data []byte, sync bool) (err error) {
	tmp := path + newSuffix
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(tmp)
		}
	}()
	step("create " + path)
	if _, err = f.Write(data); err != nil {
		f.Close()
		return err
	}
	step("write " + path)
	if sync {
		if err = f.Sync(); err != nil {
			f.Close()
			return err
		}
		step("sync " + path)
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(tmp, path); err != nil {
		return err
	}
	step("rename " + path)
	if sync {
		return syncDir(filepath.Dir(path))
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return err
	}
	step("sync " + dir)
	return nil
}

// removeTree takes a directory out of sight in one step, so that no other
// process sees half of it, and then removes it. What a killed process leaves of
// it has a name that begins with a dot and is removed by [Store.Reap].
func removeTree(dir string) error {
	tmp := filepath.Join(filepath.Dir(dir), ".old-"+token())
	if err := os.Rename(dir, tmp); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		// No room for a longer name: remove it in plain sight.
		return os.RemoveAll(dir)
	}
	step("rename " + dir)
	return os.RemoveAll(tmp)
}

// token gives a name that no other call gives. It comes from getrandom(2) itself,
// because crypto/rand would bring all of its package tree into the VM process.
func token() string {
	var b [16]byte
	for n := 0; n < len(b); {
		m, err := unix.Getrandom(b[n:], 0)
		if err != nil && err != unix.EINTR {
			panic(fmt.Sprintf("getrandom: %v", err)) // only on a kernel without it
		}
		n += max(m, 0)
	}
	return hex.EncodeToString(b[:])
}
