package domainxml

import (
	"math"
	"net/netip"

	"libvirt.org/go/libvirtxml"

	"github.com/polyvisor/polyvisor"
)

// forwardsXML adds published ports, which only libvirt's passt back end has.
func forwardsXML(x *libvirtxml.DomainInterface, list []polyvisor.PortForward) {
	if len(list) > 0 {
		x.Backend = &libvirtxml.DomainInterfaceBackend{Type: "passt"}
	}
	for _, f := range list {
		x.PortForward = append(x.PortForward, libvirtxml.DomainInterfaceSourcePortForward{
			Proto: f.Protocol, Address: f.HostIP,
			Ranges: []libvirtxml.DomainInterfaceSourcePortForwardRange{{Start: uint(f.HostPort), To: uint(f.GuestPort)}},
		})
	}
}

// forwards reads the published ports of an interface of type user. A forward
// without an address listens on all of IPv4, as libvirt has it.
func (r *reader) forwards(n *node) []polyvisor.PortForward {
	var list []polyvisor.PortForward
	for _, k := range n.all("portForward") {
		f := polyvisor.PortForward{Protocol: r.demand(k, "proto"), HostIP: "0.0.0.0"}
		r.only(k, "proto", polyvisor.ProtocolTCP, polyvisor.ProtocolUDP)
		if ip, ok := k.attr("address"); ok {
			if a, err := netip.ParseAddr(ip); err != nil || a.Zone() != "" {
				r.add(k, "/@address", "%.60q is not an IP address", ip)
			}
			f.HostIP = ip
		}
		ranges := k.all("range")
		if len(ranges) == 0 {
			r.add(k, "/range", "is missing: all ports at once %s", notSupported)
		}
		for _, port := range ranges {
			f.HostPort = r.port(port, "start")
			f.GuestPort = f.HostPort
			if _, ok := port.attr("to"); ok {
				f.GuestPort = r.port(port, "to")
			}
			if _, ok := port.attr("end"); ok && r.port(port, "end") != f.HostPort {
				r.add(port, "/@end", "a range of several ports %s; give each port by itself", notSupported)
			}
			list = append(list, f)
		}
	}
	if len(list) > 0 {
		if k := r.one(n, "backend"); k == nil {
			r.lacks(n, "/backend", "is missing: <portForward> needs <backend type='passt'/>")
		} else {
			r.need(k, "type")
			r.only(k, "type", "passt")
		}
	}
	return list
}

func (r *reader) port(n *node, name string) uint16 {
	v := r.attrNumber(n, name, math.MaxUint16)
	if v == 0 && n.value(name) == "0" {
		r.add(n, "/@"+name, "0 is no port")
	}
	return uint16(v)
}
