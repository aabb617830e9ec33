//go:build linux && amd64

package kvm_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

func TestPreserve(t *testing.T) {
	for _, tc := range []struct {
		command string
		set     func(*polyvisor.Config)
		state   polyvisor.State
		reason  polyvisor.StopReason
		told    string
	}{
		{"poweroff", func(c *polyvisor.Config) { c.OnPoweroff = polyvisor.ActionPreserve }, polyvisor.Paused, polyvisor.StopShutdown, "paused by shutdown"},
		{"reboot", func(c *polyvisor.Config) { c.OnReboot = polyvisor.ActionPreserve }, polyvisor.Paused, polyvisor.StopReboot, "paused by reboot"},
		{"triple", func(c *polyvisor.Config) { c.OnCrash = polyvisor.ActionPreserve }, polyvisor.Crashed, polyvisor.StopCrash, "crashed by crash"},
	} {
		t.Run(tc.command, func(t *testing.T) {
			inEach(t, func(t *testing.T, p place) {
				c, ctx := p.open(t), patiently(t)
				cfg := config("kept", "")
				tc.set(cfg)
				d := define(t, c, cfg)
				sub := subscribe(t, c)
				require.NoError(t, d.Start(ctx))
				con := console(t, d)
				con.ready(t)
				con.write(t, tc.command)
				requireEvents(t, sub, "kept started: running", "kept suspended: "+tc.told)
				require.Equal(t, tc.state, state(t, d))
				i := info(t, d)
				require.Positive(t, i.ID)
				require.Equal(t, tc.reason, i.LastStop.Reason)
				require.Equal(t, polyvisor.Bytes(32*polyvisor.MiB), i.Memory)

				// It can be looked at, and nothing else.
				require.NoError(t, d.CoreDump(ctx, filepath.Join(t.TempDir(), "core")))
				require.Equal(t, []polyvisor.VCPU{{CPU: -1, CPUTime: vcpus(t, d)[0].CPUTime}}, vcpus(t, d))
				other := p.open(t)
				seen, err := other.Domain(ctx, "kept")
				require.NoError(t, err)
				requireCode(t, seen.Start(ctx), polyvisor.ErrInvalidState)
				requireCode(t, d.Resume(ctx), polyvisor.ErrInvalidState)
				requireCode(t, d.Suspend(ctx), polyvisor.ErrInvalidState)
				requireCode(t, d.PinVCPU(ctx, 0, polyvisor.CPUs(someCPU(t))), polyvisor.ErrInvalidState)
				requireCode(t, d.SetMaxMemory(ctx, 64*polyvisor.MiB), polyvisor.ErrInvalidState)
				late := subscribe(t, other)
				require.NoError(t, d.SetLabels(ctx, map[string]string{"a": "b"}))
				requireEvents(t, sub, "kept labels: "+tc.state.String())
				requireEvents(t, late, "kept labels: "+tc.state.String())
				con.close()
				replayed := console(t, d)
				replayed.await(t, tc.command, 1)

				require.NoError(t, d.Destroy(ctx))
				requireEvents(t, sub, "kept stopped: shutoff by "+tc.reason.String())
				require.Equal(t, polyvisor.Shutoff, state(t, d))
				stop := wait(t, d)
				require.Equal(t, tc.reason, stop.Reason)
				require.Equal(t, i.LastStop.Time.UnixNano(), stop.Time.UnixNano())
				require.NoError(t, d.Start(ctx))
				require.Equal(t, polyvisor.Running, state(t, d))
			})
		})
	}
}

// What crashed is kept, and the guest starts afresh beside it, again and again up
// to a limit.
func TestRenameRestart(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c, ctx := p.open(t), patiently(t)
		cfg := config("web", "")
		cfg.OnCrash, cfg.Autostart = polyvisor.ActionRenameRestart, true
		cfg.Labels = map[string]string{"a": "b"}
		d := define(t, c, cfg)
		define(t, c, config("web-1", "")) // taken
		sub := subscribe(t, c)
		require.NoError(t, d.Start(ctx))
		con := console(t, d)
		con.ready(t)
		con.write(t, "triple")
		requireEvents(t, sub, "web started: running", "web suspended: crashed by crash", "web-2 started: running")
		require.Equal(t, polyvisor.Crashed, state(t, d))
		fresh, err := c.Domain(ctx, "web-2")
		require.NoError(t, err)
		require.NotEqual(t, d.UUID(), fresh.UUID())
		got := configOf(t, fresh)
		require.Equal(t, "web-2", got.Name)
		require.Equal(t, fresh.UUID(), got.UUID)
		require.False(t, got.Autostart)
		require.Equal(t, cfg.Labels, got.Labels)
		require.False(t, info(t, fresh).Persistent)
		require.NotEqual(t, info(t, d).ID, info(t, fresh).ID)
		con2 := console(t, fresh)
		con2.ready(t)
		require.Equal(t, "afresh", con2.answer(t, "echo afresh"))

		// One does not go with the other.
		require.NoError(t, d.Destroy(ctx))
		require.Equal(t, polyvisor.Shutoff, state(t, d))
		require.Equal(t, "still", con2.answer(t, "echo still"))
		require.NoError(t, fresh.Destroy(ctx))
		requireEvents(t, sub, "web stopped: shutoff by crash", "web-2 stopped: shutoff by killed")

		// A guest that always crashes does not fill the host.
		loop := config("loop", "auto=triple")
		loop.OnCrash = polyvisor.ActionRenameRestart
		tr := create(t, c, loop)
		names := []string{"loop"}
		for len(names) < 9 {
			names = append(names, names[len(names)-1]+"-1")
		}
		for _, n := range names {
			requireEvents(t, sub, n+" started: running", n+" suspended: crashed by crash")
		}
		all, err := c.Domains(ctx, polyvisor.DomainFilter{Active: true})
		require.NoError(t, err)
		require.LessOrEqual(t, len(all), 9)
		last, err := c.Domain(ctx, names[8])
		require.NoError(t, err)
		require.NoError(t, last.Destroy(ctx))
		require.NoError(t, tr.Destroy(ctx))
		requireEvents(t, sub, names[8]+" stopped: shutoff by crash", "loop stopped: shutoff by crash")
	})
}

// Machines in this process end with the connection also while one starts another.
func TestCloseWhileRenamed(t *testing.T) {
	needKVM(t)
	p := newPlace(t, none)
	ctx := patiently(t)
	for range 5 {
		c, err := polyvisor.Open(ctx, p.uri())
		require.NoError(t, err)
		cfg := config("loop", "auto=triple")
		cfg.OnCrash = polyvisor.ActionRenameRestart
		_, err = c.Create(ctx, cfg)
		require.NoError(t, err)
		require.NoError(t, c.Close())
		require.Empty(t, p.vmPIDs())
	}
	require.Zero(t, vcpuThreads())
}
