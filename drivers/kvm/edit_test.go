//go:build linux && amd64

package kvm_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

func configOf(t testing.TB, d *polyvisor.Domain) *polyvisor.Config {
	t.Helper()
	c, err := d.Config(patiently(t))
	require.NoError(t, err)
	return c
}

func TestStartPaused(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c, ctx := p.open(t), patiently(t)
		defined := define(t, c, config("defined", "auto=echo first words"))
		require.NoError(t, defined.Start(ctx, polyvisor.StartPaused()))
		transient, err := c.Create(ctx, config("transient", "auto=echo first words"), polyvisor.StartPaused())
		require.NoError(t, err)
		for _, d := range []*polyvisor.Domain{defined, transient} {
			require.Equal(t, polyvisor.Paused, state(t, d))
			require.Empty(t, info(t, d).LastStop)
			con := console(t, d)
			require.Empty(t, con.String(), "no guest code has run")
			require.NoError(t, d.Resume(ctx))
			con.ready(t)
			require.Contains(t, con.String(), "first words")
			require.Equal(t, polyvisor.Running, state(t, d))
			require.NoError(t, d.Destroy(ctx))
		}
		// The next start is as usual.
		require.NoError(t, defined.Start(ctx))
		require.Equal(t, polyvisor.Running, state(t, defined))
	})
}

func TestSetMemory(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c, ctx := p.open(t), patiently(t)
		cfg := config("m", "")
		cfg.Memory = 64 * polyvisor.MiB
		d := define(t, c, cfg)
		require.NoError(t, d.SetMemory(ctx, 48*polyvisor.MiB))
		requireCode(t, d.SetMemory(ctx, 128*polyvisor.MiB), polyvisor.ErrInvalidConfig, "64MiB", "SetMaxMemory")
		requireCode(t, d.SetMemory(ctx, 16*polyvisor.MiB), polyvisor.ErrInvalidConfig)
		require.NoError(t, d.SetMaxMemory(ctx, 128*polyvisor.MiB))
		i := info(t, d)
		require.Equal(t, polyvisor.Bytes(48*polyvisor.MiB), i.Memory)
		require.Equal(t, polyvisor.Bytes(128*polyvisor.MiB), i.MaxMemory)
		// The definition can be given back as it is.
		d = define(t, c, configOf(t, d))

		require.NoError(t, d.Start(ctx))
		con := console(t, d)
		con.ready(t)
		require.Contains(t, con.answer(t, "mem"), "48 MiB")
		require.Equal(t, polyvisor.Bytes(128*polyvisor.MiB), info(t, d).MaxMemory)
		require.ErrorIs(t, d.SetMemory(ctx, 64*polyvisor.MiB), polyvisor.ErrUnsupported)
		requireCode(t, d.SetMaxMemory(ctx, 64*polyvisor.MiB), polyvisor.ErrInvalidState)
		require.NoError(t, d.Destroy(ctx))

		// Without memory it does not start until it is given some.
		require.NoError(t, d.SetMemory(ctx, 0))
		require.Zero(t, info(t, d).Memory)
		requireCode(t, d.Start(ctx), polyvisor.ErrNoResource)
		require.NoError(t, d.SetMemory(ctx, 32*polyvisor.MiB))
		require.NoError(t, d.SetMaxMemory(ctx, 32*polyvisor.MiB))
		require.NoError(t, d.Start(ctx))
		require.Equal(t, polyvisor.Bytes(32*polyvisor.MiB), info(t, d).Memory)
	})
}

func TestSetVCPUs(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c, ctx := p.open(t), patiently(t)
		d := define(t, c, config("v", ""))
		require.NoError(t, d.SetVCPUs(ctx, 3))
		require.NoError(t, d.PinVCPU(ctx, 2, polyvisor.CPUs(0)))
		d = define(t, c, configOf(t, d))
		require.NoError(t, d.SetVCPUs(ctx, 2))
		require.Empty(t, configOf(t, d).VCPU, "what was said about a vCPU is gone with it")
		d = define(t, c, configOf(t, d))
		require.NoError(t, d.Start(ctx))
		require.Equal(t, 2, info(t, d).VCPUs)
		con := console(t, d)
		con.ready(t)
		require.Contains(t, con.answer(t, "cpus"), "2")
		require.ErrorIs(t, d.SetVCPUs(ctx, 1), polyvisor.ErrUnsupported)
		requireCode(t, d.SetVCPUs(ctx, 65), polyvisor.ErrInvalidConfig)
	})
}

