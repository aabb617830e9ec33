//go:build linux && amd64

package kvm_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/polyvisor/polyvisor"
)

// needTaps skips where a test cannot have taps of its own.
func needTaps(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root for taps")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skipf("needs taps: %v", err)
	}
}

// addLink makes a link of the host that goes with the test, and is up with an address.
func addLink(t testing.TB, l netlink.Link, address string) {
	t.Helper()
	if err := netlink.LinkAdd(l); err != nil {
		t.Skipf("needs the right to make links: %v", err)
	}
	if tap, ok := l.(*netlink.Tuntap); ok {
		for _, f := range tap.Fds {
			require.NoError(t, f.Close())
		}
	}
	made, err := netlink.LinkByName(l.Attrs().Name)
	require.NoError(t, err)
	t.Cleanup(func() { _ = netlink.LinkDel(made) })
	require.NoError(t, netlink.LinkSetUp(made))
	if address != "" {
		addr, err := netlink.ParseAddr(address)
		require.NoError(t, err)
		require.NoError(t, netlink.AddrAdd(made, addr))
	}
}

func bridge(name string, mtu int) *netlink.Bridge {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, mtu
	return &netlink.Bridge{LinkAttrs: attrs}
}

func persistentTap(name string) *netlink.Tuntap {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	return &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI}
}

// ports gives the taps on a bridge.
func ports(t testing.TB, bridge string) []string {
	t.Helper()
	dirs, err := filepath.Glob("/sys/class/net/" + bridge + "/brif/*")
	require.NoError(t, err)
	for i, d := range dirs {
		dirs[i] = filepath.Base(d)
	}
	return dirs
}

func queuesOf(t testing.TB, link string) int {
	t.Helper()
	dirs, err := filepath.Glob("/sys/class/net/" + link + "/queues/tx-*")
	require.NoError(t, err)
	return len(dirs)
}

// echoed sends data over a connection to who gives it back, and checks that it comes
// back as it was.
func echoed(t testing.TB, conn net.Conn, data []byte) {
	t.Helper()
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(data)
		sent <- errors.Join(err, conn.(interface{ CloseWrite() error }).CloseWrite())
	}()
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.NoError(t, <-sent)
	require.True(t, bytes.Equal(data, got), "%d bytes came back of %d", len(got), len(data))
}

