package kvmapi

import (
	"errors"
	"fmt"
)

// Reasons for which [Open] fails. Test for them with errors.Is; the error's text has the remedy.
var (
	ErrNoDevice   = errors.New("no KVM device")
	ErrPermission = errors.New("no permission on the KVM device")
	ErrNotKVM     = errors.New("not a KVM device")
	ErrAPIVersion = errors.New("unsupported KVM API version")
)

// OpenError says why the KVM device could not be opened and what to do about it.
type OpenError struct {
	Path   string
	Reason error  // one of the sentinels above, or nil when the cause is something else
	Remedy string // a sentence for the user, may be empty
	Err    error  // the cause, may be nil
}

func (e *OpenError) Error() string {
	s := "open " + e.Path
	if e.Reason != nil {
		s += ": " + e.Reason.Error()
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Remedy != "" {
		s += " (" + e.Remedy + ")"
	}
	return s
}

// Unwrap gives the reason and the cause.
func (e *OpenError) Unwrap() []error {
	var errs []error
	if e.Reason != nil {
		errs = append(errs, e.Reason)
	}
	if e.Err != nil {
		errs = append(errs, e.Err)
	}
	return errs
}

// IoctlError is a failed KVM call; Err is the errno.
type IoctlError struct {
	Call string // the ioctl's name in linux/kvm.h
	Err  error
}

func (e *IoctlError) Error() string { return fmt.Sprintf("%s: %v", e.Call, e.Err) }

// Unwrap gives the errno.
func (e *IoctlError) Unwrap() error { return e.Err }
