//go:build linux && amd64

package kvm_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm"
)

func TestProcessOf(t *testing.T) {
	needKVM(t)
	p := newPlace(t, process)
	c, ctx := p.open(t), patiently(t)
	u, err := polyvisor.ParseURI(p.uri())
	require.NoError(t, err)
	d := define(t, c, config("one", ""))
	_, err = kvm.ProcessOf(u, "one")
	require.ErrorIs(t, err, polyvisor.ErrNotFound)
	require.NoError(t, d.Start(ctx))
	proc, err := kvm.ProcessOf(u, "one")
	require.NoError(t, err)
	require.Equal(t, p.vmPID(t), proc.Pid)
	require.NoError(t, proc.Kill())
	require.NoError(t, proc.Release())
	end, err := d.Wait(ctx)
	require.NoError(t, err)
	require.Equal(t, polyvisor.StopServiceDied, end.Reason)
	_, err = kvm.ProcessOf(u, "two")
	require.ErrorIs(t, err, polyvisor.ErrNotFound)
	_, err = kvm.ProcessOf(&polyvisor.URI{Scheme: "kvm", Path: "/nowhere"}, "one")
	require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
}

// Without a polyvisor-vmm anywhere a program is its own VM process, here with the race
// detector as the program has it.
func TestRunsItself(t *testing.T) {
	needKVM(t)
	t.Setenv("PATH", path)
	p := newPlace(t, process)
	c, ctx := p.open(t), patiently(t)
	d := started(t, c, config("itself", ""))
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.vmPID(t)))
	require.NoError(t, err)
	own, err := os.Executable()
	require.NoError(t, err)
	require.Equal(t, own, exe)
	require.NoError(t, d.Suspend(ctx))
	require.NoError(t, d.Resume(ctx))
	require.NoError(t, d.Shutdown(ctx))
	end, err := d.Wait(ctx)
	require.NoError(t, err)
	require.Equal(t, polyvisor.StopShutdown, end.Reason)
}

// A machine in this very program has no process to give away.
func TestProcessOfLocal(t *testing.T) {
	needKVM(t)
	p := newPlace(t, none)
	c := p.open(t)
	started(t, c, config("inside", ""))
	u, err := polyvisor.ParseURI(p.uri())
	require.NoError(t, err)
	_, err = kvm.ProcessOf(u, "inside")
	require.ErrorIs(t, err, polyvisor.ErrUnsupported)
	require.ErrorContains(t, err, "among other things")
}
