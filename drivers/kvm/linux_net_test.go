//go:build linux && amd64

package kvm_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor"
)

// freePort gives a port of the loopback that nobody listens on.
func freePort(t *testing.T) uint16 {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	return netip.MustParseAddrPort(ln.Addr().String()).Port()
}

// helpers are the processes of network user that this process has started.
func helpers(t *testing.T) []int {
	t.Helper()
	var pids []int
	dirs, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(t, err)
	for _, d := range dirs {
		cmdline, _ := os.ReadFile(d + "/cmdline")
		if pid, err := strconv.Atoi(filepath.Base(d)); err == nil && strings.HasPrefix(string(cmdline), "polyvisor-usernet\x00") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// A stock kernel on network user: a published port leads to it, what goes through comes
// back as it was, a killed helper is an event and no more, and nothing is left.
func TestLinuxNetwork(t *testing.T) {
	l := newLab(t)
	c, ctx := l.open(t), patiently
	sub, err := c.Subscribe(ctx(t), polyvisor.SubscribeOptions{})
	require.NoError(t, err)
	defer sub.Close()

	port := freePort(t)
	cfg := l.config("net", 1, 128*polyvisor.MiB, "")
	cfg.NICs = []polyvisor.NIC{{Network: polyvisor.NetworkUser, Forwards: []polyvisor.PortForward{{HostPort: port, GuestPort: 7}}}}
	before := len(helpers(t))
	d, con := l.boot(t, c, cfg)
	require.Len(t, helpers(t), before+1)
	config, err := d.Config(ctx(t))
	require.NoError(t, err)
	nic := config.NICs[0].MAC

	con.write(t, "address 192.168.127.2/24")
	con.await(t, "address set", 1)
	con.write(t, "echo-server 7")
	con.await(t, "listening", 1)
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), patience)
	require.NoError(t, err)
	data := make([]byte, 256<<10)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(data)
	echoed(t, conn, data)
	con.await(t, fmt.Sprintf("echoed %d", len(data)), 1)
	s, err := d.Stats(ctx(t))
	require.NoError(t, err)
	require.Len(t, s.NICs, 1)
	require.Equal(t, nic, s.NICs[0].MAC)
	require.Greater(t, int(s.NICs[0].RXBytes), len(data))
	require.Greater(t, int(s.NICs[0].TXBytes), len(data))

	// A second domain cannot have the port.
	other := l.config("other", 1, 128*polyvisor.MiB, "")
	other.NICs = []polyvisor.NIC{{Forwards: []polyvisor.PortForward{{HostPort: port}}}}
	_, err = c.Create(ctx(t), other)
	requireCode(t, err, polyvisor.ErrBusy, strconv.Itoa(int(port)))

	// Killed helper.
	for _, pid := range helpers(t)[before:] {
		require.NoError(t, unix.Kill(pid, unix.SIGKILL))
	}
	for {
		e, err := sub.Next(ctx(t))
		require.NoError(t, err)
		if e.Type == polyvisor.EventDeviceError {
			require.Equal(t, nic.String(), e.Device)
			require.Contains(t, e.Detail, "network back end: ")
			break
		}
	}
	con.write(t, "echo still here")
	con.await(t, "\nstill here\r\n", 1)
	require.NoError(t, d.Destroy(ctx(t)))
	eventually(t, func() bool { return len(helpers(t)) == before }, "a helper is left")
}
