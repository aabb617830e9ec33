package libvirt

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/digitalocean/go-libvirt"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/classed"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc"
)

// The parts of libvirt that an error comes from (virErrorDomain), where they say more
// than its number.
const (
	fromXML    = 5  // the parser of XML
	fromTest   = 12 // the hypervisor in memory
	fromDomain = 20 // the reader of domain configurations
)

// from tells the part of libvirt that an internal error comes from, 0 for others.
func from(err error) int32 {
	if number(err) != libvirt.ErrInternalError {
		return 0
	}
	return reportedBy(err)
}

// reportedBy tells the part of libvirt that an error comes from, 0 if it is none of
// libvirt.
func reportedBy(err error) int32 {
	var e *rpc.Error
	if errors.As(err, &e) {
		return e.Domain
	}
	return 0
}

// number tells libvirt's number of an error, 0 if it is not one of libvirt.
func number(err error) libvirt.ErrorNumber {
	var e *rpc.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return libvirt.ErrOk
}

// sentinels are those of the codes, by which the numbers are classed.
var sentinels = map[polyvisor.Code]error{
	polyvisor.CodeNotFound: polyvisor.ErrNotFound, polyvisor.CodeExists: polyvisor.ErrExists, polyvisor.CodeInvalidState: polyvisor.ErrInvalidState,
	polyvisor.CodeInvalidConfig: polyvisor.ErrInvalidConfig, polyvisor.CodeNoResource: polyvisor.ErrNoResource,
	polyvisor.CodeUnsupported: polyvisor.ErrUnsupported, polyvisor.CodeReadOnly: polyvisor.ErrReadOnly, polyvisor.CodePermission: polyvisor.ErrPermission,
	polyvisor.CodeBusy: polyvisor.ErrBusy, polyvisor.CodeConnLost: polyvisor.ErrConnLost,
}

// sentinelOf gives the class of an error of libvirt, nil if it has none. The
// table is that of polyvisor.LibvirtError. A system error has the system's number
// with it; the daemon's word that a connection is not valid is about that of the
// daemon, which is not one that the caller has closed.
func sentinelOf(e *rpc.Error) error {
	switch e.Code {
	case libvirt.ErrSystemError:
		code := polyvisor.CodeOfErrno(syscall.Errno(e.Int1))
		if e.Int1 <= 0 || code == polyvisor.CodeConnLost {
			return nil // a connection that broke is one of the daemon's own
		}
		return sentinels[code]
	case libvirt.ErrInvalidConn:
		return polyvisor.ErrConnLost
	}
	return sentinels[polyvisor.LibvirtError(e.Code).Code()]
}

// monitorGone says that the daemon lost its connection to the process of a domain in
// the midst of an operation, as it does when somebody else has that process killed.
func monitorGone(err error) bool {
	var e *rpc.Error
	if !errors.As(err, &e) || e.Code != libvirt.ErrSystemError {
		return false
	}
	return e.Int1 == int32(syscall.ECONNRESET) || e.Int1 == int32(syscall.EPIPE)
}

// classify makes an error of a call match a sentinel. Errors of libvirt of no
// class, and those that have one, are returned as they are.
func classify(err error) error {
	if err == nil || polyvisor.CodeOf(err) != polyvisor.CodeUnknown {
		return err
	}
	var e *rpc.Error
	if !errors.As(err, &e) {
		return err
	}
	if s := sentinelOf(e); s != nil {
		return classed.As(s, err)
	}
	return err
}

// lost is the error of calls while there is no connection.
func lost(cause error) error {
	if cause == nil {
		return polyvisor.ErrConnLost
	}
	if errors.Is(cause, polyvisor.ErrConnLost) {
		return cause
	}
	return fmt.Errorf("%w: %w", polyvisor.ErrConnLost, cause)
}
