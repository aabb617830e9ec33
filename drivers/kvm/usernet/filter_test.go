package usernet

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/netback"
)

var card = [6]byte{2, 0, 0, 0, 0, 1}

// packet is an IPv4 frame of the card with as much of a header as the filter
// looks at.
func packet(proto byte, src, dst string, from, to uint16, flags byte) []byte {
	b := make([]byte, ethernetHeader+ipv4Header+tcpHeader)
	copy(b[6:], card[:])
	binary.BigEndian.PutUint16(b[12:], typeIPv4)
	p := b[ethernetHeader:]
	p[0], p[9] = 0x45, proto
	copy(p[12:], netip.MustParseAddr(src).AsSlice())
	copy(p[16:], netip.MustParseAddr(dst).AsSlice())
	binary.BigEndian.PutUint16(p[20:], from)
	binary.BigEndian.PutUint16(p[22:], to)
	p[33] = flags
	return b
}

func config(t testing.TB, host bool) *netback.UserConfig {
	cfg := &netback.UserConfig{MAC: card, HostLoopback: host, Forwards: []netback.Forward{
		{Protocol: "udp", Host: netip.MustParseAddr("127.0.0.1"), HostPort: 9, GuestPort: 7}, {Protocol: "tcp", Host: netip.MustParseAddr("127.0.0.1"), HostPort: 9, GuestPort: 8}}}
	require.NoError(t, cfg.Check())
	return cfg
}

func TestFilter(t *testing.T) {
	const guest, gateway, host, out, syn = "192.168.127.2", "192.168.127.1", "192.168.127.254", "203.0.113.5", 2
	changed := func(b []byte, at int, to byte) []byte { b[at] = to; return b }
	now := time.Unix(1000, 0)
	for _, tt := range []struct {
		name    string
		frame   []byte
		off, on bool // with the host's loopback off and on
	}{
		{name: "nothing"},
		{name: "short", frame: make([]byte, 13)},
		{name: "outside", frame: packet(protoTCP, guest, out, 1, 80, syn), off: true, on: true},
		{name: "outside by UDP", frame: packet(protoUDP, guest, out, 1, 80, 0), off: true, on: true},
		{name: "ping", frame: packet(protoICMP, guest, gateway, 0, 0, 0), off: true, on: true},
		{name: "another protocol", frame: packet(47, guest, out, 0, 0, 0)},
		{name: "another card", frame: changed(packet(protoTCP, guest, out, 1, 80, syn), 11, 9)},
		{name: "another source", frame: packet(protoTCP, "192.168.127.3", out, 1, 80, syn)},
		{name: "IPv6", frame: changed(packet(protoTCP, guest, out, 1, 80, syn), 12, 0x86)},
		{name: "version 6 in IPv4", frame: changed(packet(protoTCP, guest, out, 1, 80, syn), 14, 0x65)},
		{name: "header of 4 bytes", frame: changed(packet(protoTCP, guest, out, 1, 80, syn), 14, 0x41)},
		{name: "header beyond the frame", frame: changed(packet(protoTCP, guest, out, 1, 80, syn), 14, 0x4f)},
		{name: "too long", frame: append(packet(protoTCP, guest, out, 1, 80, syn), make([]byte, 1500)...)},
		{name: "loopback", frame: packet(protoTCP, guest, "127.0.0.1", 1, 80, syn)},
		{name: "any address", frame: packet(protoTCP, guest, "0.0.0.0", 1, 80, syn)},
		{name: "multicast", frame: packet(protoUDP, guest, "224.0.0.251", 1, 5353, 0)},
		{name: "reserved", frame: packet(protoTCP, guest, "250.1.1.1", 1, 80, syn)},
		{name: "host", frame: packet(protoTCP, guest, host, 1, 80, syn), on: true},
		{name: "neighbour", frame: packet(protoTCP, guest, "192.168.127.77", 1, 80, syn)},
		{name: "gateway", frame: packet(protoTCP, guest, gateway, 1, 80, syn)},
		{name: "gateway by UDP", frame: packet(protoUDP, guest, gateway, 1, 80, 0)},
		{name: "answer to the gateway", frame: packet(protoTCP, guest, gateway, 8, 4000, syn|16), off: true, on: true},
		{name: "answer by UDP", frame: packet(protoUDP, guest, gateway, 7, 4000, 0), off: true, on: true},
		{name: "answer of another port", frame: packet(protoUDP, guest, gateway, 8, 4000, 0)},
		{name: "fragment to the gateway", frame: changed(packet(protoTCP, guest, gateway, 1, 53, 0), 20, 0x20)},
		{name: "DNS", frame: packet(protoUDP, guest, gateway, 1, 53, 0), off: true, on: true},
		{name: "DNS by TCP", frame: packet(protoTCP, guest, gateway, 1, 53, syn), off: true, on: true},
		{name: "DHCP", frame: packet(protoUDP, "0.0.0.0", "255.255.255.255", 68, 67, 0), off: true, on: true},
		{name: "DHCP of another", frame: packet(protoUDP, "192.168.127.3", gateway, 68, 67, 0)},
		{name: "DHCP elsewhere", frame: packet(protoUDP, "0.0.0.0", out, 68, 67, 0)},
		{name: "no address", frame: packet(protoTCP, "0.0.0.0", out, 1, 80, syn)},
	} {
		assert.Equal(t, tt.off, newFilter(config(t, false)).pass(tt.frame, now), "%s, host's loopback off", tt.name)
		assert.Equal(t, tt.on, newFilter(config(t, true)).pass(tt.frame, now), "%s, host's loopback on", tt.name)
	}
}