// A stock kernel on a tap that was there and on one that is made and joined to a bridge:
// addresses, MTUs, offloads, queues, and what goes through.
func TestLinuxTap(t *testing.T) {
	l := newLab(t)
	needTaps(t)
	addLink(t, persistentTap("pvtap"), "10.77.1.1/24")
	addLink(t, bridge("pvbridge", 1400), "10.77.2.1/24")
	c, ctx := l.open(t), patiently

	cfg := l.config("tap", 2, 128*polyvisor.MiB, "")
	cfg.NICs = []polyvisor.NIC{
		{Network: polyvisor.NetworkTap, Source: "pvtap", MAC: polyvisor.MAC{0x52, 0x54, 0, 0x77, 0, 1}},
		{Network: polyvisor.NetworkBridge, Source: "pvbridge", MAC: polyvisor.MAC{0x52, 0x54, 0, 0x77, 0, 2}, Queues: 2},
	}
	d, con := l.boot(t, c, cfg)
	made := ports(t, "pvbridge")
	require.Len(t, made, 1)

	con.write(t, "nics")
	con.await(t, "\neth0 52:54:00:77:00:01 1500\r\n", 1)
	con.await(t, "\neth1 52:54:00:77:00:02 1400\r\n", 1)
	con.write(t, "virtio")
	con.write(t, "echo looked")
	con.await(t, "\nlooked\r\n", 1)
	for i, mq := range []byte{'0', '1'} {
		found := regexp.MustCompile(fmt.Sprintf(`\nvirtio%d 0x0001 ([01]{64})\r\n`, i)).FindStringSubmatch(con.String())
		require.NotNil(t, found, "the features of NIC %d in %s", i, con)
		bits := found[1]
		// CSUM, GUEST_CSUM, CTRL_GUEST_OFFLOADS, MTU, MAC, GUEST_TSO4 and 6, HOST_TSO4 and 6, MRG_RXBUF, STATUS, CTRL_VQ
		for _, bit := range []int{0, 1, 2, 3, 5, 7, 8, 11, 12, 15, 16, 17} {
			require.Equal(t, byte('1'), bits[bit], "feature %d of %s", bit, bits)
		}
		require.Equal(t, mq, bits[22], "several queues of NIC %d", i)
	}
	con.write(t, "address 10.77.1.2/24 eth0")
	con.await(t, "address set", 1)
	con.write(t, "address 10.77.2.2/24 eth1")
	con.await(t, "address set", 2)
	con.write(t, "queues")
	con.await(t, "\neth0 rx 1 tx 1\r\n", 1)
	con.await(t, "\neth1 rx 2 tx 2\r\n", 1)
	require.Equal(t, 2, queuesOf(t, made[0]), "the driver has asked for one for each processor")

	data := make([]byte, 4<<20)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(data)
	for i, subnet := range []string{"10.77.1.", "10.77.2."} {
		con.write(t, "echo-server 7")
		con.await(t, "listening", i+1)
		conn, err := net.DialTimeout("tcp", subnet+"2:7", patience)
		require.NoError(t, err)
		echoed(t, conn, data)
		con.await(t, fmt.Sprintf("echoed %d", len(data)), 2*i+1)
		// And called by the guest.
		ln, err := net.Listen("tcp", subnet+"1:0")
		require.NoError(t, err)
		require.NoError(t, ln.(*net.TCPListener).SetDeadline(time.Now().Add(patience)))
		con.write(t, fmt.Sprintf("echo-client %s1 %d", subnet, ln.Addr().(*net.TCPAddr).Port))
		conn, err = ln.Accept()
		require.NoError(t, err)
		require.NoError(t, ln.Close())
		echoed(t, conn, data)
		con.await(t, fmt.Sprintf("echoed %d", len(data)), 2*i+2)
	}
	s, err := d.Stats(ctx(t))
	require.NoError(t, err)
	require.Len(t, s.NICs, 2)
	for i, n := range s.NICs {
		t.Logf("%+v", n)
		require.Greater(t, int(n.RXBytes), 2*len(data))
		require.Greater(t, int(n.TXBytes), 2*len(data))
		// Without segmentation offloads no frame is longer, and acknowledgements are short.
		largest := []uint64{1514, 1414}[i]
		require.Greater(t, uint64(n.RXBytes)/n.RXPackets, largest, "large segments from the host")
		require.Greater(t, uint64(n.TXBytes)/n.TXPackets, largest, "large segments from the guest")
	}

	// A pause in the middle of a transfer: nothing of the guest's memory changes meanwhile, and nothing is lost.
	con.write(t, "echo-server 8")
	con.await(t, "listening", 3)
	conn, err := net.DialTimeout("tcp", "10.77.1.2:8", patience)
	require.NoError(t, err)
	_, err = conn.Write(data[:1<<20])
	require.NoError(t, err)
	require.NoError(t, d.Suspend(ctx(t)))
	var sums [2][sha256.Size]byte
	for i := range sums {
		path := filepath.Join(t.TempDir(), "core")
		require.NoError(t, d.CoreDump(ctx(t), path))
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.Remove(path))
		sums[i] = sha256.Sum256(b)
	}
	require.Equal(t, sums[0], sums[1], "the memory of a paused guest")
	require.NoError(t, d.Resume(ctx(t)))
	got := make([]byte, 1<<20)
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = io.ReadFull(conn, got)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data[:1<<20], got))
	require.NoError(t, conn.Close())
	con.await(t, "echoed 1048576", 1)

	require.NoError(t, d.Destroy(ctx(t)))
	eventually(t, func() bool { return len(ports(t, "pvbridge")) == 0 }, "the tap that was made is left")
	_, err = netlink.LinkByName("pvtap")
	require.NoError(t, err, "the other stays")
}
