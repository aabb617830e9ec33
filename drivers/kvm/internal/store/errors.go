package store

import (
	"errors"
	"fmt"
)

// Errors of this package, for errors.Is.
var (
	ErrNotFound    = errors.New("no such domain")
	ErrExists      = errors.New("domain already exists")
	ErrActive      = errors.New("domain is active")
	ErrStarting    = errors.New("domain is being started")
	ErrInvalidName = errors.New("invalid domain name")
	ErrCorrupt     = errors.New("damaged file")
	ErrFormat      = errors.New("file written by a newer version")
	ErrUnsafeDir   = errors.New("directory is not safe to use")
)

// ExistsError says which domain already has the name or the UUID. It matches
// [ErrExists].
type ExistsError struct {
	Name string // of the domain that exists
	UUID UUID   // of the domain that exists
	What string // "name" or "UUID": what is taken
}

func (e *ExistsError) Error() string {
	if e.What == "UUID" {
		return fmt.Sprintf("the UUID %s is taken by domain %q", e.UUID, e.Name)
	}
	return fmt.Sprintf("the name %q is taken by domain %s; choose another name, or undefine or destroy that domain", e.Name, e.UUID)
}

// Is matches ErrExists.
func (e *ExistsError) Is(target error) bool { return target == ErrExists }

// FileError names a file of the store that cannot be used and why. Err matches
// [ErrCorrupt], [ErrFormat] or an error of the operating system.
type FileError struct {
	Path string
	Err  error
}

func (e *FileError) Error() string {
	if errors.Is(e.Err, ErrCorrupt) {
		return fmt.Sprintf("%s: %v; restore it, or remove its directory to forget the domain", e.Path, e.Err)
	}
	return fmt.Sprintf("%s: %v", e.Path, e.Err)
}

// Unwrap gives the cause.
func (e *FileError) Unwrap() error { return e.Err }
