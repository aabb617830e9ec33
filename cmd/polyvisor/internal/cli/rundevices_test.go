package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

func TestRunWithDevices(t *testing.T) {
	uri := fakeURI(t, "")
	dir := t.TempDir()
	t.Chdir(dir)
	require.NoError(t, os.WriteFile("a.img", make([]byte, 1<<20), 0o600))
	header := make([]byte, 1<<20)
	copy(header, "QFI\xfb\x00\x00\x00\x03")
	header[29] = 1 // the size, in 64 KiB
	require.NoError(t, os.WriteFile("b,c.qcow2", header, 0o600))
	must(t, "-c", uri, "run", "--detach", "--name", "web", "--disk", "a.img,mode=ro,serial=S1,cache=none,queues=2",
		"--disk", "b,,c.qcow2,format=qcow2,target=vdx", "--net", "user,host-loopback,mac=52:54:00:12:34:56", "--net", "bridge=br0,mtu=1400,queues=2", "--rng",
		"--publish", "8080:80", "-p", "10.0.0.1:53:5353/udp", "-p", "[::1]:2222:22", "-p", "443")
	var c polyvisor.Config
	require.NoError(t, json.Unmarshal([]byte(must(t, "-c", uri, "config", "web")), &c))
	require.Equal(t, []polyvisor.Disk{
		{Target: "vda", Source: polyvisor.Path(filepath.Join(dir, "a.img")), Format: polyvisor.FormatRaw, Mode: polyvisor.DeviceReadOnly,
			Serial: "S1", Cache: polyvisor.CacheNone, Queues: 2},
		{Target: "vdx", Source: polyvisor.Path(filepath.Join(dir, "b,c.qcow2")), Format: polyvisor.FormatQCOW2},
	}, c.Disks)
	require.Len(t, c.NICs, 2)
	require.Equal(t, polyvisor.NIC{MAC: polyvisor.MAC{0x52, 0x54, 0, 0x12, 0x34, 0x56}, Network: polyvisor.NetworkUser, HostLoopback: true, Forwards: []polyvisor.PortForward{
		{Protocol: "tcp", HostIP: "127.0.0.1", HostPort: 8080, GuestPort: 80}, {Protocol: "udp", HostIP: "10.0.0.1", HostPort: 53, GuestPort: 5353},
		{Protocol: "tcp", HostIP: "::1", HostPort: 2222, GuestPort: 22}, {Protocol: "tcp", HostIP: "127.0.0.1", HostPort: 443, GuestPort: 443},
	}}, c.NICs[0])
	require.Equal(t, polyvisor.NIC{MAC: c.NICs[1].MAC, Network: polyvisor.NetworkBridge, Source: "br0", MTU: 1400, Queues: 2}, c.NICs[1])
	require.NotNil(t, c.RNG)
}

func TestRunWithWrongDevices(t *testing.T) {
	uri := fakeURI(t, "")
	for _, tt := range []struct{ flag, value, want string }{
		{"--disk", "", "no path"},
		{"--disk", "a.qcow2", "the format is not guessed; add ,format=qcow2"},
		{"--disk", "a,format=vmdk", `format "vmdk"`},
		{"--disk", "a,size=1", `unknown option "size"`},
		{"--disk", "a,mode=w", `unknown device mode "w"`},
		{"--disk", "a,queues=many", "many"},
		{"--net", "", "which network"},
		{"--net", "wifi", `network "wifi"`},
		{"--net", "tap", "needs the name"},
		{"--net", "user,mac=1", "MAC address"},
		{"--publish", "http", `"http" is no port`},
		{"--publish", "0:80", `"0" is no port`},
		{"--publish", "80:80/sctp", "sctp"},
		{"--publish", "[::1:80", "no end"},
		{"--net", "user,host-loopback=no", "takes no value"},
		{"--net", "tap=tap0,host-loopback", "by network user only"},
		{"--net", "user,speed=1", `unknown option "speed"`},
	} {
		code, _, err := invoke(t, "", "-c", uri, "run", "--detach", tt.flag, tt.value)
		require.Equal(t, 2, code, tt.value)
		require.Contains(t, err, tt.want)
	}
}