// What a guest can make the stack keep is bounded, and comes back with time.
func TestFilterBounds(t *testing.T) {
	f, now := newFilter(config(t, false)), time.Unix(1000, 0)
	passed := func(to uint16, dst string, from, n int) (count int) {
		for i := range n {
			if f.pass(packet(protoUDP, "192.168.127.2", dst, uint16(from+i), to, 0), now) {
				count++
			}
		}
		return count
	}
	assert.Equal(t, maxFlows, passed(80, "203.0.113.5", 1, 2*maxFlows))
	assert.Equal(t, maxFlows, passed(80, "203.0.113.5", 1, 2*maxFlows), "those that are known go on")
	assert.Equal(t, maxQueries, passed(53, "192.168.127.1", 1, 2*maxQueries))
	now = now.Add(time.Second)
	assert.Equal(t, maxQueries, passed(53, "192.168.127.1", 1, 2*maxQueries))
	now = now.Add(2 * flowTime)
	assert.Equal(t, maxFlows, passed(80, "203.0.113.5", 5000, 2*maxFlows))
	assert.LessOrEqual(t, len(f.flows), maxFlows)
}

func TestFilterAllocatesNothing(t *testing.T) {
	f, now := newFilter(config(t, false)), time.Unix(1000, 0)
	tcp, udp := packet(protoTCP, "192.168.127.2", "203.0.113.5", 1, 80, 2), packet(protoUDP, "192.168.127.2", "203.0.113.5", 1, 80, 0)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if !f.pass(tcp, now) || !f.pass(udp, now) {
			t.Fatal("dropped")
		}
	}))
}

// FuzzFilter: what passes is a frame of the card, of a length that the stack can
// take, from the guest's address and not to the host's loopback.
func FuzzFilter(f *testing.F) {
	f.Add(packet(protoTCP, "192.168.127.2", "203.0.113.5", 1, 80, 2))
	f.Add(packet(protoUDP, "0.0.0.0", "255.255.255.255", 68, 67, 0))
	f.Add(make([]byte, 42))
	f.Fuzz(func(t *testing.T, b []byte) {
		fl := newFilter(config(t, false))
		if !fl.pass(b, time.Unix(1000, 0)) {
			return
		}
		require.GreaterOrEqual(t, len(b), ethernetHeader+ipv4Header)
		require.LessOrEqual(t, len(b), fl.longest)
		require.Equal(t, card[:], b[6:12])
		if binary.BigEndian.Uint16(b[12:]) == typeIPv4 {
			src, dst := netip.AddrFrom4([4]byte(b[26:30])), netip.AddrFrom4([4]byte(b[30:34]))
			require.True(t, src == fl.addr.Guest || src.IsUnspecified())
			require.False(t, dst.IsLoopback() || dst.IsUnspecified())
		}
	})
}
