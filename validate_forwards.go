package polyvisor

import (
	"net/netip"
	"slices"
)

// defaultHostIP is where ports are published that say nothing else: on the host
// alone.
const defaultHostIP = "127.0.0.1"

func (f *PortForward) defaults() {
	if f.Protocol == "" {
		f.Protocol = ProtocolTCP
	}
	if f.HostIP == "" {
		f.HostIP = defaultHostIP
	}
	if f.GuestPort == 0 {
		f.GuestPort = f.HostPort
	}
}

// hostPort is what two forwards cannot have both.
func (f PortForward) hostPort() PortForward {
	f.defaults()
	f.GuestPort = 0
	return f
}

// forwards checks each forward of a NIC, and that no two have one host port.
func (p *problems) forwards(name string, n *NIC) {
	if len(n.Forwards) > 0 && n.Network != "" && n.Network != NetworkUser {
		p.add("%s: ports are forwarded by network user only; on network %s the guest has an address of its own", name, n.Network)
	}
	if !p.count(name+": forwards", len(n.Forwards)) {
		return
	}
	for i, f := range n.Forwards {
		if f.Protocol != "" && f.Protocol != ProtocolTCP && f.Protocol != ProtocolUDP {
			p.add("%s: forwards[%d]: protocol %q; want %q or %q", name, i, f.Protocol, ProtocolTCP, ProtocolUDP)
		}
		if f.HostPort == 0 {
			p.add("%s: forwards[%d]: no host port; want 1 to 65535", name, i)
		}
		if ip, err := netip.ParseAddr(f.HostIP); f.HostIP != "" && (err != nil || ip.Zone() != "") {
			p.add("%s: forwards[%d]: host address %q; write it as 127.0.0.1 or ::1", name, i, f.HostIP)
		}
		same := func(o PortForward) bool { return o.hostPort() == f.hostPort() }
		if slices.ContainsFunc(n.Forwards[:i], same) {
			p.add("%s: forwards[%d]: %s port %d of the host is given twice", name, i, f.hostPort().Protocol, f.HostPort)
		}
	}
}

// publishedOnce checks that no two NICs publish one port of the host.
func (c *Config) publishedOnce(p *problems) {
	by := make(map[PortForward]int)
	for i, n := range c.NICs {
		for _, f := range n.Forwards {
			if j, ok := by[f.hostPort()]; ok && i != j && f.HostPort != 0 {
				p.add("nic %s: %s port %d of the host is published by another NIC of the domain", n.MAC, f.hostPort().Protocol, f.HostPort)
			}
			by[f.hostPort()] = i
		}
	}
}
