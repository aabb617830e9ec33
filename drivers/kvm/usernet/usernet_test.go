//go:build linux

package usernet_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/netback"
)

// serveTCP answers each connection to the host's loopback with handle.
func serveTCP(t testing.TB, handle func(net.Conn)) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			handle(c)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().(*net.TCPAddr).Port
}

func dial(t testing.TB, g *guest, ip netip.Addr, port int) (net.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return gonet.DialContextTCP(ctx, g.Stack, at(ip, port), ipv4.ProtocolNumber)
}

func freePort(t testing.TB, network string) uint16 {
	t.Helper()
	if network == "udp" {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		require.NoError(t, err)
		defer c.Close()
		return uint16(c.LocalAddr().(*net.UDPAddr).Port)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func TestLease(t *testing.T) {
	for _, cfg := range []netback.UserConfig{{}, {MTU: 9000, Subnet: netip.MustParsePrefix("10.9.8.64/27")}} {
		end, _ := start(t, cfg)
		ack, want := lease(t, end), cfg.Addresses()
		assert.Equal(t, want.Guest.String(), ack.YourIPAddr.String())
		assert.Equal(t, want.Gateway.String(), ack.Router()[0].String())
		assert.Equal(t, want.Gateway.String(), ack.DNS()[0].String())
		mtu := max(cfg.MTU, 1500*(1-min(cfg.MTU, 1)))
		assert.Equal(t, []byte{byte(mtu >> 8), byte(mtu)}, ack.Options.Get(dhcpOptionMTU))
	}
}

func TestDNS(t *testing.T) {
	cfg := netback.UserConfig{HostLoopback: true, Hostname: "web"}
	end, _ := start(t, cfg)
	g := boot(t, end, cfg)
	server := at(g.addr.Gateway, 53)
	ask := func(name string) *dns.Msg {
		c, err := gonet.DialUDP(g.Stack, nil, &server, ipv4.ProtocolNumber)
		require.NoError(t, err)
		co := &dns.Conn{Conn: c}
		defer co.Close()
		require.NoError(t, co.SetDeadline(time.Now().Add(30*time.Second)))
		require.NoError(t, co.WriteMsg(new(dns.Msg).SetQuestion(name, dns.TypeA)))
		m, err := co.ReadMsg()
		require.NoError(t, err)
		return m
	}
	for name, want := range map[string]netip.Addr{"gateway": g.addr.Gateway, "host": g.addr.Host, "web": g.addr.Guest} {
		m := ask(name + "." + netback.Zone + ".")
		require.Len(t, m.Answer, 1, name)
		assert.Equal(t, want.String(), m.Answer[0].(*dns.A).A.String())
	}
	assert.Equal(t, dns.RcodeNameError, ask("nobody."+netback.Zone+".").Rcode)
}

// The host's loopback is there if asked for, and nowhere else.
func TestHostLoopback(t *testing.T) {
	port := serveTCP(t, func(c net.Conn) { _, _ = io.WriteString(c, "hello") })
	for _, on := range []bool{true, false} {
		cfg := netback.UserConfig{HostLoopback: on}
		end, _ := start(t, cfg)
		g := boot(t, end, cfg)
		if on {
			c, err := dial(t, g, g.addr.Host, port)
			require.NoError(t, err)
			b, err := io.ReadAll(c)
			require.NoError(t, err)
			assert.Equal(t, "hello", string(b))
			c.Close()
			continue
		}
		for _, ip := range []string{g.addr.Host.String(), g.addr.Gateway.String(), "127.0.0.1", "0.0.0.0", "127.1.2.3"} {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			c, err := gonet.DialContextTCP(ctx, g.Stack, at(netip.MustParseAddr(ip), port), ipv4.ProtocolNumber)
			cancel()
			if !assert.Error(t, err, "the host's loopback is reached at %s", ip) {
				c.Close()
			}
		}
	}
}

// What a guest sends and receives arrives whole, and no frame is longer than
// the MTU permits.
func TestTransfer(t *testing.T) {
	data := make([]byte, 8<<20)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	for _, mtu := range []int{0, 576, 9000} {
		port := serveTCP(t, func(c net.Conn) {
			h := sha256.New()
			_, _ = io.Copy(h, io.LimitReader(c, int64(len(data))))
			_, _ = c.Write(h.Sum(nil))
			_, _ = c.Write(data)
		})
		cfg := netback.UserConfig{HostLoopback: true, MTU: mtu}
		end, _ := start(t, cfg)
		g := boot(t, end, cfg)
		c, err := dial(t, g, g.addr.Host, port)
		require.NoError(t, err)
		_, err = c.Write(data)
		require.NoError(t, err)
		back, err := io.ReadAll(c)
		require.NoError(t, err)
		c.Close()
		sum := sha256.Sum256(data)
		require.True(t, bytes.Equal(append(sum[:], data...), back), "%d bytes came back", len(back))
		if mtu == 0 {
			mtu = netback.DefaultMTU
		}
		assert.LessOrEqual(t, g.longest.Load(), int64(mtu+14))
	}
}

func TestForwards(t *testing.T) {
	local := netip.MustParseAddr("127.0.0.1")
	cfg := netback.UserConfig{Forwards: []netback.Forward{
		{Protocol: "tcp", Host: local, HostPort: freePort(t, "tcp"), GuestPort: 80}, {Protocol: "udp", Host: local, HostPort: freePort(t, "udp"), GuestPort: 7},
	}}
	end, _ := start(t, cfg)
	g := boot(t, end, cfg)
	l, err := gonet.ListenTCP(g.Stack, at(g.addr.Guest, 80), ipv4.ProtocolNumber)
	require.NoError(t, err)
	defer l.Close()
	echo := at(g.addr.Guest, 7)
	u, err := gonet.DialUDP(g.Stack, &echo, nil, ipv4.ProtocolNumber)
	require.NoError(t, err)
	go func() {
		b := make([]byte, 100)
		for n, from, err := u.ReadFrom(b); err == nil; n, from, err = u.ReadFrom(b) {
			_, _ = u.WriteTo(b[:n], from)
		}
	}()
	defer u.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			_, _ = io.Copy(c, c)
			c.Close()
		}
	}()
	for _, f := range cfg.Forwards {
		c, err := net.Dial(f.Protocol, netip.AddrPortFrom(f.Host, f.HostPort).String())
		require.NoError(t, err)
		require.NoError(t, c.SetDeadline(time.Now().Add(30*time.Second)))
		_, err = io.WriteString(c, "published")
		require.NoError(t, err)
		b := make([]byte, len("published"))
		_, err = io.ReadFull(c, b)
		require.NoError(t, err, f)
		assert.Equal(t, "published", string(b))
		c.Close()
	}
}

