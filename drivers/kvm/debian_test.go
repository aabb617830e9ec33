//go:build linux && amd64

package kvm_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/image"
)

// served is what the host and the guest fetch from one another.
func served(t *testing.T, size int) (data []byte, sum string) {
	t.Helper()
	data = make([]byte, size)
	_, _ = rand.Read(data)
	return data, fmt.Sprintf("%x", sha256.Sum256(data))
}

// fileServer serves data on the loopback of the host.
func fileServer(t *testing.T, data []byte) (port int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) })}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		require.NoError(t, s.Shutdown(context.Background()))
		require.ErrorIs(t, <-done, http.ErrServerClosed)
	})
	return ln.Addr().(*net.TCPAddr).Port
}

// A Debian system boots from its disk, raw and qcow2, to a prompt for a login; it gets its address by DHCP and fetches from
// the host's loopback; a published port leads to a server of its; and what it writes is there after it has rebooted, with
// its file system and the image in order.
func TestDebian(t *testing.T) {
	disk, initrd := os.Getenv("POLYVISOR_TEST_DEBIAN"), os.Getenv("POLYVISOR_TEST_DEBIAN_INITRD")
	if disk == "" || initrd == "" {
		t.Skip("needs a disk with Debian in POLYVISOR_TEST_DEBIAN (scripts/debian-image makes one) and the kernel's own initial RAM disk in " +
			"POLYVISOR_TEST_DEBIAN_INITRD; make test-nested sees to both")
	}
	l := newLab(t)
	c := l.open(t)
	data, sum := served(t, 1<<20)
	port := fileServer(t, data)
	for _, format := range []image.Format{image.Raw, image.QCOW2} {
		t.Run(string(format), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "root."+string(format))
			require.NoError(t, image.Convert(patiently(t), disk, path, image.ConvertOptions{From: image.QCOW2, To: format}))
			l.debian(t, c, initrd, format, path, port, data, sum)
			checked(t, format, path)
		})
	}
}

func (l *lab) debian(t *testing.T, c *polyvisor.Conn, initrd string, format image.Format, path string, port int, data []byte, sum string) {
	t.Helper()
	published := freePort(t)
	cfg := l.config("debian-"+string(format), 1, 256*polyvisor.MiB, "root=/dev/vda ro net.ifnames=0")
	cfg.Boot.Initrd = polyvisor.Path(initrd)
	cfg.OnReboot = polyvisor.ActionRestart
	cfg.Disks = []polyvisor.Disk{{Source: polyvisor.Path(path), Format: polyvisor.DiskFormat(format)}}
	if format == image.Raw { // the network is the same for both
		cfg.NICs = []polyvisor.NIC{{Network: polyvisor.NetworkUser, HostLoopback: true, Forwards: []polyvisor.PortForward{{HostPort: published, GuestPort: 80}}}}
	}
	begin := time.Now()
	d := create(t, c, cfg)
	con := console(t, d)
	con.await(t, "login: ", 1)
	t.Logf("%s: %v to the prompt for a login", format, time.Since(begin))
	con.write(t, "root")
	shell := func(command, answer string) {
		t.Helper()
		n := strings.Count(con.String(), answer)
		con.write(t, command)
		con.await(t, answer, n+1)
	}
	con.await(t, "# ", 1)

	if format == image.Raw {
		shell("ip link set eth0 up && udhcpc -q -n -i eth0 && echo addr''ess", "\naddress\r\n")
		shell(fmt.Sprintf("wget -q -O /root/kept http://192.168.127.254:%d/ && sha256sum /root/kept", port), sum+"  /root")
		shell("busybox httpd -p 80 -h /root && echo serv''ing", "\nserving\r\n")
		require.Equal(t, data, fetched(t, fmt.Sprintf("http://127.0.0.1:%d/kept", published)))
		t.Logf("%s: %v until both have fetched", format, time.Since(begin))
	} else {
		shell("head -c 1048576 /dev/urandom >/root/kept; sha256sum /root/kept", "  /root/kept\r\n")
		said, _, _ := strings.Cut(con.String(), "  /root/kept\r\n")
		sum = said[max(0, len(said)-sha256.Size*2):]
		require.Len(t, sum, sha256.Size*2)
	}

	con.write(t, "reboot")
	con.await(t, "login: ", 2)
	t.Logf("%s: %v to the second prompt", format, time.Since(begin))
	con.write(t, "root")
	shell("sha256sum /root/kept", sum+"  /root")
	con.write(t, "poweroff")
	require.Equal(t, polyvisor.StopShutdown, wait(t, d).Reason)
}

// fetched gets what a guest serves, which may still be opening its socket.
func fetched(t *testing.T, url string) []byte {
	t.Helper()
	ctx := patiently(t)
	for {
		b, err := get(ctx, url)
		if err == nil {
			return b
		}
		require.NoError(t, ctx.Err(), "%s: %v", url, err)
		time.Sleep(50 * time.Millisecond)
	}
}

func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return b, err
}

// checked asks the tools of others whether an image and the file system in it are in order.
func checked(t *testing.T, format image.Format, path string) {
	t.Helper()
	run := func(name string, args ...string) {
		t.Helper()
		out, err := exec.CommandContext(patiently(t), name, args...).CombinedOutput()
		require.NoError(t, err, "%s %v: %s", name, args, out)
		t.Logf("%s: %s", name, strings.TrimSpace(string(out)))
	}
	if format == image.QCOW2 {
		run("qemu-img", "check", "-f", "qcow2", path)
		raw := path + ".raw"
		run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw)
		path = raw
	}
	run("e2fsck", "-f", "-n", path)
}
