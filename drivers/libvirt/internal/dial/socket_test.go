package dial

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
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

func TestTCP(t *testing.T) {
	conn, err := dialURI(within(t), t, "qemu+tcp://127.0.0.1:"+serveTCP(t, echo)+"/system", Options{})
	mustEcho(t, conn, err)
	conn, err = dialURI(within(t), t, "qemu+tcp://127.0.0.1:"+unusedPort(t)+"/system", Options{})
	mustFail(t, conn, err, ErrUnreachable, "nobody listens on 127.0.0.1:", "listen_tcp = 1")
	conn, err = dialURI(within(t), t, "qemu+tcp://no-such-host.invalid/system", Options{})
	mustFail(t, conn, err, ErrUnreachable, "cannot be resolved")
}
