package dial

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestUnix(t *testing.T) {
	env := host(t)
	serveUnix(t, filepath.Join(env.SystemDir, "libvirt-sock"), echo)
	conn, err := dialURI(within(t), t, "qemu:///system", Options{Env: env})
	mustEcho(t, conn, err)

	// The hypervisor's own daemon goes first, and a stale socket is passed over.
	own := filepath.Join(env.SystemDir, "virtqemud-sock")
	l, err := net.Listen("unix", own)
	require.NoError(t, err)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	conn, err = dialURI(within(t), t, "qemu:///system", Options{Env: env})
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(env.SystemDir, "libvirt-sock"), conn.RemoteAddr().String())
	conn.Close()
	require.NoError(t, os.Remove(own))
	serveUnix(t, own, echo)
	conn, err = dialURI(within(t), t, "qemu:///system", Options{Env: env})
	require.NoError(t, err)
	assert.Equal(t, own, conn.RemoteAddr().String())
	conn.Close()

	serveUnix(t, filepath.Join(env.SystemDir, "virtqemud-sock-ro"), echo)
	conn, err = dialURI(within(t), t, "qemu:///system", Options{Env: env, ReadOnly: true})
	require.NoError(t, err)
	assert.Equal(t, own+"-ro", conn.RemoteAddr().String())
	conn.Close()
}

func TestUnixErrors(t *testing.T) {
	env := host(t)
	conn, err := dialURI(within(t), t, "qemu:///system", Options{Env: env})
	mustFail(t, conn, err, ErrUnreachable, "connect to qemu+unix:///system: no socket ", "virtqemud-sock or ", "is the daemon running?", "libvirt-daemon-system")
	conn, err = dialURI(within(t), t, "lxc:///system", Options{Env: env})
	mustFail(t, conn, err, ErrUnreachable, "virtlxcd.socket")
	conn, err = dialURI(within(t), t, "qemu:///session", Options{Env: env})
	mustFail(t, conn, err, ErrUnreachable, "libvirtd -d")
	conn, err = dialURI(within(t), t, "qemu:///session?socket=/nowhere/s", Options{Env: env})
	mustFail(t, conn, err, ErrUnreachable, "no socket /nowhere/s", "socket= of the URI")
	conn, err = dialURI(within(t), t, "qemu:///session?socket=/"+strings.Repeat("x", 120), Options{Env: env})
	mustFail(t, conn, err, ErrConfig, "the path has 121 bytes")

	stale := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", stale)
	require.NoError(t, err)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	conn, err = dialURI(within(t), t, "qemu:///system?socket="+stale, Options{Env: env})
	mustFail(t, conn, err, ErrUnreachable, "no daemon listens on it")

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	conn, err = dialURI(ctx, t, "qemu:///system?socket="+stale, Options{Env: env})
	mustFail(t, conn, err, context.Canceled, "connect to qemu+unix:///system: during connecting")
}

// asNobody tells the test binary that it was started as another user.
const asNobody = "POLYVISOR_TEST_SOCKET"

func TestUnixPermission(t *testing.T) {
	path := os.Getenv(asNobody)
	if path == "" && os.Geteuid() == 0 {
		// Root may do everything: have another user try.
		dir, err := os.MkdirTemp("", "dial")
		require.NoError(t, err)
		defer os.RemoveAll(dir)
		require.NoError(t, os.Chmod(dir, 0o755))
		self, err := os.ReadFile("/proc/self/exe")
		if err != nil {
			t.Skip("needs /proc to run itself as another user")
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, "test"), self, 0o755))
		socket := filepath.Join(dir, "s")
		serveUnix(t, socket, echo)
		require.NoError(t, os.Chmod(socket, 0o700))
		cmd := exec.Command(filepath.Join(dir, "test"), "-test.run=^TestUnixPermission$", "-test.v")
		cmd.Env = append(os.Environ(), asNobody+"="+socket)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cmd.Dir = "/"
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		require.Contains(t, string(out), "--- PASS: TestUnixPermission")
		return
	}
	if path == "" {
		path = filepath.Join(t.TempDir(), "s")
		serveUnix(t, path, echo)
		require.NoError(t, os.Chmod(path, 0))
	}
	conn, err := dialURI(within(t), t, "qemu:///system?socket="+path, Options{})
	mustFail(t, conn, err, ErrPermission, "permission denied; its owner and mode")

	env := host(t)
	env.SystemDir = t.TempDir()
	require.NoError(t, os.Symlink(path, filepath.Join(env.SystemDir, "libvirt-sock")))
	conn, err = dialURI(within(t), t, "qemu:///system", Options{Env: env})
	mustFail(t, conn, err, ErrPermission, "group libvirt")
}

func TestTCP(t *testing.T) {
	conn, err := dialURI(within(t), t, "qemu+tcp://127.0.0.1:"+serveTCP(t, echo)+"/system", Options{})
	mustEcho(t, conn, err)
	conn, err = dialURI(within(t), t, "qemu+tcp://127.0.0.1:"+unusedPort(t)+"/system", Options{})
	mustFail(t, conn, err, ErrUnreachable, "nobody listens on 127.0.0.1:", "listen_tcp = 1")
	conn, err = dialURI(within(t), t, "qemu+tcp://no-such-host.invalid/system", Options{})
	mustFail(t, conn, err, ErrUnreachable, "cannot be resolved")
}
