package cli_test

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
	"golang.org/x/term"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/cmd/polyvisor/internal/cli"
)

// screen is a terminal with a command on it.
type screen struct {
	t      *testing.T
	master *os.File
	tty    *os.File
	before *term.State
	out    outBuffer // what the screen shows
	err    outBuffer
	code   chan int
	shown  chan struct{}
}

// openPTY gives both sides of a terminal. A Read of the master is ended by its
// Close.
func openPTY(t *testing.T) (master, tty *os.File) {
	t.Helper()
	m, tty, err := pty.Open()
	require.NoError(t, err)
	defer m.Close()
	fd, err := syscall.Dup(int(m.Fd()))
	require.NoError(t, err)
	require.NoError(t, syscall.SetNonblock(fd, true))
	return os.NewFile(uintptr(fd), "ptmx"), tty
}

func onTerminal(t *testing.T, args ...string) *screen {
	t.Helper()
	return onTerminalOf(t, 80, 24, args...)
}

func onTerminalOf(t *testing.T, cols, rows uint16, args ...string) *screen {
	t.Helper()
	master, tty := openPTY(t)
	err := pty.Setsize(tty, &pty.Winsize{Cols: cols, Rows: rows})
	require.NoError(t, err)
	s := &screen{t: t, master: master, tty: tty, code: make(chan int, 1), shown: make(chan struct{})}
	s.before, err = term.GetState(int(tty.Fd()))
	require.NoError(t, err)
	go func() {
		defer close(s.shown)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			_, _ = s.out.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		s.code <- cli.Main(ctx, args, tty, tty, &s.err)
	}()
	t.Cleanup(func() {
		cancel()
		<-over
		tty.Close()
		master.Close()
		<-s.shown
	})
	return s
}

func (s *screen) typed(keys string) {
	s.t.Helper()
	_, err := s.master.WriteString(keys)
	require.NoError(s.t, err)
}

func (s *screen) end() int {
	s.t.Helper()
	c := command{t: s.t, code: s.code}
	return c.end()
}

// restored checks that the terminal is as it was.
func (s *screen) restored() {
	s.t.Helper()
	after, err := term.GetState(int(s.tty.Fd()))
	require.NoError(s.t, err)
	require.Equal(s.t, s.before, after)
}

// raw waits until keys go to the guest.
func (s *screen) raw() {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		now, err := term.GetState(int(s.tty.Fd()))
		return err == nil && *now != *s.before
	}, patience, time.Millisecond)
}

func TestDetach(t *testing.T) {
	h, uri := host(t)
	s := onTerminal(t, "-c", uri, "run", "--name", "web")
	s.out.expect(t, "guest of web is up\r\n")
	require.Equal(t, "polyvisor: console of domain \"web\"; Ctrl-] leaves it\n", s.err.String())
	s.raw()
	// Ctrl-C, Ctrl-Z and Ctrl-\ go to the guest, and nothing is echoed here.
	s.typed("a\x03b\x1ac\x1cd\r")
	s.out.expect(t, "echo a\x03b\x1ac\x1cd\r\n")
	s.typed("last\r\x1dpoweroff\r")
	require.Zero(t, s.end())
	s.restored()
	require.Contains(t, s.err.String(), "polyvisor: left domain \"web\", which runs on; \"polyvisor console web\" comes back to it\n")
	require.Equal(t, polyvisor.Running, only(h).now(), "what follows Ctrl-] is not the guest's")

	back := onTerminal(t, "-c", uri, "console", "web")
	back.raw()
	back.typed("again\rpoweroff\r")
	require.Zero(t, back.end())
	back.restored()
	back.out.expect(t, "echo again\r\n")
	require.Eventually(t, func() bool { return strings.Contains(s.out.String()+back.out.String(), "echo last\r\n") },
		patience, time.Millisecond, "what was typed before Ctrl-] arrived")
}

