//go:build linux && amd64

package kvm

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"os"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/netback"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/tap"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vmm"
)

// prepareNIC makes the back end of a network interface. Its files are all that keeps
// it: a helper process ends, and a tap that was made here goes, when the last of them
// is closed.
func (d *driver) prepareNIC(ctx context.Context, domain string, n *polyvisor.NIC, files map[string]*os.File) (vmm.NIC, error) {
	s := vmm.NIC{Name: n.DeviceID(), MAC: n.MAC, MTU: uint16(n.MTU)}
	var queues []*os.File
	var err error
	switch n.Network {
	case polyvisor.NetworkUser:
		var f *os.File
		f, err = d.startUser(ctx, domain, n)
		queues = []*os.File{f}
	default:
		s.Tap = true
		cfg := tap.Config{Name: n.Source, MTU: n.MTU, Queues: n.Queues, VNetHdr: true}
		if n.Network == polyvisor.NetworkBridge {
			cfg.Name, cfg.Bridge = "", n.Source
		}
		queues, s.MTU, err = openTap(ctx, cfg)
	}
	if err != nil {
		return s, fmt.Errorf("nic %s: %w", n.DeviceID(), err)
	}
	for i, f := range queues {
		name := fmt.Sprintf("nic-%s-%d", n.DeviceID(), i)
		files[name] = f
		s.Files = append(s.Files, name)
	}
	return s, nil
}

// startUser starts the helper process of a network of kind user.
func (d *driver) startUser(ctx context.Context, domain string, n *polyvisor.NIC) (*os.File, error) {
	program, err := netback.FindProgram(d.opts.Usernet)
	if err != nil {
		return nil, err
	}
	cfg := netback.UserConfig{MAC: n.MAC, MTU: n.MTU, Hostname: hostname(domain), HostLoopback: n.HostLoopback}
	for _, f := range n.Forwards {
		host, err := netip.ParseAddr(f.HostIP)
		if err != nil {
			return nil, fmt.Errorf("%w: port forward %s: %w", polyvisor.ErrInvalidConfig, f, err)
		}
		cfg.Forwards = append(cfg.Forwards, netback.Forward{Protocol: f.Protocol, Host: host, HostPort: f.HostPort, GuestPort: f.GuestPort})
	}
	f, _, err := netback.StartUser(ctx, program, cfg)
	return f, err
}

// hostname makes a name for the helper's DNS of a domain's, as far as it is one.
func hostname(domain string) string {
	for _, r := range domain {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
			return ""
		}
	}
	if len(domain) > 63 || domain[0] == '-' || domain[len(domain)-1] == '-' {
		return ""
	}
	return domain
}

// openTap opens a tap and gives its MTU, which the guest is told: that of a bridge may
// be another one than the guest takes for granted.
func openTap(ctx context.Context, cfg tap.Config) (queues []*os.File, mtu uint16, err error) {
	queues, name, err := tap.Open(ctx, cfg)
	if err != nil {
		return nil, 0, err
	}
	n, err := tap.MTU(name)
	if err != nil {
		for _, f := range queues {
			f.Close()
		}
		return nil, 0, err
	}
	return queues, uint16(min(n, math.MaxUint16)), nil
}

// checkNICs refuses what this engine has not, before anything is stored.
func checkNICs(c *polyvisor.Config) error {
	for _, n := range c.NICs {
		if n.Network == polyvisor.NetworkManaged {
			return &polyvisor.UnsupportedError{Feature: polyvisor.FeatureNICs, Driver: "kvm",
				Reason: fmt.Sprintf("nic %s: the engine manages no networks; use network user, bridge or tap", n.DeviceID())}
		}
		if n.Queues > vmm.MaxNICQueues {
			return fmt.Errorf("%w: nic %s: %d queues, a network interface has at most %d here", polyvisor.ErrInvalidConfig, n.DeviceID(), n.Queues, vmm.MaxNICQueues)
		}
		if n.Network == polyvisor.NetworkUser && n.MTU != 0 {
			cfg := netback.UserConfig{MAC: n.MAC, MTU: n.MTU}
			if err := cfg.Check(); err != nil {
				return fmt.Errorf("%w: nic %s: %w", polyvisor.ErrInvalidConfig, n.DeviceID(), err)
			}
		}
	}
	return nil
}
