//go:build linux && amd64

package kvm_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/guest"
)

// Whatever the guest does, the host's orders are carried out, and no vCPU thread is
// left afterwards.
func TestControl(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c, ctx := p.open(t), patiently(t)
		for name, command := range map[string]string{
			"spin": "auto=spin all", "halt": "auto=halt", "idle": "", "poll": "noirq",
		} {
			cfg := config(name, command)
			cfg.VCPUs = 2
			d := define(t, c, cfg)
			for _, last := range []polyvisor.State{polyvisor.Running, polyvisor.Paused} {
				require.NoError(t, d.Start(ctx), name)
				con := console(t, d)
				con.await(t, guest.Banner, 1)
				if p.isolation == none {
					require.Equal(t, 2, vcpuThreads(), name)
				}
				pid := p.vmPID(t)
				for range 3 {
					require.NoError(t, d.Suspend(ctx), name)
					require.Equal(t, polyvisor.Paused, state(t, d), name)
					require.NoError(t, d.Resume(ctx), name)
					require.Equal(t, polyvisor.Running, state(t, d), name)
				}
				if last == polyvisor.Paused {
					require.NoError(t, d.Suspend(ctx), name)
				}
				require.NoError(t, d.Destroy(ctx), name)
				require.Equal(t, polyvisor.StopKilled, wait(t, d).Reason, name)
				if p.isolation == none {
					eventually(t, func() bool { return vcpuThreads() == 0 }, "%s: a vCPU thread is left", name)
				} else {
					awaitDead(t, pid)
				}
				con.close()
			}
		}
	})
}

// A VM process that does not answer keeps nobody waiting, and is killed in the end.
func TestHungVMProcess(t *testing.T) {
	kvm.ShortenPatience(t)
	p := newPlace(t, process)
	c, ctx := p.open(t), patiently(t)
	d := started(t, c, config("hung", ""))
	define(t, c, config("well", ""))
	pid := p.vmPID(t)
	hang(t, pid)
	require.Equal(t, polyvisor.Blocked, state(t, d))
	requireNames(t, c, polyvisor.DomainFilter{}, "hung", "well")
	short, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, d.Suspend(short), context.Canceled)
	requireCode(t, d.Suspend(ctx), polyvisor.ErrBusy, "does not answer", itoa(pid), "destroy")
	require.NoError(t, d.Destroy(ctx))
	awaitDead(t, pid)
	stop := wait(t, d)
	require.Equal(t, polyvisor.StopKilled, stop.Reason)
	require.Contains(t, stop.Detail, "did not answer")
	require.NoError(t, d.Start(ctx))
	require.NoError(t, d.Destroy(ctx))
}

// The patience of Destroy is for a VM process that answers and takes its time to
// end, not for one that does not answer.
func TestDestroyOfSilentVMProcess(t *testing.T) {
	kvm.ShortenLook(t)
	p := newPlace(t, process)
	c, ctx := p.open(t), patiently(t)
	d := started(t, c, config("silent", ""))
	pid := p.vmPID(t)
	hang(t, pid)
	begin := time.Now()
	require.NoError(t, d.Destroy(ctx))
	require.Less(t, time.Since(begin), 10*time.Second)
	awaitDead(t, pid)
	require.Equal(t, polyvisor.StopKilled, wait(t, d).Reason)
}

// Somebody's tidying of the run directory takes away the socket of a machine, but
// not the machine.
func TestLostSocket(t *testing.T) {
	kvm.ShortenPatience(t)
	p := newPlace(t, process)
	c, ctx := p.open(t), patiently(t)
	d := started(t, c, config("lost", ""))
	pid := p.vmPID(t)
	require.NoError(t, os.Remove(p.dir+"/run/"+d.UUID().String()+"/control.sock"))
	require.True(t, state(t, d).Active())
	require.NoError(t, d.Destroy(ctx))
	awaitDead(t, pid)
	require.Equal(t, polyvisor.Shutoff, state(t, d))
}

// The same with the whole run directory, which goes with a user's last session: nothing hangs, and Destroy finds the process.
func TestLostRunDirectory(t *testing.T) {
	kvm.ShortenPatience(t)
	for name, lose := range map[string]func(p place, d *polyvisor.Domain) string{
		"of the domain": func(p place, d *polyvisor.Domain) string { return p.dir + "/run/" + d.UUID().String() },
		"of all":        func(p place, _ *polyvisor.Domain) string { return p.dir + "/run" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			p := newPlace(t, process)
			c, ctx := p.open(t), patiently(t)
			d := started(t, c, config("lost", ""))
			pid := p.vmPID(t)
			require.NoError(t, os.RemoveAll(lose(p, d)))
			require.NoError(t, c.Close())
			c = p.open(t)
			d, err := c.Domain(ctx, "lost")
			require.NoError(t, err)
			require.Equal(t, polyvisor.Blocked, state(t, d))
			requireCode(t, d.Suspend(ctx), polyvisor.ErrInvalidState, "run directory", "destroy", itoa(pid))
			require.NoError(t, d.Destroy(ctx))
			awaitDead(t, pid)
			require.Equal(t, polyvisor.Shutoff, state(t, d))
			stop := wait(t, d)
			require.Equal(t, polyvisor.StopKilled, stop.Reason)
			require.Contains(t, stop.Detail, "run directory")
			require.NoError(t, d.Start(ctx))
			require.NoError(t, d.Destroy(ctx))
		})
	}
}