func TestTerminalRestored(t *testing.T) {
	t.Run("crash", func(t *testing.T) {
		_, uri := host(t)
		s := onTerminal(t, "-c", uri, "run", "--rm", "--name", "web")
		s.raw()
		s.typed("crash\r")
		require.Equal(t, 18, s.end())
		s.restored()
	})
	for _, tc := range []struct {
		sig  syscall.Signal
		code int
	}{{syscall.SIGTERM, 143}, {syscall.SIGHUP, 129}, {syscall.SIGQUIT, 131}} {
		t.Run(tc.sig.String(), func(t *testing.T) {
			_, uri := host(t)
			defineAll(t, uri, "web")
			must(t, "-c", uri, "start", "web")
			s := onTerminal(t, "-c", uri, "console", "web")
			s.out.expect(t, "is up")
			require.NoError(t, syscall.Kill(os.Getpid(), tc.sig))
			require.Equal(t, tc.code, s.end())
			s.restored()
		})
	}
	t.Run("run is asked", func(t *testing.T) {
		_, uri := host(t)
		s := onTerminal(t, "-c", uri, "run", "--name", "web", "-k", "/k", "--cmdline", "stubborn")
		s.out.expect(t, "is up")
		require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGTERM))
		s.err.expect(t, "another signal destroys it\r\n")
		time.Sleep(cli.SameSignal + 100*time.Millisecond)
		require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGTERM))
		require.Equal(t, 13, s.end())
		s.restored()
	})
	t.Run("the guest takes no input", func(t *testing.T) {
		_, uri := host(t)
		s := onTerminal(t, "-c", uri, "run", "--name", "web", "-k", "/k", "--cmdline", "deaf")
		s.out.expect(t, "is up")
		for range 100 {
			s.typed("0123456789012345678901234567890123456789")
		}
		s.typed("\x1d")
		require.Zero(t, s.end())
		s.restored()
	})
	t.Run("busy console", func(t *testing.T) {
		_, uri := host(t)
		defineAll(t, uri, "web")
		must(t, "-c", uri, "start", "web")
		con, err := only(hostOf("TestTerminalRestored.busy_console")).current().console.open(false)
		require.NoError(t, err)
		defer con.Close()
		s := onTerminal(t, "-c", uri, "console", "web")
		require.Equal(t, 1, s.end())
		s.restored()
	})
}

// The terminal goes away, as when its window is closed.
func TestTerminalGone(t *testing.T) {
	h, uri := host(t)
	s := onTerminal(t, "-c", uri, "run", "--name", "web")
	s.out.expect(t, "is up")
	s.master.Close()
	require.Equal(t, 129, s.end())
	require.Equal(t, polyvisor.Running, only(h).now())
}

// A panic while the terminal is raw is not swallowed and leaves it as it was.
func TestTerminalAfterPanic(t *testing.T) {
	master, tty := openPTY(t)
	defer master.Close()
	defer tty.Close()
	before, err := term.GetState(int(tty.Fd()))
	require.NoError(t, err)
	require.Panics(t, func() { cli.AttachPanicking(tty) })
	after, err := term.GetState(int(tty.Fd()))
	require.NoError(t, err)
	require.Equal(t, before, after)
}

// The guest of a virtio console sees the size of the terminal, also when that changes.
func TestTerminalSize(t *testing.T) {
	uri := fakeURI(t, "")
	s := onTerminalOf(t, 100, 30, "-c", uri, "run", "--name", "web", "--virtio-console")
	s.out.expect(t, "pv> ")
	sees := func(want string) {
		require.Eventually(t, func() bool {
			s.typed("size\r")
			s.out.expect(t, "pv> ")
			return strings.Contains(s.out.String(), "\n"+want+"\r\n")
		}, patience, 10*time.Millisecond)
	}
	sees("100 30")
	require.NoError(t, pty.Setsize(s.master, &pty.Winsize{Cols: 132, Rows: 43}))
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGWINCH)) // the terminal is not this process's own
	sees("132 43")
	s.typed("poweroff\r")
	require.Zero(t, s.end())
	s.restored()
}
