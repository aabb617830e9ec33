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

// LibvirtError is an error number of libvirt (virErrorNumber of virterror.h).
type LibvirtError int

// LibvirtRestart is libvirt's number for an Action (virDomainRestart).
type LibvirtRestart int

// restarts are the actions by libvirt's numbers, which count from 1.
var restarts = [...]Action{ActionDestroy, ActionRestart, ActionPreserve, ActionRenameRestart}

// Libvirt gives libvirt's number for the action, 1 to 4; 0 for what is none, as
// the empty action, which stands for a default.
func (a Action) Libvirt() LibvirtRestart {
	for i, r := range restarts {
		if r == a {
			return LibvirtRestart(i + 1)
		}
	}
	return 0
}

// Action gives the action for libvirt's number, which is empty for numbers that
// are none.
func (r LibvirtRestart) Action() Action {
	if r < 1 || int(r) > len(restarts) {
		return ""
	}
	return restarts[r-1]
}

// numbers say as which number of each of the three reference APIs a code is
// told. Errno and libvirt's numbers are read back as the same code; the VM
// Handler API has too few.
var numbers = map[Code]struct {
	vm      VMError
	errno   syscall.Errno
	libvirt LibvirtError
}{
	CodeUnknown:       {VMErrNoResource, syscall.EIO, 1},           // VIR_ERR_INTERNAL_ERROR
	CodeNotFound:      {VMErrInvalidID, syscall.ENOENT, 42},        // VIR_ERR_NO_DOMAIN
	CodeExists:        {VMErrInvalidID, syscall.EEXIST, 28},        // VIR_ERR_DOM_EXIST
	CodeInvalidState:  {VMErrInvalidState, syscall.EPROTO, 55},     // VIR_ERR_OPERATION_INVALID
	CodeInvalidConfig: {VMErrInvalidID, syscall.EINVAL, 8},         // VIR_ERR_INVALID_ARG
	CodeNoResource:    {VMErrNoResource, syscall.ENOMEM, 2},        // VIR_ERR_NO_MEMORY
	CodeUnsupported:   {VMErrNoResource, syscall.EOPNOTSUPP, 3},    // VIR_ERR_NO_SUPPORT
	CodeReadOnly:      {VMErrInvalidState, syscall.EROFS, 29},      // VIR_ERR_OPERATION_DENIED
	CodePermission:    {VMErrNoResource, syscall.EACCES, 88},       // VIR_ERR_ACCESS_DENIED
	CodeBusy:          {VMErrInvalidState, syscall.EBUSY, 87},      // VIR_ERR_RESOURCE_BUSY
	CodeConnLost:      {VMErrNoResource, syscall.ECONNREFUSED, 39}, // VIR_ERR_RPC
	CodeClosed:        {VMErrInvalidID, syscall.EBADF, 6},          // VIR_ERR_INVALID_CONN
	CodeCanceled:      {VMErrInvalidState, syscall.ECANCELED, 78},  // VIR_ERR_OPERATION_ABORTED
}

// alsoErrno and alsoLibvirt are the further numbers that are read as a code.
var alsoErrno = map[syscall.Errno]Code{
	syscall.ENODEV: CodeNotFound, syscall.ENXIO: CodeNotFound, syscall.ESRCH: CodeNotFound,
	syscall.ENAMETOOLONG: CodeInvalidConfig, syscall.E2BIG: CodeInvalidConfig, syscall.ERANGE: CodeInvalidConfig,
	syscall.ENOSPC: CodeNoResource, syscall.EMFILE: CodeNoResource, syscall.ENFILE: CodeNoResource, syscall.EDQUOT: CodeNoResource,
	syscall.ENOTSUP: CodeUnsupported, syscall.ENOSYS: CodeUnsupported,
	syscall.EPERM: CodePermission, syscall.EAGAIN: CodeBusy,
	syscall.EPIPE: CodeConnLost, syscall.ECONNRESET: CodeConnLost, syscall.ECONNABORTED: CodeConnLost, syscall.ENOTCONN: CodeConnLost,
	syscall.ETIMEDOUT: CodeConnLost,
}

