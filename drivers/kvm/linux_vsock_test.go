//go:build linux && amd64

package kvm_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

// Sockets between programs of the host and a stock kernel's AF_VSOCK, opened from either side.
func TestLinuxVsock(t *testing.T) {
	l := newLab(t)
	c, ctx := l.open(t), patiently
	cfg := l.config("sockets", 1, 128*polyvisor.MiB, "")
	cfg.Vsock = &polyvisor.VsockConfig{CID: 77}
	d, con := l.boot(t, c, cfg)

	// The guest listens. What goes through comes back as it was, to the last byte.
	con.write(t, "vsock-serve 1234")
	con.await(t, "listening", 1)
	conn, err := d.DialVsock(ctx(t), 1234)
	require.NoError(t, err)
	require.Equal(t, polyvisor.VsockAddr{CID: 77, Port: 1234}, conn.RemoteAddr())
	data := make([]byte, 1<<20)
	random := rand.NewChaCha8([32]byte{2})
	_, _ = random.Read(data)
	echoed(t, conn, data)
	con.await(t, "echoed "+strconv.Itoa(len(data)), 1)

	// Nobody listens.
	_, err = d.DialVsock(ctx(t), 1234)
	requireCode(t, err, polyvisor.ErrNotFound, "1234")
	require.ErrorIs(t, err, syscall.ECONNREFUSED)

	// The host listens.
	con.write(t, "vsock-send 9 too early")
	con.await(t, "error=vsock-send 9 too early: ", 1)
	ln, err := d.ListenVsock(ctx(t), 9)
	require.NoError(t, err)
	_, err = d.ListenVsock(ctx(t), 9)
	requireCode(t, err, polyvisor.ErrBusy, "port 9")
	con.write(t, "vsock-send 9 hello from the guest")
	conn, err = ln.Accept()
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, "hello from the guest", string(got))
	_, err = io.WriteString(conn, "hello from the host")
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	con.await(t, "answered hello from the host", 1)

	// A guest that does not answer keeps nothing but the caller waiting, and that within its context.
	require.NoError(t, d.Suspend(ctx(t)))
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = d.DialVsock(short, 1)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, d.Resume(ctx(t)))

	// The end of the run is the end of all.
	con.write(t, "vsock-serve 5")
	con.await(t, "listening", 2)
	conn, err = d.DialVsock(ctx(t), 5)
	require.NoError(t, err)
	require.NoError(t, d.Destroy(ctx(t)))
	_, err = io.ReadAll(conn)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	_, err = ln.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
	require.NoError(t, ln.Close())
	_, err = d.DialVsock(ctx(t), 5)
	require.Error(t, err)
}
