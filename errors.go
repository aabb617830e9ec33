package polyvisor

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Code classifies an error. Every error that a method of Conn or Domain
// returns has one; see CodeOf.
type Code uint8

// The error codes, one for each sentinel.
const (
	// CodeUnknown is the code of an error that has no class.
	CodeUnknown Code = iota
	CodeNotFound
	CodeExists
	CodeInvalidState
	CodeInvalidConfig
	CodeNoResource
	CodeUnsupported
	CodeReadOnly
	CodePermission
	CodeBusy
	CodeConnLost
	CodeClosed
	// CodeCanceled is the code of an error caused by the caller's context: it
	// matches context.Canceled or context.DeadlineExceeded.
	CodeCanceled
)

// sentinel is an error value that stands for one code.
type sentinel struct {
	code Code
	text string
}

func (s *sentinel) Error() string { return s.text }

// The sentinels to test for with errors.Is. Drivers wrap them with %w; the
// root package adds operation, driver and domain once.
var (
	// ErrNotFound: no such domain, file or device.
	ErrNotFound error = &sentinel{CodeNotFound, "not found"}
	// ErrExists: a name or UUID is taken.
	ErrExists error = &sentinel{CodeExists, "exists already"}
	// ErrInvalidState: the operation is not legal in the domain's state.
	ErrInvalidState error = &sentinel{CodeInvalidState, "invalid state"}
	// ErrInvalidConfig: the configuration or an argument is wrong.
	ErrInvalidConfig error = &sentinel{CodeInvalidConfig, "invalid configuration"}
	// ErrNoResource: the host lacks memory, disk space, descriptors or a device.
	ErrNoResource error = &sentinel{CodeNoResource, "resource not available"}
	// ErrUnsupported: the driver cannot do this; errors.ErrUnsupported itself.
	ErrUnsupported = errors.ErrUnsupported
	// ErrReadOnly: the connection was opened read-only.
	ErrReadOnly error = &sentinel{CodeReadOnly, "connection is read-only"}
	// ErrPermission: the host refuses access.
	ErrPermission error = &sentinel{CodePermission, "permission denied"}
	// ErrBusy: someone else holds what the operation needs.
	ErrBusy error = &sentinel{CodeBusy, "busy"}
	// ErrConnLost: the connection to the hypervisor broke.
	ErrConnLost error = &sentinel{CodeConnLost, "connection lost"}
	// ErrClosed: the Conn was closed.
	ErrClosed error = &sentinel{CodeClosed, "connection is closed"}
)

var codeSentinels = [...]struct {
	code Code
	err  error
}{
	{CodeClosed, ErrClosed}, {CodeConnLost, ErrConnLost}, {CodeReadOnly, ErrReadOnly},
	{CodeInvalidState, ErrInvalidState}, {CodeUnsupported, ErrUnsupported}, {CodeInvalidConfig, ErrInvalidConfig},
	{CodeNotFound, ErrNotFound}, {CodeExists, ErrExists}, {CodePermission, ErrPermission},
	{CodeNoResource, ErrNoResource}, {CodeBusy, ErrBusy},
	{CodeCanceled, context.Canceled}, {CodeCanceled, context.DeadlineExceeded},
}

// String gives the code as words.
func (c Code) String() string {
	if c == CodeCanceled {
		return "canceled"
	}
	if err := c.sentinel(); err != nil {
		return err.Error()
	}
	return "unknown error"
}

func (c Code) sentinel() error {
	for _, e := range codeSentinels {
		if e.code == c {
			return e.err
		}
	}
	return nil
}

// CodeOf gives the class of an error: that of the first *Error in its chain,
// else that of the first sentinel it matches, else CodeUnknown.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	for _, c := range codeSentinels {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return CodeUnknown
}

// Error is the error of every method of Conn and Domain: what was attempted,
// where, and why it failed. It is added once, by the root package.
type Error struct {
	// Op is the operation: "open", "define", "start"...
	Op string
	// Driver is the driver's type; empty if none was chosen yet.
	Driver string
	// Domain is the domain's name; empty if the operation is not about one.
	Domain string
	Code   Code
	// Err is the cause. It is never nil.
	Err error
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Driver != "" {
		b.WriteString(e.Driver)
		b.WriteString(": ")
	}
	b.WriteString(e.Op)
	if e.Domain != "" {
		fmt.Fprintf(&b, " %q", e.Domain)
	}
	b.WriteString(": ")
	b.WriteString(e.Err.Error())
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is matches the sentinel of the error's code.
func (e *Error) Is(target error) bool {
	return matches(e.Code, target)
}

// wrap adds operation, driver and domain to an error, once.
func wrap(op, driver, domain string, err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return err
	}
	return &Error{Op: op, Driver: driver, Domain: domain, Code: CodeOf(err), Err: err}
}

// UnsupportedError says which ability is missing, in which driver, and why. It
// matches ErrUnsupported.
type UnsupportedError struct {
	Feature Feature
	Driver  string
	Reason  string
}

func (e *UnsupportedError) Error() string {
	msg := fmt.Sprintf("%s is not supported by the %s driver", e.Feature, e.Driver)
	if e.Reason != "" {
		msg += ": " + e.Reason
	}
	return msg
}

// Is makes errors.Is(err, errors.ErrUnsupported) true.
func (e *UnsupportedError) Is(target error) bool { return target == errors.ErrUnsupported }