func TestPortInUse(t *testing.T) {
	port := serveTCP(t, func(net.Conn) {})
	program, err := netback.FindProgram("")
	require.NoError(t, err)
	_, _, err = netback.StartUser(t.Context(), program, netback.UserConfig{MAC: guestMAC, Forwards: []netback.Forward{
		{Protocol: "tcp", Host: netip.MustParseAddr("127.0.0.1"), HostPort: uint16(port), GuestPort: 80}}})
	require.ErrorIs(t, err, netback.ErrInUse)
	require.ErrorContains(t, err, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port)).String())
}

func TestHelperKilled(t *testing.T) {
	end, proc := start(t, netback.UserConfig{})
	answers(t, end, netback.UserConfig{})
	require.NoError(t, syscall.Kill(proc.PID(), syscall.SIGKILL))
	<-proc.Done()
	_, err := end.Read(make([]byte, 100))
	require.True(t, isEnd(err), "%v", err)
}

// Many lives leave no process behind; TestMain sees to descriptors.
func TestEnds(t *testing.T) {
	for range 30 {
		end, proc := start(t, netback.UserConfig{})
		require.NoError(t, end.Close())
		select {
		case <-proc.Done():
		case <-time.After(30 * time.Second):
			t.Fatal("the helper outlives the VM's end of the socket")
		}
		require.ErrorIs(t, syscall.Kill(proc.PID(), 0), syscall.ESRCH)
	}
}

// The helper has its own five descriptors and what it opened itself, whatever
// its starter has left open.
func TestInheritsNothing(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "secret")
	require.NoError(t, err)
	defer f.Close()
	fd, err := syscall.Dup(int(f.Fd())) // which a child inherits
	require.NoError(t, err)
	defer syscall.Close(fd)
	_, proc := start(t, netback.UserConfig{})
	dir := "/proc/" + itoa(proc.PID()) + "/fd/"
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.NotEmpty(t, entries)
	for _, e := range entries {
		target, _ := os.Readlink(dir + e.Name())
		assert.False(t, strings.Contains(target, "secret"), "fd %s is %s", e.Name(), target)
	}
}

func TestStartErrors(t *testing.T) {
	_, err := netback.FindProgram("/no/such/helper")
	require.ErrorIs(t, err, netback.ErrNoProgram)
	require.ErrorContains(t, err, "usernet=")
	program, err := netback.FindProgram("/bin/true")
	require.NoError(t, err)
	_, _, err = netback.StartUser(t.Context(), program, netback.UserConfig{MAC: guestMAC})
	require.ErrorContains(t, err, "is it a polyvisor-usernet")
	_, _, err = netback.StartUser(t.Context(), program, netback.UserConfig{MTU: 70000, Subnet: netip.MustParsePrefix("::/64")})
	require.ErrorContains(t, err, "MTU 70000")
	require.ErrorContains(t, err, "subnet ::/64")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	self, err := netback.FindProgram("")
	require.NoError(t, err)
	_, _, err = netback.StartUser(ended, self, netback.UserConfig{MAC: guestMAC})
	require.ErrorIs(t, err, context.Canceled)
}

// A flood of frames without sense leaves the helper as it was.
func TestFlood(t *testing.T) {
	end, _ := start(t, netback.UserConfig{})
	for i := range 20000 {
		b := make([]byte, rand.IntN(1600))
		for j := range b {
			b[j] = byte(rand.Uint32())
		}
		if len(b) > 40 && i%2 == 0 { // past the first checks
			copy(b[6:], guestMAC[:])
			copy(b[12:], []byte{8, byte(i & 4 / 4 * 6), 0x45})
		}
		_, err := end.Write(b)
		require.NoError(t, err)
	}
	_, err := syscall.Write(int(mustFd(t, end)), nil) // an empty message is not the end
	require.NoError(t, err)
	answers(t, end, netback.UserConfig{})
}
