//go:build linux && amd64

package kvm_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/polyvisor/polyvisor"
)

// A tap that was made goes with the VM process, however that ends, and whatever becomes
// of the program that had it made.
func TestKillWithTaps(t *testing.T) {
	needTaps(t)
	p := newPlace(t, process)
	// Names of the whole host.
	br, named := fmt.Sprintf("pvb%d", os.Getpid()), fmt.Sprintf("pvt%d", os.Getpid())
	addLink(t, bridge(br, 0), "")
	c, ctx := p.open(t), patiently(t)
	cfg := config("tapped", "")
	cfg.NICs = []polyvisor.NIC{
		{Network: polyvisor.NetworkTap, Source: named},
		{Network: polyvisor.NetworkBridge, Source: br, Queues: 3},
	}
	d := define(t, c, cfg)
	taps := func() (n int) {
		if _, err := netlink.LinkByName(named); err == nil {
			n++
		}
		return n + len(ports(t, br))
	}
	gone := func() bool { return taps() == 0 }
	for round := range 3 {
		s := startRole(t, "start", nil, p.uri(), "tapped")
		require.Equal(t, "starting", s.line(t))
		require.Equal(t, "started", s.line(t))
		require.Equal(t, 2, taps())
		pid := p.vmPID(t)
		switch round {
		case 0: // the starter first
			s.kill()
			require.Equal(t, polyvisor.Running, state(t, d))
			require.Equal(t, 2, taps(), "the domain has them")
			kill9(t, pid)
		case 1: // the starter lives on
			kill9(t, pid)
			eventually(t, gone, "a tap is left of a killed VM process")
			s.kill()
		case 2: // no kill of the domain
			s.kill()
			require.NoError(t, d.Destroy(ctx))
		}
		eventually(t, gone, "a tap is left in round %d", round)
		wait(t, d)
	}
	// Nor is one left by a starter that is killed on its way.
	for range rounds(10) {
		s := startRole(t, "start", nil, p.uri(), "tapped")
		require.Equal(t, "starting", s.line(t))
		eventually(t, func() bool { return taps() > 0 }, "no tap is made")
		s.kill()
		eventually(t, func() bool { is := state(t, d); return is != polyvisor.Running || info(t, d).CPUTime > 0 }, "neither runs nor is off")
		if state(t, d) == polyvisor.Running {
			require.NoError(t, d.Destroy(ctx))
		}
		eventually(t, gone, "a tap is left")
	}
	// A NIC that cannot be had leaves nothing of the one before it.
	cfg.Name, cfg.NICs[1].Source = "none", "pvnone"
	_, err := c.Create(ctx, cfg)
	requireCode(t, err, polyvisor.ErrNotFound, "pvnone", "ip link add")
	require.True(t, gone())
}
