package polyvisor_test

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

// codes lists every code but CodeUnknown with its sentinel.
var codes = map[polyvisor.Code]error{
	polyvisor.CodeNotFound: polyvisor.ErrNotFound, polyvisor.CodeExists: polyvisor.ErrExists,
	polyvisor.CodeInvalidState: polyvisor.ErrInvalidState, polyvisor.CodeInvalidConfig: polyvisor.ErrInvalidConfig,
	polyvisor.CodeNoResource: polyvisor.ErrNoResource, polyvisor.CodeUnsupported: polyvisor.ErrUnsupported,
	polyvisor.CodeReadOnly: polyvisor.ErrReadOnly, polyvisor.CodePermission: polyvisor.ErrPermission,
	polyvisor.CodeBusy: polyvisor.ErrBusy, polyvisor.CodeConnLost: polyvisor.ErrConnLost,
	polyvisor.CodeClosed: polyvisor.ErrClosed, polyvisor.CodeCanceled: context.Canceled,
}

func TestNumbersGoBothWays(t *testing.T) {
	require.Len(t, codes, int(polyvisor.CodeCanceled), "every code is here")
	errnos, libvirt := map[syscall.Errno]bool{}, map[polyvisor.LibvirtError]bool{}
	for c := polyvisor.CodeUnknown; c <= polyvisor.CodeCanceled; c++ {
		assert.Equal(t, c, polyvisor.CodeOfErrno(c.Errno()), "errno of %s", c)
		assert.Equal(t, c, c.Libvirt().Code(), "libvirt's number of %s", c)
		assert.False(t, errnos[c.Errno()] || libvirt[c.Libvirt()], "%s shares a number", c)
		errnos[c.Errno()], libvirt[c.Libvirt()] = true, true
		assert.Contains(t, []polyvisor.VMError{polyvisor.VMErrInvalidID, polyvisor.VMErrNoResource, polyvisor.VMErrInvalidState}, c.VM())
		if c != polyvisor.CodeUnknown {
			assert.ErrorIs(t, c.Libvirt(), codes[c])
			assert.Equal(t, c, polyvisor.CodeOf(fmt.Errorf("it says: %w", c.Libvirt())))
		}
	}
	for _, v := range []polyvisor.VMError{polyvisor.VMErrInvalidID, polyvisor.VMErrNoResource, polyvisor.VMErrInvalidState} {
		assert.Equal(t, v, v.Code().VM(), "VM error %d", v)
		assert.ErrorIs(t, v, codes[v.Code()])
		assert.Equal(t, v, polyvisor.VMErrorOf(fmt.Errorf("it says: %w", v)))
	}
	none := polyvisor.Code(99)
	assert.Equal(t, polyvisor.CodeUnknown.Errno(), none.Errno())
	assert.Equal(t, polyvisor.CodeUnknown.Libvirt(), none.Libvirt())
	assert.Equal(t, polyvisor.CodeUnknown.VM(), none.VM())
}

// By the numbers of virterror.h.
func TestLibvirtNumbers(t *testing.T) {
	for n, want := range map[polyvisor.LibvirtError]polyvisor.Code{
		1: polyvisor.CodeUnknown, 2: polyvisor.CodeNoResource, 3: polyvisor.CodeUnsupported, 5: polyvisor.CodeConnLost, 6: polyvisor.CodeClosed,
		8: polyvisor.CodeInvalidConfig, 27: polyvisor.CodeInvalidConfig, 28: polyvisor.CodeExists, 29: polyvisor.CodeReadOnly,
		39: polyvisor.CodeConnLost, 42: polyvisor.CodeNotFound, 45: polyvisor.CodePermission, 55: polyvisor.CodeInvalidState,
		67: polyvisor.CodeUnsupported, 68: polyvisor.CodeBusy, 78: polyvisor.CodeCanceled, 84: polyvisor.CodeUnsupported,
		87: polyvisor.CodeBusy, 88: polyvisor.CodePermission, 99: polyvisor.CodeNotFound,
		// These may mean anything.
		0: polyvisor.CodeUnknown, 9: polyvisor.CodeUnknown, 38: polyvisor.CodeUnknown, -1: polyvisor.CodeUnknown, 9999: polyvisor.CodeUnknown,
	} {
		assert.Equal(t, want, n.Code(), "%d", n)
	}
	assert.EqualError(t, polyvisor.LibvirtError(42), "libvirt error 42: not found")
	assert.NotErrorIs(t, polyvisor.LibvirtError(9), polyvisor.ErrExists)
	assert.EqualError(t, polyvisor.VMErrInvalidState, "VM error 3: invalid state")
	assert.Equal(t, polyvisor.CodeUnknown, polyvisor.VMSuccess.Code())
}

// By the numbers of virDomainRestart.
func TestRestartNumbers(t *testing.T) {
	for n, want := range map[polyvisor.LibvirtRestart]polyvisor.Action{
		1: polyvisor.ActionDestroy, 2: polyvisor.ActionRestart, 3: polyvisor.ActionPreserve, 4: polyvisor.ActionRenameRestart,
	} {
		assert.Equal(t, want, n.Action())
		assert.Equal(t, n, want.Libvirt())
	}
	for _, n := range []polyvisor.LibvirtRestart{-1, 0, 5} {
		assert.Empty(t, n.Action(), "%d", n)
	}
	assert.Zero(t, polyvisor.Action("").Libvirt())
	assert.Zero(t, polyvisor.Action("dance").Libvirt())
}

func TestErrnos(t *testing.T) {
	for n, want := range map[syscall.Errno]polyvisor.Code{
		syscall.EPERM: polyvisor.CodePermission, syscall.EACCES: polyvisor.CodePermission, syscall.ENOSPC: polyvisor.CodeNoResource,
		syscall.ENOTSUP: polyvisor.CodeUnsupported, syscall.ENOSYS: polyvisor.CodeUnsupported, syscall.EPIPE: polyvisor.CodeConnLost,
		syscall.ETIMEDOUT: polyvisor.CodeConnLost, syscall.EIO: polyvisor.CodeUnknown, syscall.EDOM: polyvisor.CodeUnknown, 0: polyvisor.CodeUnknown,
	} {
		assert.Equal(t, want, polyvisor.CodeOfErrno(n), "%v", n)
	}
}

func TestVMErrorOf(t *testing.T) {
	conn, _ := connect(t, nil)
	_, err := conn.Domain(t.Context(), "nobody")
	assert.Equal(t, polyvisor.VMErrInvalidID, polyvisor.VMErrorOf(err))
	assert.Equal(t, polyvisor.VMSuccess, polyvisor.VMErrorOf(nil))
	assert.Equal(t, polyvisor.VMErrNoResource, polyvisor.VMErrorOf(errors.New("what?")))
	assert.NotEqual(t, polyvisor.VMSuccess, polyvisor.VMErrorOf(polyvisor.VMSuccess), "an error is none")
	assert.EqualError(t, polyvisor.VMSuccess, "VM error 0: success")
	assert.EqualError(t, polyvisor.VMErrInvalidID, "VM error 1: not found")
}
