package usernet

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/netback"
)

const (
	ethernetHeader = 14
	ipv4Header     = 20
	typeIPv4       = 0x0800
	typeARP        = 0x0806
	arpLength      = 28
	tcpHeader      = 20
	protoICMP      = 1
	protoTCP       = 6
	protoUDP       = 17
	portDNS        = 53
	portDHCP       = 67

	// maxFlows bounds the flows of UDP that the guest began within flowTime,
	// after which the stack forgets an idle one. Each costs 128 KiB or more.
	maxFlows = 512
	flowTime = 90 * time.Second
	// maxQueries bounds the packets to the DNS server in a second: each may be
	// a goroutine that waits for an answer from outside.
	maxQueries = 200
)

// flow is a flow of UDP from the guest, whose address is always the same.
type flow struct {
	port uint16
	to   netip.AddrPort
}

// filter decides which frames of the guest the stack gets to see. The stack
// learns source addresses without bound, takes the length of frames on trust and
// dials whatever address it is given, the host's loopback and any address
// included, so the filter passes on nothing of that kind. It is not safe for
// concurrent use.
type filter struct {
	mac     [6]byte
	longest int // frame
	subnet  netip.Prefix
	addr    netback.Addresses
	host    bool // the host's loopback is reachable

	published map[uint16]bool // guest's ports of UDP

	flows   map[flow]time.Time // when they were seen last
	second  time.Time
	queries int
}

func newFilter(cfg *netback.UserConfig) *filter {
	published := make(map[uint16]bool)
	for _, p := range cfg.Forwards {
		if p.Protocol == "udp" {
			published[p.GuestPort] = true
		}
	}
	return &filter{
		mac: cfg.MAC, longest: cfg.MTU + ethernetHeader, subnet: cfg.Subnet, addr: cfg.Addresses(), host: cfg.HostLoopback,
		published: published, flows: make(map[flow]time.Time),
	}
}

// pass tells whether a frame is let through.
func (f *filter) pass(frame []byte, now time.Time) bool {
	if len(frame) < ethernetHeader || len(frame) > f.longest || [6]byte(frame[6:12]) != f.mac {
		return false
	}
	body := frame[ethernetHeader:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case typeARP:
		return len(body) >= arpLength
	case typeIPv4:
		return len(body) >= ipv4Header && f.packet(body, now)
	}
	return false
}

func (f *filter) packet(p []byte, now time.Time) bool {
	header := int(p[0]&15) * 4
	if p[0]>>4 != 4 || header < ipv4Header || len(p) < header {
		return false
	}
	proto, src, dst := p[9], netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
	fragment := binary.BigEndian.Uint16(p[6:])&0x3fff != 0 // more of them, or not the first
	var from, port uint16
	if l4 := p[header:]; !fragment && len(l4) >= 4 {
		from, port = binary.BigEndian.Uint16(l4), binary.BigEndian.Uint16(l4[2:])
	}
	if proto == protoUDP && port == portDHCP && (dst == f.addr.Gateway || dst == netip.AddrFrom4([4]byte{255, 255, 255, 255})) {
		return src == f.addr.Guest || src.IsUnspecified()
	}
	if src != f.addr.Guest || dst.As4()[0] == 0 || dst.IsLoopback() || dst.IsMulticast() || dst.As4()[0] >= 240 {
		return false
	}
	switch {
	case dst == f.addr.Gateway:
		return f.toGateway(p[header:], proto, fragment, flow{from, netip.AddrPortFrom(dst, port)}, now)
	case f.subnet.Contains(dst) && (!f.host || dst != f.addr.Host):
		return false // it is not what has that address on the host's own network
	case proto == protoUDP && fragment:
		return binary.BigEndian.Uint16(p[6:])&0x1fff != 0 || f.flow(flow{0, netip.AddrPortFrom(dst, 0)}, now)
	case proto == protoUDP:
		return f.flow(flow{from, netip.AddrPortFrom(dst, port)}, now)
	}
	return proto == protoTCP || proto == protoICMP
}

// toGateway passes on what the gateway serves, and answers to those who came in
// by a published port, whom the guest sees at the gateway's address. The stack
// would dial what has that address on the host's own network.
func (f *filter) toGateway(l4 []byte, proto byte, fragment bool, key flow, now time.Time) bool {
	switch {
	case proto == protoICMP:
		return true
	case fragment:
		return false
	case key.to.Port() == portDNS:
		return f.query(now)
	case proto == protoTCP:
		const syn, ack = 2, 16
		return len(l4) >= tcpHeader && l4[13]&(syn|ack) != syn
	}
	return proto == protoUDP && f.published[key.port] && f.flow(key, now)
}

// flow tells whether a flow goes on or one more may begin.
func (f *filter) flow(key flow, now time.Time) bool {
	if _, ok := f.flows[key]; !ok && len(f.flows) >= maxFlows {
		for k, last := range f.flows {
			if now.Sub(last) > flowTime {
				delete(f.flows, k)
			}
		}
		if len(f.flows) >= maxFlows {
			return false
		}
	}
	f.flows[key] = now
	return true
}

// query tells whether one more packet to the DNS server is within the bound.
func (f *filter) query(now time.Time) bool {
	if now.Sub(f.second) >= time.Second || now.Before(f.second) {
		f.second, f.queries = now, 0
	}
	f.queries++
	return f.queries <= maxQueries
}
