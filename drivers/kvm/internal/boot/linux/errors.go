package linux

import (
	"errors"
	"fmt"
	"strings"
)

// Reasons for refusing an image or its boot data. Every error of this package
// that concerns an input is an [*Error] wrapping exactly one of them.
var (
	ErrTruncated   = errors.New("file is truncated")
	ErrBadMagic    = errors.New("not a Linux kernel image")
	ErrMalformed   = errors.New("malformed kernel image")
	ErrUnsupported = errors.New("unsupported kernel image")
	ErrBounds      = errors.New("points outside the file")
	ErrMemory      = errors.New("does not fit into guest memory")
	ErrCommandLine = errors.New("command line refused")
	ErrRead        = errors.New("cannot be read")
)

// Error says which part of which input was refused, why, and what to do.
type Error struct {
	File   string // the input, as named by its Image
	Part   string // the part of it, such as "ELF program header 2"
	Offset int64  // where the part lies in the file; -1 when that means nothing
	Err    error  // wraps one of the sentinel errors
	Reason string // the numbers behind it
	Remedy string // what to do about it; may be empty
}

// Error puts all fields into one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Part != "" {
		b.WriteString(": " + e.Part)
	}
	if e.Offset >= 0 {
		fmt.Fprintf(&b, " at offset %#x", e.Offset)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	if e.Reason != "" {
		b.WriteString(": " + e.Reason)
	}
	if e.Remedy != "" {
		b.WriteString("; " + e.Remedy)
	}
	return b.String()
}

// Unwrap returns the sentinel error, possibly wrapped around a cause.
func (e *Error) Unwrap() error { return e.Err }

const (
	remedyCopy   = "get a fresh copy of the file"
	remedyMemory = "give the guest more memory"
	remedyKernel = "use an x86-64 bzImage or ELF vmlinux of Linux 3.8 or newer"
)
