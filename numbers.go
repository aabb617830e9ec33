package polyvisor

import (
	"errors"
	"fmt"
	"syscall"
)

// VMError is an error number of the VM Handler API.
type VMError int

// The numbers of the VM Handler API.
const (
	VMSuccess         VMError = 0
	VMErrInvalidID    VMError = 1
	VMErrNoResource   VMError = 2
	VMErrInvalidState VMError = 3
)

// LibvirtError is an error number of libvirt (virErrorNumber).
type LibvirtError int

// numbers say which number of each of the three reference APIs stands for a
// code. The first row with a number is the one that the number is read as; the
// first row with a code is the one that the code is told as.
var numbers = []struct {
	code    Code
	vm      VMError
	errno   syscall.Errno
	libvirt LibvirtError
}{
	{CodeNotFound, VMErrInvalidID, syscall.ENOENT, 42},            // VIR_ERR_NO_DOMAIN
	{CodeExists, VMErrInvalidID, syscall.EEXIST, 9},               // VIR_ERR_DOM_EXIST (a UUID or name in use)
	{CodeInvalidState, VMErrInvalidState, syscall.EPROTO, 55},     // VIR_ERR_OPERATION_INVALID
	{CodeInvalidConfig, VMErrInvalidID, syscall.EINVAL, 8},        // VIR_ERR_INVALID_ARG
	{CodeNoResource, VMErrNoResource, syscall.ENOMEM, 2},          // VIR_ERR_NO_MEMORY
	{CodeUnsupported, VMErrNoResource, syscall.EOPNOTSUPP, 3},     // VIR_ERR_NO_SUPPORT
	{CodeReadOnly, VMErrInvalidState, syscall.EROFS, 29},          // VIR_ERR_OPERATION_DENIED
	{CodePermission, VMErrNoResource, syscall.EACCES, 88},         // VIR_ERR_ACCESS_DENIED
	{CodeBusy, VMErrInvalidState, syscall.EBUSY, 55},              // VIR_ERR_OPERATION_INVALID
	{CodeConnLost, VMErrNoResource, syscall.ECONNREFUSED, 38},     // VIR_ERR_SYSTEM_ERROR
	{CodeClosed, VMErrInvalidID, syscall.EBADF, 6},                // VIR_ERR_INVALID_CONN
	{CodeCanceled, VMErrInvalidState, syscall.ECANCELED, 78},      // VIR_ERR_OPERATION_ABORTED
	{CodeUnknown, VMErrNoResource, syscall.EIO, 1},                // VIR_ERR_INTERNAL_ERROR
	{CodePermission, VMErrNoResource, syscall.EPERM, 45},          // VIR_ERR_AUTH_FAILED
	{CodeUnsupported, VMErrNoResource, syscall.ENOTSUP, 84},       // VIR_ERR_OPERATION_UNSUPPORTED
	{CodeUnsupported, VMErrNoResource, syscall.ENOSYS, 67},        // VIR_ERR_CONFIG_UNSUPPORTED
	{CodeInvalidConfig, VMErrInvalidID, syscall.ENAMETOOLONG, 27}, // VIR_ERR_XML_ERROR
	{CodeNoResource, VMErrNoResource, syscall.ENOSPC, 38},
	{CodeNoResource, VMErrNoResource, syscall.EMFILE, 38},
	{CodeCanceled, VMErrInvalidState, syscall.ETIMEDOUT, 68}, // VIR_ERR_OPERATION_TIMEOUT
	{CodeBusy, VMErrInvalidState, syscall.EAGAIN, 86},        // VIR_ERR_AGENT_UNRESPONSIVE
	{CodeConnLost, VMErrNoResource, syscall.EPIPE, 39},       // VIR_ERR_RPC
	{CodeNotFound, VMErrInvalidID, syscall.ENODEV, 99},       // VIR_ERR_DEVICE_MISSING
}

// VM gives the number of the VM Handler API for the code. Its four numbers are
// coarser than the codes.
func (c Code) VM() VMError {
	for _, n := range numbers {
		if n.code == c {
			return n.vm
		}
	}
	return VMErrNoResource
}

// Errno gives the number that Android's API (negated) and the operating system
// have for the code.
func (c Code) Errno() syscall.Errno {
	for _, n := range numbers {
		if n.code == c {
			return n.errno
		}
	}
	return syscall.EIO
}

// Libvirt gives libvirt's number for the code.
func (c Code) Libvirt() LibvirtError {
	for _, n := range numbers {
		if n.code == c {
			return n.libvirt
		}
	}
	return 1
}

// Code reads a number of the VM Handler API; CodeUnknown for VMSuccess, which
// is no error, and for numbers that it does not have.
func (e VMError) Code() Code {
	switch e {
	case VMErrInvalidID:
		return CodeNotFound
	case VMErrNoResource:
		return CodeNoResource
	case VMErrInvalidState:
		return CodeInvalidState
	}
	return CodeUnknown
}

// Error makes the number an error that matches the sentinel of its code.
func (e VMError) Error() string { return fmt.Sprintf("VM error %d: %s", int(e), e.Code()) }

// Is matches the sentinel of the number's code.
func (e VMError) Is(target error) bool { return matches(e.Code(), target) }

// Code reads libvirt's number; CodeUnknown for those that no code stands for.
func (e LibvirtError) Code() Code {
	for _, n := range numbers {
		if n.libvirt == e {
			return n.code
		}
	}
	return CodeUnknown
}

// Error makes the number an error that matches the sentinel of its code.
func (e LibvirtError) Error() string { return fmt.Sprintf("libvirt error %d: %s", int(e), e.Code()) }

// Is matches the sentinel of the number's code.
func (e LibvirtError) Is(target error) bool { return matches(e.Code(), target) }

func matches(c Code, target error) bool {
	s := c.sentinel()
	return s != nil && c != CodeCanceled && target == s
}

// CodeOfErrno reads an error number of the operating system; CodeUnknown for
// those that no code stands for.
func CodeOfErrno(e syscall.Errno) Code {
	for _, n := range numbers {
		if n.errno == e {
			return n.code
		}
	}
	return CodeUnknown
}

// VMErrorOf gives the VM Handler API's number for an error; VMSuccess for nil.
func VMErrorOf(err error) VMError {
	if err == nil {
		return VMSuccess
	}
	var e VMError
	if errors.As(err, &e) {
		return e
	}
	return CodeOf(err).VM()
}
