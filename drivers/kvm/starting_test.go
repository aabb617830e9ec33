//go:build linux && amd64

package kvm_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

// A domain that is being started by another process is listed as running, and what
// is asked of it waits until it runs.
func TestControlOfADomainThatStarts(t *testing.T) {
	needKVM(t)
	p := newPlace(t, process)
	c, other, ctx := p.open(t), p.open(t), patiently(t)
	for range 10 {
		define(t, c, config("d", ""))
		seen, err := other.Domain(ctx, "d")
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() {
			d, err := c.Domain(ctx, "d")
			if err == nil {
				err = d.Start(ctx)
			}
			done <- err
		}()
		eventually(t, func() bool { return state(t, seen) == polyvisor.Running }, "it starts")
		con := console(t, seen)
		con.ready(t)
		require.NoError(t, <-done)
		con.close()
		require.NoError(t, seen.Remove(ctx))
	}
}