func TestLabels(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c, ctx := p.open(t), patiently(t)
		cfg := config("l", "")
		cfg.Labels, cfg.Title, cfg.Autostart = map[string]string{"a": "1"}, "a title", true
		d := define(t, c, cfg)
		get := func(d *polyvisor.Domain) map[string]string {
			l, err := d.Labels(ctx)
			require.NoError(t, err)
			return l
		}
		require.Equal(t, map[string]string{"a": "1"}, get(d))
		require.NoError(t, d.SetLabels(ctx, map[string]string{"b": "2", "c": ""}))
		require.NoError(t, d.Start(ctx))
		require.Equal(t, map[string]string{"b": "2", "c": ""}, get(d))
		on, err := d.Autostart(ctx)
		require.NoError(t, err)
		require.True(t, on)

		// In the run and in the definition.
		id := info(t, d).ID
		require.NoError(t, d.SetLabels(ctx, map[string]string{"x": "y"}))
		require.NoError(t, d.SetAutostart(ctx, false))
		require.Equal(t, map[string]string{"x": "y"}, get(d))
		require.Equal(t, id, info(t, d).ID)
		require.Equal(t, polyvisor.Running, state(t, d))
		require.NoError(t, d.Destroy(ctx))
		require.Equal(t, map[string]string{"x": "y"}, get(d))
		on, err = d.Autostart(ctx)
		require.NoError(t, err)
		require.False(t, on)
		require.Equal(t, "a title", configOf(t, d).Title)
		require.NoError(t, d.SetLabels(ctx, nil))
		require.Empty(t, get(d))

		transient := create(t, c, config("t", ""))
		require.NoError(t, transient.SetLabels(ctx, map[string]string{"x": "y"}))
		require.Equal(t, map[string]string{"x": "y"}, get(transient))
		requireCode(t, transient.SetAutostart(ctx, true), polyvisor.ErrInvalidState, "transient")
	})
}

func TestRename(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c, ctx := p.open(t), patiently(t)
		d, other := define(t, c, config("old", "auto=triple")), define(t, c, config("other", ""))
		stale, err := c.Domain(ctx, "old")
		require.NoError(t, err)
		require.NoError(t, d.Start(ctx))
		wait(t, d)
		require.Equal(t, polyvisor.Crashed, state(t, d))
		requireCode(t, d.Rename(ctx, "other"), polyvisor.ErrExists, `"other"`)
		require.NoError(t, d.Rename(ctx, "new"))
		require.Equal(t, "new", d.Name())
		require.Equal(t, "new", configOf(t, d).Name)
		require.Equal(t, polyvisor.Crashed, state(t, d), "it is the same domain")
		_, err = c.Domain(ctx, "old")
		requireCode(t, err, polyvisor.ErrNotFound)
		found, err := c.Domain(ctx, "new")
		require.NoError(t, err)
		require.Equal(t, d.UUID(), found.UUID())
		require.Equal(t, "old", stale.Name())
		require.Equal(t, "new", configOf(t, stale).Name)

		require.NoError(t, other.Start(ctx))
		requireCode(t, other.Rename(ctx, "x"), polyvisor.ErrInvalidState)
		requireCode(t, d.Rename(ctx, "other"), polyvisor.ErrExists, `"other"`)
	})
}

// Destroy of a domain that has crashed and is inactive takes note of the crash.
func TestDestroyCrashed(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c, ctx := p.open(t), patiently(t)
		d := started(t, c, config("c", "auto=triple"))
		require.Equal(t, polyvisor.StopCrash, wait(t, d).Reason)
		require.Equal(t, polyvisor.Crashed, state(t, d))
		require.NoError(t, d.Destroy(ctx))
		require.Equal(t, polyvisor.Shutoff, state(t, d))
		require.Equal(t, polyvisor.StopCrash, info(t, d).LastStop.Reason)
		requireCode(t, d.Destroy(ctx), polyvisor.ErrInvalidState)
		require.NoError(t, d.Start(ctx))
		wait(t, d)
		require.Equal(t, polyvisor.Crashed, state(t, d))
	})
}

// The UUID of a domain that runs is taken, whatever the name.
func TestCreateWithTakenUUID(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c, ctx := p.open(t), patiently(t)
		d := create(t, c, config("a", ""))
		cfg := config("b", "")
		cfg.UUID = d.UUID()
		_, err := c.Create(ctx, cfg)
		requireCode(t, err, polyvisor.ErrExists, `"a"`)
		_, err = c.Define(ctx, cfg)
		requireCode(t, err, polyvisor.ErrExists)
		require.Equal(t, polyvisor.Running, state(t, d))
	})
}
