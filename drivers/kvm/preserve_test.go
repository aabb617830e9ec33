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
