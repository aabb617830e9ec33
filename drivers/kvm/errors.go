//go:build linux && amd64

package kvm

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/guest"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/linux"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/unpack"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/kvmapi"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/netback"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/tap"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vmmproc"
)

// classes says to which sentinel of the root package a cause belongs. The first
// match counts.
var classes = []struct{ cause, class error }{
	{store.ErrNotFound, polyvisor.ErrNotFound},
	{store.ErrExists, polyvisor.ErrExists},
	{store.ErrActive, polyvisor.ErrInvalidState},
	{store.ErrStarting, polyvisor.ErrBusy},
	{store.ErrInvalidName, polyvisor.ErrInvalidConfig},
	{store.ErrUnsafeDir, polyvisor.ErrPermission},
	{kvmapi.ErrNoDevice, polyvisor.ErrNoResource},
	{kvmapi.ErrPermission, polyvisor.ErrPermission},
	{kvmapi.ErrNotKVM, polyvisor.ErrUnsupported},
	{kvmapi.ErrAPIVersion, polyvisor.ErrUnsupported},
	{netback.ErrNoProgram, polyvisor.ErrUnsupported},
	{netback.ErrInUse, polyvisor.ErrBusy},
	{tap.ErrNoDevice, polyvisor.ErrNoResource},
	{tap.ErrPermission, polyvisor.ErrPermission},
	{tap.ErrNoBridge, polyvisor.ErrNotFound},
	{tap.ErrMismatch, polyvisor.ErrInvalidConfig},
	{tap.ErrBusy, polyvisor.ErrBusy},
	{linux.ErrUnsupported, polyvisor.ErrUnsupported},
	{linux.ErrTruncated, polyvisor.ErrInvalidConfig},
	{linux.ErrBadMagic, polyvisor.ErrInvalidConfig},
	{linux.ErrMalformed, polyvisor.ErrInvalidConfig},
	{linux.ErrBounds, polyvisor.ErrInvalidConfig},
	{linux.ErrMemory, polyvisor.ErrInvalidConfig},
	{linux.ErrCommandLine, polyvisor.ErrInvalidConfig},
	{unpack.ErrCorrupt, polyvisor.ErrInvalidConfig},
	{unpack.ErrTooLarge, polyvisor.ErrInvalidConfig},
	{unpack.ErrStorage, polyvisor.ErrNoResource},
	{guest.ErrCommandLine, polyvisor.ErrInvalidConfig},
	{guest.ErrMemory, polyvisor.ErrInvalidConfig},
	{fs.ErrNotExist, polyvisor.ErrNotFound},
	{fs.ErrPermission, polyvisor.ErrPermission},
	{syscall.EROFS, polyvisor.ErrPermission},
	{syscall.ENOMEM, polyvisor.ErrNoResource},
	{syscall.ENOSPC, polyvisor.ErrNoResource},
	{syscall.EDQUOT, polyvisor.ErrNoResource},
	{syscall.EFBIG, polyvisor.ErrNoResource},
	{syscall.EMFILE, polyvisor.ErrNoResource},
	{syscall.ENFILE, polyvisor.ErrNoResource},
	{syscall.EAGAIN, polyvisor.ErrNoResource},
	{syscall.ENOTDIR, polyvisor.ErrInvalidConfig},
	{syscall.EISDIR, polyvisor.ErrInvalidConfig},
	{syscall.ELOOP, polyvisor.ErrInvalidConfig},
	{syscall.ENAMETOOLONG, polyvisor.ErrInvalidConfig},
	{syscall.ENXIO, polyvisor.ErrInvalidConfig}, // the socket of another program
	{linux.ErrRead, polyvisor.ErrInvalidConfig}, // of a cause that is none of the above
	{store.ErrCorrupt, polyvisor.ErrInvalidConfig},
	{store.ErrFormat, polyvisor.ErrUnsupported},
	// Last: what the VM process could not be started for may be one of the above.
	{vmmproc.ErrSpawn, polyvisor.ErrNoResource},
}

// codes says to which sentinel an error of a VM process belongs.
var codes = map[vmmproc.Code]error{
	vmmproc.CodeInvalidState:    polyvisor.ErrInvalidState,
	vmmproc.CodeGone:            polyvisor.ErrInvalidState,
	vmmproc.CodeNotReady:        polyvisor.ErrBusy,
	vmmproc.CodeInvalidArgument: polyvisor.ErrInvalidConfig,
	vmmproc.CodeUnsupported:     polyvisor.ErrUnsupported,
	vmmproc.CodeUnknownOp:       polyvisor.ErrUnsupported,
	vmmproc.CodeVersion:         polyvisor.ErrUnsupported,
	vmmproc.CodeBusy:            polyvisor.ErrBusy,
	vmmproc.CodeTakenOver:       polyvisor.ErrBusy,
	vmmproc.CodePermission:      polyvisor.ErrPermission,
	vmmproc.CodeNotFound:        polyvisor.ErrNotFound,
	vmmproc.CodeExists:          polyvisor.ErrExists,
	vmmproc.CodeNoResource:      polyvisor.ErrNoResource,
	vmmproc.CodeProtocol:        polyvisor.ErrConnLost,
}

// classed gives a cause a class without adding to its text.
type classed struct{ class, cause error }

func (e *classed) Error() string   { return e.cause.Error() }
func (e *classed) Unwrap() []error { return []error{e.class, e.cause} }

// ended gives ctx's error for what the end of ctx brought about. The parts below
// return the cause of the cancellation, which is the caller's own and of no class.
func ended(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || errors.Is(err, ctx.Err()) || !errors.Is(err, context.Cause(ctx)) {
		return err
	}
	return ctx.Err()
}

// classify makes an error of the parts below match one of the root package's
// sentinels. An error that does already, and one of no known class, is
// returned as it is.
func classify(err error) error {
	if err == nil || polyvisor.CodeOf(err) != polyvisor.CodeUnknown {
		return err
	}
	var e *vmmproc.Error
	if errors.As(err, &e) && codes[e.Code] != nil {
		return &classed{codes[e.Code], err}
	}
	for _, c := range classes {
		if errors.Is(err, c.cause) {
			return &classed{c.class, err}
		}
	}
	return err
}
