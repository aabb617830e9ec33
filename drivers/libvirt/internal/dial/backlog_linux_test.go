package dial

import (
	"context"
	"net"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A daemon that is stopped accepts nothing, and its backlog fills up.
func TestUnixBacklog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer syscall.Close(fd)
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}))
	require.NoError(t, syscall.Listen(fd, 0))
	first, err := net.Dial("unix", path)
	require.NoError(t, err)
	defer first.Close()
	_, err = net.Dial("unix", path)
	require.ErrorIs(t, err, syscall.EAGAIN)

	s := "qemu:///system?socket=" + path
	mustEnd(t, "during connecting", func(ctx context.Context) (net.Conn, error) { return dialURI(ctx, t, s, Options{}) })

	got := make(chan error, 1)
	go func() {
		conn, err := dialURI(within(t), t, s, Options{})
		if err == nil {
			conn.Close()
		}
		got <- err
	}()
	peer, _, err := syscall.Accept(fd)
	require.NoError(t, err)
	defer syscall.Close(peer)
	require.NoError(t, <-got, "a daemon that goes on accepts who waits")
}
