package netback

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
)

const (
	// DefaultMTU is what a card has that says nothing else.
	DefaultMTU = 1500
	minMTU     = 576 // what each IPv4 host takes; DHCP answers are that long
	maxMTU     = 65520
)

// DefaultSubnet is the network of a card that says nothing else.
var DefaultSubnet = netip.MustParsePrefix("192.168.127.0/24")

// Zone is the domain of the names that the helper's DNS server has itself:
// gateway, the guest's own hostname, and, with HostLoopback, host.
const Zone = "polyvisor.internal"

// Forward publishes a port of the guest on the host.
type Forward struct {
	Protocol  string     `json:"protocol"` // "tcp" or "udp"
	Host      netip.Addr `json:"host"`
	HostPort  uint16     `json:"host_port"`
	GuestPort uint16     `json:"guest_port"`
}

func (f Forward) String() string {
	return f.Protocol + " " + netip.AddrPortFrom(f.Host, f.HostPort).String()
}

// UserConfig is a card with a network of its own behind it.
type UserConfig struct {
	// MAC is the card's address. Frames from another one are dropped.
	MAC [6]byte `json:"mac"`
	// MTU is the largest IP packet in bytes, 576 to 65520; DefaultMTU if 0. The
	// guest is told by DHCP.
	MTU int `json:"mtu"`
	// Forwards are the ports that are published.
	Forwards []Forward `json:"forwards,omitempty"`
	// HostLoopback makes what listens on the host's 127.0.0.1 reachable at
	// Addresses.Host, also by the name host.polyvisor.internal. Without it,
	// nothing leads there: programs that listen on loopback rely on being
	// reached by the host's own users only.
	HostLoopback bool `json:"host_loopback,omitempty"`
	// Subnet is the guest's network, of IPv4 and with a prefix of 16 to 29 bits;
	// DefaultSubnet if zero.
	Subnet netip.Prefix `json:"subnet,omitzero"`
	// Hostname is the guest's name in Zone; empty for none.
	Hostname string `json:"hostname,omitempty"`
	// Log gets what the helper has to say, at most 256 KiB; nil for nowhere. It
	// stays the caller's.
	Log *os.File `json:"-"`
}

// Addresses are the addresses on a card's network.
type Addresses struct {
	Gateway netip.Addr // the first: router, DHCP and DNS server
	Guest   netip.Addr // the second: the guest's, by DHCP; nothing else may be its source
	Host    netip.Addr // the last: the host's loopback, with HostLoopback
}

// Addresses gives the addresses of the card's network.
func (c *UserConfig) Addresses() Addresses {
	subnet := c.Subnet
	if !subnet.IsValid() {
		subnet = DefaultSubnet
	}
	base := subnet.Masked().Addr()
	b := base.As4()
	last := binary.BigEndian.Uint32(b[:]) | (1<<(32-subnet.Bits()) - 1) - 1
	binary.BigEndian.PutUint32(b[:], last)
	return Addresses{Gateway: base.Next(), Guest: base.Next().Next(), Host: netip.AddrFrom4(b)}
}

// Check fills in the defaults and tells what is wrong.
func (c *UserConfig) Check() error {
	if c.MTU == 0 {
		c.MTU = DefaultMTU
	}
	if !c.Subnet.IsValid() {
		c.Subnet = DefaultSubnet
	}
	var errs []error
	if c.MAC == [6]byte{} || c.MAC[0]&1 != 0 {
		errs = append(errs, fmt.Errorf("%s is not the address of a card", net.HardwareAddr(c.MAC[:])))
	}
	if c.MTU < minMTU || c.MTU > maxMTU {
		errs = append(errs, fmt.Errorf("MTU %d; a card of network user takes %d to %d", c.MTU, minMTU, maxMTU))
	}
	if !c.Subnet.Addr().Is4() || c.Subnet.Bits() < 16 || c.Subnet.Bits() > 29 {
		return errors.Join(append(errs, fmt.Errorf("subnet %s; want one of IPv4 with a prefix of 16 to 29 bits", c.Subnet))...)
	}
	for _, f := range c.Forwards {
		if (f.Protocol != "tcp" && f.Protocol != "udp") || !f.Host.IsValid() || f.Host.Zone() != "" || f.HostPort == 0 || f.GuestPort == 0 {
			errs = append(errs, fmt.Errorf("port forward %s to port %d: want tcp or udp, an address and two ports", f, f.GuestPort))
		}
	}
	return errors.Join(errs...)
}
