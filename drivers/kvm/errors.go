//go:build linux && amd64

package kvm

import (
	"errors"
	"io/fs"
	"syscall"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/guest"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/linux"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/unpack"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/kvmapi"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
)

// classes says to which sentinel of the root package a cause belongs. The first
// match counts.
var classes = []struct{ cause, class error }{
	{store.ErrNotFound, polyvisor.ErrNotFound},
	{store.ErrExists, polyvisor.ErrExists},
	{store.ErrActive, polyvisor.ErrInvalidState},
	{store.ErrInvalidName, polyvisor.ErrInvalidConfig},
	{store.ErrUnsafeDir, polyvisor.ErrPermission},
	{kvmapi.ErrNoDevice, polyvisor.ErrNoResource},
	{kvmapi.ErrPermission, polyvisor.ErrPermission},
	{kvmapi.ErrNotKVM, polyvisor.ErrUnsupported},
	{kvmapi.ErrAPIVersion, polyvisor.ErrUnsupported},
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
}

// classed gives a cause a class without adding to its text.
type classed struct{ class, cause error }

func (e *classed) Error() string   { return e.cause.Error() }
func (e *classed) Unwrap() []error { return []error{e.class, e.cause} }

// classify makes an error of the parts below match one of the root package's
// sentinels. An error that does already, and one of no known class, is
// returned as it is.
func classify(err error) error {
	if err == nil || polyvisor.CodeOf(err) != polyvisor.CodeUnknown {
		return err
	}
	for _, c := range classes {
		if errors.Is(err, c.cause) {
			return &classed{c.class, err}
		}
	}
	return err
}
