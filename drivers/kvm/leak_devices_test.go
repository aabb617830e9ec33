//go:build linux && amd64

package kvm_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/guest"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk/qcow2"
)

// canTap says whether this process can make taps.
func canTap() bool {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	f.Close()
	return os.Geteuid() == 0
}

// equipped is a domain with every device: disks of both formats, a network of kind user with its helper process and
// a published port, a tap that is made for it if that can be, random numbers, a socket device and a virtio console.
func equipped(t *testing.T, name, tap string) *polyvisor.Config {
	t.Helper()
	dir := t.TempDir()
	raw, cow := filepath.Join(dir, "raw"), filepath.Join(dir, "qcow2")
	require.NoError(t, os.WriteFile(raw, make([]byte, 1<<20), 0o600))
	f, err := os.Create(cow)
	require.NoError(t, err)
	require.NoError(t, qcow2.Create(f, 1<<20, qcow2.CreateOptions{}))
	require.NoError(t, f.Close())
	cfg := config(name, "")
	cfg.Disks = []polyvisor.Disk{{Source: polyvisor.Path(raw)}, {Source: polyvisor.Path(cow), Format: polyvisor.FormatQCOW2}}
	cfg.NICs = []polyvisor.NIC{{Network: polyvisor.NetworkUser, Forwards: []polyvisor.PortForward{{HostPort: freePort(t), GuestPort: 80}}}}
	if canTap() {
		cfg.NICs = append(cfg.NICs, polyvisor.NIC{Network: polyvisor.NetworkTap, Source: tap})
	}
	cfg.RNG = &polyvisor.RNG{BytesPerSecond: 1000}
	cfg.Vsock, cfg.Console.Virtio = &polyvisor.VsockConfig{}, true
	return cfg
}

// Many starts and ends of a domain with all devices, also by kill -9, leave nothing: no descriptor, thread, goroutine, child process
// (helpers are such), tap, socket or file. POLYVISOR_CYCLES says how many.
func TestDeviceCycles(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		n := rounds(20)
		if s := os.Getenv("POLYVISOR_CYCLES"); s != "" {
			var err error
			n, err = strconv.Atoi(s)
			require.NoError(t, err)
		}
		c, ctx := p.open(t), patiently(t)
		tap := fmt.Sprintf("pvc%d%s", os.Getpid(), p.isolation[:1])
		cfg := equipped(t, "equipped", tap)
		d := define(t, c, cfg)
		port := net.JoinHostPort("127.0.0.1", itoa(int(cfg.NICs[0].Forwards[0].HostPort)))
		cycle := func(i int) {
			ctx := patiently(t)
			require.NoError(t, d.Start(ctx), "cycle %d", i)
			require.NotEmpty(t, inUse(t).children, "there is a helper")
			_, err := net.InterfaceByName(tap)
			require.Equal(t, canTap(), err == nil, "the tap: %v", err)
			want := polyvisor.StopKilled
			switch i % 4 {
			case 0: // before the guest has got anywhere
			case 1:
				con := console(t, d)
				con.await(t, guest.Banner, 1)
				con.close()
			case 2:
				con := console(t, d)
				con.ready(t)
				con.write(t, "poweroff")
				require.Equal(t, polyvisor.StopShutdown, wait(t, d).Reason)
				con.close()
				want = polyvisor.StopShutdown
			case 3:
				if p.isolation == process {
					require.NoError(t, unix.Kill(p.vmPID(t), unix.SIGKILL))
					want = polyvisor.StopServiceDied
				}
			}
			if want == polyvisor.StopKilled {
				require.NoError(t, d.Destroy(ctx))
			}
			require.Equal(t, want, wait(t, d).Reason, "cycle %d", i)
			eventually(t, func() bool { _, err := net.InterfaceByName(tap); return err != nil }, "the tap is left")
			eventually(t, func() bool { // for the next one too
				ln, err := net.Listen("tcp", port)
				if err == nil {
					ln.Close()
				}
				return err == nil
			}, "the published port is left")
		}
		for i := range 4 {
			cycle(i)
		}
		require.NoError(t, ctx.Err())
		eventually(t, func() bool { return len(inUse(t).children) == 0 }, "a process is left: %+v", inUse(t))
		before, goroutines, tree, sockets := inUse(t), runtime.NumGoroutine(), p.tree(t), unixSockets(t, p.dir)
		for i := range n {
			cycle(i)
		}
		require.Equal(t, tree, p.tree(t))
		require.Empty(t, p.vmPIDs())
		eventually(t, func() bool {
			now := inUse(t)
			return now.fds <= before.fds && runtime.NumGoroutine() <= goroutines && vcpuThreads() == 0 &&
				len(now.children) == 0 && now.threads < before.threads+10 && unixSockets(t, p.dir) == sockets
		}, "before: %+v, %d goroutines, %d sockets; after: %+v, %d, %d", before, goroutines, sockets, inUse(t), runtime.NumGoroutine(), unixSockets(t, p.dir))
	})
}

// unixSockets counts the sockets of the host with a name below a directory.
func unixSockets(t *testing.T, dir string) int {
	t.Helper()
	b, err := os.ReadFile("/proc/net/unix")
	require.NoError(t, err)
	return strings.Count(string(b), dir+"/")
}
