//go:build linux && amd64

package kvm_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

// Only the terminal of a virtio console has a size.
func TestConsoleSize(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c, ctx := p.open(t), patiently(t)
		for _, virtio := range []bool{false, true} {
			cfg := config("sized", "")
			cfg.Console.Virtio = virtio
			d := create(t, c, cfg)
			con, err := d.Console(ctx, polyvisor.ConsoleOptions{})
			require.NoError(t, err)
			r, ok := con.(polyvisor.ConsoleResizer)
			require.Equal(t, virtio, ok)
			if ok {
				require.NoError(t, r.Resize(ctx, 80, 24))
				other, err := d.Console(ctx, polyvisor.ConsoleOptions{Force: true})
				require.NoError(t, err)
				requireCode(t, r.Resize(ctx, 80, 25), polyvisor.ErrBusy, "taken over")
				require.NoError(t, other.Close())
			}
			require.NoError(t, con.Close())
			require.NoError(t, d.Destroy(ctx))
		}
	})
}
