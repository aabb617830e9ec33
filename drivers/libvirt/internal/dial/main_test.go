package dial

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/uri"
	"github.com/polyvisor/polyvisor/internal/leaktest"
)

// asNobody tells the test binary that it was started as another user.
const asNobody = "POLYVISOR_TEST_SOCKET"

func TestMain(m *testing.M) {
	if os.Getenv(asNobody) != "" {
		os.Exit(m.Run()) // runs as another user, who may look at nothing
	}
	leaktest.Main(m)
}

// patience ends tests that would hang.
const patience = 30 * time.Second

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// host is an environment of its own: a user 1000 with nothing.
func host(t *testing.T) uri.Env {
	dir := t.TempDir()
	return uri.Env{Getenv: func(string) string { return "" }, EUID: 1000, Home: filepath.Join(dir, "home"), User: "joe",
		Etc: filepath.Join(dir, "etc"), SystemDir: filepath.Join(dir, "run")}
}

func dialURI(ctx context.Context, t *testing.T, s string, o Options) (net.Conn, error) {
	t.Helper()
	target, err := uri.Parse(s)
	require.NoError(t, err)
	if o.Env.Getenv == nil {
		o.Env = host(t)
	}
	return Dial(ctx, target, o)
}

// mustEcho checks that what is written comes back, and closes.
func mustEcho(t *testing.T, conn net.Conn, err error) {
	t.Helper()
	require.NoError(t, err)
	defer func() { assert.NoError(t, conn.Close()) }()
	said := make(chan error, 1)
	text := make([]byte, 100000)
	for i := range text {
		text[i] = byte(i * 7)
	}
	go func() {
		_, err := conn.Write(text)
		said <- err
	}()
	got := make([]byte, len(text))
	_, err = io.ReadFull(conn, got)
	require.NoError(t, err)
	require.NoError(t, <-said)
	require.Equal(t, text, got)
}

// mustFail checks kind and text of an error.
func mustFail(t *testing.T, conn net.Conn, err, kind error, says ...string) {
	t.Helper()
	if conn != nil {
		conn.Close()
	}
	require.ErrorIs(t, err, kind)
	for _, s := range says {
		assert.Contains(t, err.Error(), s)
	}
}

// serve runs f for each connection of l until the test ends; then it closes them.
func serve(t *testing.T, l net.Listener, f func(net.Conn)) {
	t.Helper()
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	over := false
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			if over {
				c.Close()
			}
			open[c] = true
			mu.Unlock()
			wg.Go(func() {
				f(c)
				c.Close()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		over = true
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
}

func echo(c net.Conn) { io.Copy(c, c) }

// silence reads and never answers.
func silence(c net.Conn) { io.Copy(io.Discard, c) }

func serveUnix(t *testing.T, path string, f func(net.Conn)) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	serve(t, l, f)
}

func serveTCP(t *testing.T, f func(net.Conn)) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	serve(t, l, f)
	_, port, err = net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}

// unusedPort is one that nobody listens on.
func unusedPort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}

// mustEnd checks that a dial that gets nowhere ends with its context, and names
// the phase it was in. A slow machine gets more time to reach that phase.
func mustEnd(t *testing.T, phase string, dial func(ctx context.Context) (net.Conn, error)) {
	t.Helper()
	for _, delay := range []time.Duration{100 * time.Millisecond, time.Second, patience / 2} {
		err := endAfter(t, delay, dial)
		require.ErrorIs(t, err, context.Canceled)
		if strings.Contains(err.Error(), phase) || delay == patience/2 {
			assert.Contains(t, err.Error(), phase)
			return
		}
	}
}

func endAfter(t *testing.T, delay time.Duration, dial func(ctx context.Context) (net.Conn, error)) error {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	timer := time.AfterFunc(delay, cancel)
	defer timer.Stop()
	done := make(chan error, 1)
	go func() {
		conn, err := dial(ctx)
		if err == nil {
			conn.Close()
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(delay + patience):
		t.Fatal("Dial does not end with its context")
		return nil
	}
}
