package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// output is a file that gets its name when it is complete and on stable storage; until then nothing is at its path.
type output struct {
	*os.File
	path  string
	force bool
}

// newOutput begins a file at path. With force it replaces one that is there and not in use.
func newOutput(path string, force bool) (*output, error) {
	fi, err := os.Lstat(path)
	switch {
	case err == nil && !force:
		return nil, fmt.Errorf("%s: %w: name another file, or force it to be replaced", path, fs.ErrExist)
	case err == nil && !fi.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file: it is not replaced", path)
	case err == nil:
		f, err := openFile(path, true)
		if err != nil {
			return nil, err
		}
		f.Close()
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp-*")
	if err != nil {
		return nil, err
	}
	return &output{f, path, force}, nil
}

// finish closes the file and names it, or removes it if err is not nil.
func (o *output) finish(err error) error {
	defer os.Remove(o.Name())
	if err == nil {
		err = o.Sync()
	}
	if again := o.Close(); err == nil && !errors.Is(again, os.ErrClosed) {
		err = again
	}
	if err != nil {
		return err
	}
	if o.force {
		err = os.Rename(o.Name(), o.path)
	} else {
		err = os.Link(o.Name(), o.path) // unlike a rename it replaces nothing
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(o.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