var alsoLibvirt = map[LibvirtError]Code{
	5:  CodeConnLost,      // VIR_ERR_NO_CONNECT
	16: CodeInvalidConfig, // VIR_ERR_OS_TYPE
	17: CodeInvalidConfig, // VIR_ERR_NO_KERNEL
	18: CodeInvalidConfig, // VIR_ERR_NO_ROOT
	19: CodeInvalidConfig, // VIR_ERR_NO_SOURCE
	20: CodeInvalidConfig, // VIR_ERR_NO_TARGET
	21: CodeInvalidConfig, // VIR_ERR_NO_NAME
	22: CodeInvalidConfig, // VIR_ERR_NO_OS
	23: CodeInvalidConfig, // VIR_ERR_NO_DEVICE
	27: CodeInvalidConfig, // VIR_ERR_XML_ERROR
	35: CodeInvalidConfig, // VIR_ERR_XML_DETAIL
	40: CodeConnLost,      // VIR_ERR_GNUTLS_ERROR
	44: CodeInvalidConfig, // VIR_ERR_INVALID_MAC
	45: CodePermission,    // VIR_ERR_AUTH_FAILED
	67: CodeUnsupported,   // VIR_ERR_CONFIG_UNSUPPORTED
	68: CodeBusy,          // VIR_ERR_OPERATION_TIMEOUT
	74: CodeUnsupported,   // VIR_ERR_ARGUMENT_UNSUPPORTED
	79: CodePermission,    // VIR_ERR_AUTH_CANCELLED
	83: CodeBusy,          // VIR_ERR_BLOCK_COPY_ACTIVE
	84: CodeUnsupported,   // VIR_ERR_OPERATION_UNSUPPORTED
	85: CodeConnLost,      // VIR_ERR_SSH
	86: CodeBusy,          // VIR_ERR_AGENT_UNRESPONSIVE
	91: CodeUnsupported,   // VIR_ERR_CPU_INCOMPATIBLE
	92: CodeInvalidConfig, // VIR_ERR_XML_INVALID_SCHEMA
	94: CodePermission,    // VIR_ERR_AUTH_UNAVAILABLE
	98: CodeConnLost,      // VIR_ERR_LIBSSH
	99: CodeNotFound,      // VIR_ERR_DEVICE_MISSING
}

// VM gives the number of the VM Handler API for the code. Its four numbers are
// coarser than the codes.
func (c Code) VM() VMError { return numbers[c.known()].vm }

// Errno gives the number that Android's API (negated) and the operating system
// have for the code.
func (c Code) Errno() syscall.Errno { return numbers[c.known()].errno }

// Libvirt gives libvirt's number for the code.
func (c Code) Libvirt() LibvirtError { return numbers[c.known()].libvirt }

// known is c, or CodeUnknown for a value that is none of the constants.
func (c Code) known() Code {
	if _, ok := numbers[c]; ok {
		return c
	}
	return CodeUnknown
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

// Error tells the number and what it is read as.
func (e VMError) Error() string {
	if e == VMSuccess {
		return "VM error 0: success"
	}
	return fmt.Sprintf("VM error %d: %s", int(e), e.Code())
}

// Is matches the sentinel of the number's code.
func (e VMError) Is(target error) bool { return matches(e.Code(), target) }

// Code reads libvirt's number; CodeUnknown for those that no code stands for,
// such as VIR_ERR_OPERATION_FAILED (9) and VIR_ERR_SYSTEM_ERROR (38), which may
// mean anything.
func (e LibvirtError) Code() Code {
	for c, n := range numbers {
		if n.libvirt == e {
			return c
		}
	}
	return alsoLibvirt[e]
}

// Error tells the number and what it is read as.
func (e LibvirtError) Error() string { return fmt.Sprintf("libvirt error %d: %s", int(e), e.Code()) }

// Is matches the sentinel of the number's code.
func (e LibvirtError) Is(target error) bool {
	s := e.Code().sentinel()
	return s != nil && target == s
}

// matches tells whether target is the sentinel of the code. The context's
// errors are not: who has them in the chain is matched by them.
func matches(c Code, target error) bool {
	s := c.sentinel()
	return s != nil && c != CodeCanceled && target == s
}

// CodeOfErrno reads an error number of the operating system; CodeUnknown for
// those that no code stands for.
func CodeOfErrno(e syscall.Errno) Code {
	for c, n := range numbers {
		if n.errno == e {
			return c
		}
	}
	return alsoErrno[e]
}

// VMErrorOf gives the VM Handler API's number for an error; VMSuccess for nil.
func VMErrorOf(err error) VMError {
	if err == nil {
		return VMSuccess
	}
	var e VMError
	if errors.As(err, &e) && e != VMSuccess {
		return e
	}
	return CodeOf(err).VM()
}
