package vmmproc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// CoreDumper is what a Machine implements that can write its memory and the state
// of its processors to a file. The machine stands still meanwhile and goes on
// afterwards. If ctx ends, so does the writing.
type CoreDumper interface {
	CoreDump(ctx context.Context, f *os.File) error
}

type coreDumpArgs struct {
	Path string `json:"path"`
}

// CoreDump writes memory and processors of the machine to a new file, with the
// permissions of the VM process. The path is absolute. It exists when it is
// complete, or not at all.
func (c *Client) CoreDump(ctx context.Context, path string) error {
	return c.settled(ctx, opCoreDump, coreDumpArgs{path})
}

// dumpCore is called with Server.slow held.
func dumpCore(ctx context.Context, m Machine, path string) error {
	d, ok := m.(CoreDumper)
	if !ok {
		return ErrUnsupported
	}
	if !filepath.IsAbs(path) {
		return &Error{CodeInvalidArgument, fmt.Sprintf("the path of the core dump, %q, is not absolute", path)}
	}
	return writeNew(path, func(f *os.File) error { return d.CoreDump(ctx, f) })
}

// writeNew makes a file that must not exist, complete or not at all.
func writeNew(path string, write func(*os.File) error) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return &os.PathError{Op: "create", Path: path, Err: unix.EEXIST}
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".polyvisor-*")
	if cause := (*os.PathError)(nil); errors.As(err, &cause) {
		return &os.PathError{Op: "create", Path: path, Err: cause.Err} // the name of the moment means nothing to anybody
	}
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		// Without a name of its own unless it was given the final one.
		if rerr := os.Remove(f.Name()); !errors.Is(rerr, os.ErrNotExist) && err == nil {
			err = rerr
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	err = unix.Renameat2(unix.AT_FDCWD, f.Name(), unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return os.Link(f.Name(), path) // a file system without it; fails if path exists, too
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: f.Name(), New: path, Err: err}
	}
	return nil
}
