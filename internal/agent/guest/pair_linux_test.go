package guest

import (
	"context"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/internal/agent/host"
	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// pair gives the host's side of an agent in this process. At the end of the test nothing of
// the agent is left.
func pair(t *testing.T, s *Server) *host.Client {
	t.Helper()
	var served sync.WaitGroup
	t.Cleanup(served.Wait)
	return &host.Client{Dial: func(context.Context) (net.Conn, error) {
		ours, theirs := socketPair(t)
		served.Go(func() { s.ServeConn(theirs) })
		return ours, nil
	}}
}

func socketPair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	require.NoError(t, err)
	conns := [2]net.Conn{}
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		conns[i], err = net.FileConn(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	return conns[0], conns[1]
}

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}
