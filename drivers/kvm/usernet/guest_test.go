//go:build linux

package usernet_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/netback"
)

var guestMAC = [6]byte{0x52, 0x54, 0, 1, 2, 3}

// start starts a helper, which ends with the test.
func start(t testing.TB, cfg netback.UserConfig) (*os.File, *netback.Process) {
	t.Helper()
	program, err := netback.FindProgram("")
	require.NoError(t, err)
	cfg.MAC, cfg.Log = guestMAC, os.Stderr
	end, proc, err := netback.StartUser(t.Context(), program, cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		end.Close()
		<-proc.Done()
	})
	return end, proc
}

// guest is a stack at the VM's end of the socket.
type guest struct {
	*stack.Stack
	addr    netback.Addresses
	longest atomic.Int64 // frame from the helper
}

// boot gives the guest the address that it is to have by DHCP.
func boot(t testing.TB, end *os.File, cfg netback.UserConfig) *guest {
	t.Helper()
	require.NoError(t, func() error { c := cfg; c.MAC = guestMAC; return c.Check() }())
	if cfg.MTU == 0 {
		cfg.MTU = netback.DefaultMTU
	}
	g := &guest{addr: cfg.Addresses()}
	g.Stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	link := channel.New(256, uint32(cfg.MTU)+header.EthernetMinimumSize, tcpip.LinkAddress(guestMAC[:]))
	require.Nil(t, g.CreateNIC(1, ethernet.New(link)))
	require.Nil(t, g.AddProtocolAddress(1, tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddressWithPrefix{
		Address: tcpip.AddrFrom4(g.addr.Guest.As4()), PrefixLen: 24}}, stack.AddressProperties{}))
	g.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, Gateway: tcpip.AddrFrom4(g.addr.Gateway.As4()), NIC: 1}})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for pkt := link.ReadContext(ctx); pkt != nil; pkt = link.ReadContext(ctx) {
			v := pkt.ToView()
			_, _ = end.Write(v.AsSlice())
			v.Release()
			pkt.DecRef()
		}
	})
	wg.Go(func() {
		buf := make([]byte, 1<<17)
		for {
			n, err := end.Read(buf)
			if err != nil {
				return
			}
			g.longest.Store(max(g.longest.Load(), int64(n)))
			pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(buf[:n])})
			link.InjectInbound(0, pkt)
			pkt.DecRef()
		}
	})
	t.Cleanup(func() {
		cancel()
		end.Close()
		wg.Wait()
		g.Stack.Destroy()
	})
	return g
}

// at is an address as the stack writes it.
func at(ip netip.Addr, port int) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: 1, Addr: tcpip.AddrFrom4(ip.As4()), Port: uint16(port)}
}

// frame makes a frame of the guest with a UDP packet.
func frame(src, dst netip.Addr, from, to uint16, payload []byte) []byte {
	b := make([]byte, header.EthernetMinimumSize+header.IPv4MinimumSize+header.UDPMinimumSize+len(payload))
	header.Ethernet(b).Encode(&header.EthernetFields{SrcAddr: tcpip.LinkAddress(guestMAC[:]), DstAddr: header.EthernetBroadcastAddress, Type: header.IPv4ProtocolNumber})
	ip := header.IPv4(b[header.EthernetMinimumSize:])
	ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(ip)), TTL: 64, Protocol: uint8(header.UDPProtocolNumber), SrcAddr: tcpip.AddrFrom4(src.As4()), DstAddr: tcpip.AddrFrom4(dst.As4())})
	ip.SetChecksum(^ip.CalculateChecksum())
	u := header.UDP(ip[header.IPv4MinimumSize:])
	copy(u.Payload(), payload)
	u.Encode(&header.UDPFields{SrcPort: from, DstPort: to, Length: uint16(len(u))})
	copy(u[header.UDPMinimumSize:], payload)
	sum := header.PseudoHeaderChecksum(header.UDPProtocolNumber, ip.SourceAddress(), ip.DestinationAddress(), uint16(len(u)))
	u.SetChecksum(^u.CalculateChecksum(checksum.Checksum(payload, sum)))
	return b
}

// lease asks for an address.
func lease(t testing.TB, end *os.File) *dhcpv4.DHCPv4 {
	t.Helper()
	exchange := func(m *dhcpv4.DHCPv4, err error) *dhcpv4.DHCPv4 {
		require.NoError(t, err)
		_, err = end.Write(frame(netip.IPv4Unspecified(), netip.AddrFrom4([4]byte{255, 255, 255, 255}), 68, 67, m.ToBytes()))
		require.NoError(t, err)
		buf := make([]byte, 1<<16)
		for {
			n, err := end.Read(buf)
			require.NoError(t, err)
			const at = header.EthernetMinimumSize + header.IPv4MinimumSize + header.UDPMinimumSize
			if n > at && header.Ethernet(buf).Type() == header.IPv4ProtocolNumber {
				if reply, err := dhcpv4.FromBytes(buf[at:n]); err == nil {
					return reply
				}
			}
		}
	}
	require.NoError(t, end.SetReadDeadline(time.Now().Add(30*time.Second)))
	defer end.SetReadDeadline(time.Time{})
	offer := exchange(dhcpv4.NewDiscovery(net.HardwareAddr(guestMAC[:])))
	require.Equal(t, dhcpv4.MessageTypeOffer, offer.MessageType())
	ack := exchange(dhcpv4.NewRequestFromOffer(offer))
	require.Equal(t, dhcpv4.MessageTypeAck, ack.MessageType())
	return ack
}

// answers tells whether the gateway answers for its address.
func answers(t testing.TB, end *os.File, cfg netback.UserConfig) {
	t.Helper()
	a := cfg.Addresses()
	b := make([]byte, header.EthernetMinimumSize+header.ARPSize)
	header.Ethernet(b).Encode(&header.EthernetFields{SrcAddr: tcpip.LinkAddress(guestMAC[:]), DstAddr: header.EthernetBroadcastAddress, Type: header.ARPProtocolNumber})
	h := header.ARP(b[header.EthernetMinimumSize:])
	h.SetIPv4OverEthernet()
	h.SetOp(header.ARPRequest)
	copy(h.HardwareAddressSender(), guestMAC[:])
	copy(h.ProtocolAddressSender(), a.Guest.AsSlice())
	copy(h.ProtocolAddressTarget(), a.Gateway.AsSlice())
	require.NoError(t, end.SetDeadline(time.Now().Add(30*time.Second)))
	defer end.SetDeadline(time.Time{})
	_, err := end.Write(b)
	require.NoError(t, err)
	buf := make([]byte, 1<<17)
	for {
		n, err := end.Read(buf)
		require.NoError(t, err, "the helper does not answer any more")
		if n >= len(b) && header.Ethernet(buf).Type() == header.ARPProtocolNumber && header.ARP(buf[header.EthernetMinimumSize:n]).Op() == header.ARPReply {
			return
		}
	}
}

// isEnd tells whether an error is the end of the socket.
func isEnd(err error) bool { return errors.Is(err, io.EOF) }
