//go:build linux && amd64

package kvm_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/guest"
)

// Many starts and ends of a domain, of all kinds, hold nothing.
func TestCycles(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		n := rounds(100)
		if p.isolation == process {
			n = rounds(30)
		}
		c, ctx := p.open(t), patiently(t)
		cfg := config("cycle", "")
		cfg.VCPUs = 2
		d := define(t, c, cfg)
		cycle := func(i int) {
			require.NoError(t, d.Start(ctx))
			switch i % 4 {
			case 0: // before the guest has got anywhere
			case 1:
				con := console(t, d)
				con.await(t, guest.Banner, 1)
				con.close()
			case 2:
				require.NoError(t, d.Suspend(ctx))
			case 3:
				tr := create(t, c, config("transient", "auto=poweroff"))
				require.Equal(t, polyvisor.StopShutdown, wait(t, tr).Reason)
			}
			require.NoError(t, d.Destroy(ctx))
			require.Equal(t, polyvisor.StopKilled, wait(t, d).Reason)
		}
		for i := range 4 {
			cycle(i)
		}
		before, goroutines, tree := inUse(t), runtime.NumGoroutine(), p.tree(t)
		for i := range n {
			cycle(i)
		}
		require.Equal(t, tree, p.tree(t))
		require.Empty(t, p.vmPIDs())
		// Goroutines that were told to end may take a moment; the runtime keeps a few
		// threads for later, but not one for each cycle.
		eventually(t, func() bool {
			now := inUse(t)
			return now.fds <= before.fds && runtime.NumGoroutine() <= goroutines && vcpuThreads() == 0 &&
				len(now.children) == len(before.children) && now.threads < before.threads+10
		}, "before: %+v, %d goroutines", before, goroutines)
	})
}
