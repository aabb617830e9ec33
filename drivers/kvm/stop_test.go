//go:build linux && amd64

package kvm_test

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/guest"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/linux/imagetest"
)

// Every way in which a run can end is told apart, and leaves the right state.
func TestStopReasons(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c := p.open(t)
		for _, tc := range []struct {
			command string
			reason  polyvisor.StopReason
			state   polyvisor.State
			detail  string
		}{
			{"poweroff", polyvisor.StopShutdown, polyvisor.Shutoff, "ACPI"},
			{"reboot", polyvisor.StopReboot, polyvisor.Shutoff, "ACPI"},
			{"kbdreset", polyvisor.StopReboot, polyvisor.Shutoff, "keyboard controller"},
			{"triple", polyvisor.StopCrash, polyvisor.Crashed, "triple fault"},
			{"crash", polyvisor.StopCrash, polyvisor.Crashed, `KVM internal error, sub-error \d+ \(.*rip=0x[0-9a-f]+`},
		} {
			cfg := config(tc.command, "auto="+tc.command)
			cfg.OnReboot = polyvisor.ActionDestroy
			d := started(t, c, cfg)
			stop := wait(t, d)
			require.Equal(t, tc.reason, stop.Reason, stop)
			require.Regexp(t, regexp.MustCompile(tc.detail), stop.Detail)
			require.Equal(t, tc.state, state(t, d), stop)
			require.Equal(t, &stop, info(t, d).LastStop)
			// Neither a crash nor anything else keeps it from starting again.
			require.NoError(t, d.Start(patiently(t)))
			require.Equal(t, tc.reason, wait(t, d).Reason)
		}
	})
}

// An instruction that KVM cannot emulate, with its bytes: here one of MMX that
// reads where no memory is, in a kernel of our own making.
func TestInternalErrorCode(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c := p.open(t)
		cfg := config("strange", "")
		cfg.Boot.Kernel = polyvisor.Path(tinyKernel(t,
			0xb8, 0x00, 0x00, 0x00, 0x10, // mov eax, 0x10000000
			0x0f, 0x60, 0x00, // punpcklbw mm0, [rax]
		))
		d := started(t, c, cfg)
		stop := wait(t, d)
		require.Equal(t, polyvisor.StopCrash, stop.Reason)
		require.Regexp(t, `vCPU 0: KVM internal error, sub-error 1 .*rip=0x1000005.*; code bytes: 0f 60 00`, stop.Detail)
		require.Equal(t, polyvisor.Crashed, state(t, d))
	})
}

// tinyKernel writes an ELF kernel that consists of some machine code.
func tinyKernel(t testing.TB, code ...byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vmlinux")
	elf := imagetest.ELF{Entry: 0x1000000, Segments: []imagetest.Segment{{Type: imagetest.Load, PAddr: 0x1000000, Data: code, MemSize: 4096}}}
	require.NoError(t, os.WriteFile(path, elf.Build(), 0o600))
	return path
}

// The guest is started afresh and the domain stays what it is, console included.
func TestRestart(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c := p.open(t)
		cfg := config("phoenix", "")
		cfg.OnReboot, cfg.OnCrash, cfg.OnPoweroff = polyvisor.ActionRestart, polyvisor.ActionRestart, polyvisor.ActionRestart
		d := started(t, c, cfg)
		id, con := info(t, d).ID, console(t, d)
		con.ready(t)
		for n, command := range []string{"reboot", "kbdreset", "triple", "poweroff"} {
			con.write(t, command)
			con.await(t, guest.Banner, n+2)
			con.await(t, guest.Prompt, 2*(n+1))
			require.Equal(t, "alive", con.answer(t, "echo alive"), command)
			require.Equal(t, id, info(t, d).ID)
			require.Equal(t, polyvisor.Running, state(t, d))
		}
		require.NoError(t, d.Destroy(patiently(t)))
		require.Equal(t, polyvisor.StopKilled, wait(t, d).Reason)
		<-con.end
		require.ErrorIs(t, con.err, io.EOF)
	})
}

// A start that fails is remembered as such, and can be tried again.
func TestStartFailed(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c, ctx := p.open(t), patiently(t)
		d := started(t, c, config("unlucky", "auto=triple"))
		require.Equal(t, polyvisor.StopCrash, wait(t, d).Reason)
		cfg := config("unlucky", "")
		cfg.UUID = d.UUID()
		cfg.Console.Log = filepath.Join(p.dir, "missing", "log")
		define(t, c, cfg)
		err := d.Start(ctx)
		requireCode(t, err, polyvisor.ErrNotFound, cfg.Console.Log)
		stop := wait(t, d)
		require.Equal(t, polyvisor.StopStartFailed, stop.Reason)
		require.Contains(t, stop.Detail, cfg.Console.Log)
		require.Equal(t, polyvisor.Shutoff, state(t, d))
		require.NoError(t, os.Mkdir(filepath.Dir(cfg.Console.Log), 0o700))
		require.NoError(t, d.Start(ctx))
		require.NoError(t, d.Remove(ctx))
	})
}

// A VM process that is killed leaves a crashed domain.
func TestVMProcessDied(t *testing.T) {
	p := newPlace(t, process)
	c, ctx := p.open(t), patiently(t)
	d := started(t, c, config("mortal", ""))
	con := console(t, d)
	con.ready(t)
	kill9(t, p.vmPID(t))
	stop := wait(t, d)
	require.Equal(t, polyvisor.StopServiceDied, stop.Reason)
	require.Contains(t, stop.Detail, "VM process")
	require.Equal(t, polyvisor.Crashed, state(t, d))
	<-con.end
	require.ErrorIs(t, con.err, io.EOF)
	_, err := io.WriteString(con.rwc, "x")
	require.ErrorIs(t, err, polyvisor.ErrInvalidState)
	requireCode(t, d.Suspend(ctx), polyvisor.ErrInvalidState, "crashed")
	require.NoError(t, d.Start(ctx))
	require.NoError(t, d.Remove(ctx))

	// Of a transient one, those who hold it hear of it.
	d = create(t, c, config("mortal", "auto=spin"))
	seen, err := p.open(t).Domain(ctx, "mortal")
	require.NoError(t, err)
	waited := make(chan polyvisor.Stop, 1)
	go func() {
		stop, _ := seen.Wait(ctx)
		waited <- stop
	}()
	kill9(t, p.vmPID(t))
	require.Equal(t, polyvisor.StopServiceDied, wait(t, d).Reason)
	// Who had not reached the process yet cannot know, but is told so.
	require.Contains(t, []polyvisor.StopReason{polyvisor.StopServiceDied, polyvisor.StopUnknown}, (<-waited).Reason)
	require.Equal(t, emptyTree, p.tree(t))
}
