//go:build linux && amd64

package kvm_test

import (
	"debug/elf"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor"
)

// someCPU gives a host CPU that this process may use.
func someCPU(t testing.TB) int {
	var set unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &set))
	for c := range 1024 {
		if set.IsSet(c) {
			return c
		}
	}
	require.Fail(t, "no CPU")
	return 0
}

func vcpus(t testing.TB, d *polyvisor.Domain) []polyvisor.VCPU {
	t.Helper()
	list, err := d.VCPUs(patiently(t))
	require.NoError(t, err)
	return list
}

func TestVCPUs(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c, ctx := p.open(t), patiently(t)
		one := polyvisor.CPUs(someCPU(t))
		cfg := config("v", "")
		cfg.VCPUs = 2
		cfg.VCPU = []polyvisor.VCPUConfig{{Number: 1, Affinity: one}}
		d := define(t, c, cfg)
		require.Equal(t, []polyvisor.VCPU{{Number: 0, CPU: -1}, {Number: 1, CPU: -1, Affinity: one}}, vcpus(t, d))

		require.NoError(t, d.Start(ctx))
		con := console(t, d)
		con.ready(t)
		list := vcpus(t, d)
		require.Len(t, list, 2)
		require.Equal(t, one, list[1].Affinity)
		require.Equal(t, someCPU(t), list[1].CPU)
		require.Positive(t, list[0].CPUTime)
		for n, v := range list {
			require.Equal(t, n, v.Number)
			require.NotEqual(t, polyvisor.VCPUOffline, v.State)
			require.False(t, v.Affinity.IsZero())
		}

		// The run is bound at once, over reboots too; the definition is not.
		all := list[0].Affinity
		require.NoError(t, d.PinVCPU(ctx, 0, one))
		require.NoError(t, d.PinVCPU(ctx, 1, all))
		requireCode(t, d.PinVCPU(ctx, 2, one), polyvisor.ErrInvalidConfig)
		requireCode(t, d.PinVCPU(ctx, 0, polyvisor.CPUs(60000)), polyvisor.ErrInvalidConfig, "60000")
		check := func() {
			list := vcpus(t, d)
			require.Equal(t, one, list[0].Affinity)
			require.Equal(t, all, list[1].Affinity)
			require.Equal(t, []polyvisor.VCPUConfig{{Number: 0, Affinity: one}, {Number: 1, Affinity: all}}, configOf(t, d).VCPU)
		}
		check()
		before := vcpus(t, d)[0].CPUTime
		con.write(t, "reboot")
		con.await(t, "pv> ", 2)
		check()
		require.Greater(t, vcpus(t, d)[0].CPUTime, before, "the time is that of the run")
		require.NoError(t, d.Destroy(ctx))
		require.Equal(t, cfg.VCPU, configOf(t, d).VCPU)

		// The definition of an inactive domain.
		require.NoError(t, d.PinVCPU(ctx, 0, one))
		requireCode(t, d.PinVCPU(ctx, 0, polyvisor.CPUs(60000)), polyvisor.ErrInvalidConfig, "60000")
		require.Equal(t, one, vcpus(t, d)[0].Affinity)
		require.NoError(t, d.Start(ctx))
		require.Equal(t, one, vcpus(t, d)[0].Affinity)

		// What the host lacks keeps a domain from starting.
		bad := config("bad", "")
		bad.VCPU = []polyvisor.VCPUConfig{{Number: 0, Affinity: polyvisor.CPUs(60000)}}
		requireCode(t, define(t, c, bad).Start(ctx), polyvisor.ErrInvalidConfig, "vCPU 0")
	})
}

// A vCPU that computes runs; one that waits is blocked.
func TestVCPUState(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c, ctx := p.open(t), patiently(t)
		cfg := config("v", "")
		cfg.VCPUs = 2
		d := started(t, c, cfg)
		con := console(t, d)
		con.ready(t)
		eventually(t, func() bool { return vcpus(t, d)[0].State == polyvisor.VCPUBlocked }, "it waits for a command")
		con.write(t, "spin")
		eventually(t, func() bool { return vcpus(t, d)[0].State == polyvisor.VCPURunning }, "it computes")
		require.NoError(t, d.Suspend(ctx))
		eventually(t, func() bool { return vcpus(t, d)[0].State == polyvisor.VCPUBlocked }, "it is paused")
	})
}

func TestStats(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c, ctx := p.open(t), patiently(t)
		d := started(t, c, config("busy", ""))
		define(t, c, config("idle", ""))
		con := console(t, d)
		con.ready(t)
		s, err := d.Stats(ctx)
		require.NoError(t, err)
		require.Equal(t, "busy", s.Name)
		require.Equal(t, d.UUID(), s.UUID)
		require.Equal(t, polyvisor.Running, s.Info.State)
		require.Len(t, s.VCPUs, 1)
		require.NotEmpty(t, s.Exits)
		require.WithinDuration(t, time.Now(), s.Time, time.Hour)
		before := s.Exits
		con.answer(t, "echo more exits")
		s, err = d.Stats(ctx)
		require.NoError(t, err)
		for kind, n := range before {
			require.GreaterOrEqual(t, s.Exits[kind], n, kind)
		}
		require.NotEqual(t, before, s.Exits)

		all, err := c.Stats(ctx, polyvisor.DomainFilter{})
		require.NoError(t, err)
		require.Len(t, all, 2)
		for _, s := range all {
			if s.Name == "idle" {
				require.Equal(t, polyvisor.Shutoff, s.Info.State)
				require.Nil(t, s.Exits)
				require.Equal(t, []polyvisor.VCPU{{CPU: -1}}, s.VCPUs)
			}
		}
	})
}

func TestCoreDump(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c, ctx := p.open(t), patiently(t)
		d := started(t, c, config("d", ""))
		con := console(t, d)
		con.ready(t)
		dir := t.TempDir()
		path := filepath.Join(dir, "core")
		require.NoError(t, d.CoreDump(ctx, path))
		require.Equal(t, polyvisor.Running, state(t, d))
		require.Equal(t, "still here", con.answer(t, "echo still here"))
		core, err := elf.Open(path)
		require.NoError(t, err)
		defer core.Close()
		require.Equal(t, elf.ET_CORE, core.Type)
		size := uint64(0)
		for _, prog := range core.Progs {
			if prog.Type == elf.PT_LOAD {
				size += prog.Filesz
			}
		}
		require.Equal(t, uint64(32*polyvisor.MiB), size)

		requireCode(t, d.CoreDump(ctx, path), polyvisor.ErrExists, path)
		requireCode(t, d.CoreDump(ctx, dir+"/no/such/place"), polyvisor.ErrNotFound)
		require.NoError(t, d.Suspend(ctx))
		require.NoError(t, d.CoreDump(ctx, path+"2"))
		require.Equal(t, polyvisor.Paused, state(t, d))
		require.NoError(t, d.Destroy(ctx))
		requireCode(t, d.CoreDump(ctx, path+"3"), polyvisor.ErrInvalidState)
		files, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, files, 2, "nothing half-written is left")
	})
}
