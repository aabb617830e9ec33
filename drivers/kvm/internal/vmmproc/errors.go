package vmmproc

import (
	"context"
	"errors"
	"io/fs"
	"syscall"
)

// Code tells errors apart across the socket.
type Code string

// The codes of errors that a peer sends.
const (
	CodeInvalidState    Code = "invalid-state"    // the machine cannot do that now
	CodeInvalidArgument Code = "invalid-argument" // the request or the spec is wrong
	CodeUnknownOp       Code = "unknown-op"
	CodeUnsupported     Code = "unsupported"
	CodeProtocol        Code = "protocol" // a message is not what the protocol says
	CodeVersion         Code = "version"  // no common version of the protocol
	CodeBusy            Code = "busy"     // too many connections or requests; console owned
	CodeTakenOver       Code = "taken-over"
	CodeCanceled        Code = "canceled"
	CodePermission      Code = "permission"
	CodeNotFound        Code = "not-found"
	CodeExists          Code = "exists"
	CodeNoResource      Code = "no-resource" // memory, disk space, descriptors
	CodeGone            Code = "gone"        // the VM process has ended
	CodeNotReady        Code = "not-ready"   // the VM process does not listen yet
	CodeInternal        Code = "internal"
)

// Error is an error with a code. Errors of the VM process arrive as an *Error.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

func (e *Error) Error() string {
	if e.Message == "" {
		return string(e.Code)
	}
	return e.Message
}

// Is matches errors of the same code without a message, such as [ErrGone].
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Message == "" && t.Code == e.Code
}

// ErrorCode implements Coded.
func (e *Error) ErrorCode() Code { return e.Code }

// For errors.Is: each matches every error of its code.
var (
	ErrInvalidState    = &Error{Code: CodeInvalidState}
	ErrInvalidArgument = &Error{Code: CodeInvalidArgument}
	ErrUnknownOp       = &Error{Code: CodeUnknownOp}
	ErrUnsupported     = &Error{Code: CodeUnsupported}
	ErrProtocol        = &Error{Code: CodeProtocol}
	ErrVersion         = &Error{Code: CodeVersion}
	ErrBusy            = &Error{Code: CodeBusy}
	ErrTakenOver       = &Error{Code: CodeTakenOver}
	ErrPermission      = &Error{Code: CodePermission}
	ErrNotFound        = &Error{Code: CodeNotFound}
	ErrNoResource      = &Error{Code: CodeNoResource}
	// ErrGone says that the VM process has ended, whether the machine stopped as
	// it should or the process was killed: the stop record tells.
	ErrGone = &Error{Code: CodeGone}
	// ErrNotReady says that the VM process is still being started.
	ErrNotReady = &Error{Code: CodeNotReady}
)

// Coded is an error of a Machine or a Factory that says its code itself.
type Coded interface {
	error
	ErrorCode() Code
}

// maxMessage bounds the text of an error on the socket.
const maxMessage = 8 << 10

// toError gives an error the form in which it travels.
func toError(err error) *Error {
	if err == nil {
		return nil
	}
	msg := err.Error()
	if len(msg) > maxMessage {
		msg = msg[:maxMessage] + "..."
	}
	var c Coded
	code := CodeInternal
	switch {
	case errors.As(err, &c):
		code = c.ErrorCode()
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		code = CodeCanceled
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		code = CodePermission
	case errors.Is(err, fs.ErrNotExist):
		code = CodeNotFound
	case errors.Is(err, fs.ErrExist):
		code = CodeExists
	case errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG),
		errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.EAGAIN):
		code = CodeNoResource
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENAMETOOLONG):
		code = CodeInvalidArgument
	case errors.Is(err, errors.ErrUnsupported):
		code = CodeUnsupported
	}
	return &Error{Code: code, Message: msg}
}
