//go:build linux

package vmmproc

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestRing(t *testing.T) {
	var all []byte
	r := ring{}
	next := byte(0)
	for _, n := range []int{0, 1, 10, ringSize - 12, 1, 1, 5, ringSize, ringSize + 7, 3*ringSize + 1, 100, 65000, 65000} {
		p := make([]byte, n)
		for i := range p {
			p[i] = next
			next = next*5 + 13
		}
		r.write(p)
		all = append(all, p...)
		want := all[max(0, len(all)-ringSize):]
		require.Equal(t, uint64(len(all)), r.end)
		require.Equal(t, uint64(len(all)-len(want)), r.start())
		for _, size := range []int{1000, ringSize, ringSize + 1} {
			var got []byte
			buf := make([]byte, size)
			for pos := uint64(0); ; {
				var n int
				if n, pos = r.read(buf, pos); n == 0 {
					break
				}
				got = append(got, buf[:n]...)
			}
			require.True(t, bytes.Equal(want, got), "after %d bytes, read by %d", len(all), size)
		}
	}
	fresh := ring{}
	fresh.write(all) // the first write is longer than the ring
	buf := make([]byte, ringSize)
	n, _ := fresh.read(buf, 0)
	require.True(t, bytes.Equal(all[len(all)-ringSize:], buf[:n]))
}

func TestConsoleReplayAndTakeover(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := testStore(t)
		require.NoError(t, m.start(t, s, fakeSpec{}, Config{}))
		cl := dial(t, s)
		a, err := cl.Console(bg, false)
		require.NoError(t, err)
		defer a.Close()
		expect(t, a, "boot 0\n")
		_, err = a.Write([]byte("echo before\n"))
		require.NoError(t, err)
		expect(t, a, "before\n")

		_, err = cl.Console(bg, false)
		require.ErrorIs(t, err, ErrBusy)
		require.ErrorContains(t, err, itoa(os.Getpid()))
		b, err := cl.Console(bg, true)
		require.NoError(t, err)
		defer b.Close()
		expect(t, b, "boot 0\nbefore\n")
		_, err = io.ReadAll(a)
		require.ErrorIs(t, err, ErrTakenOver)
		_, err = a.Write([]byte("echo ghost\n"))
		require.ErrorIs(t, err, ErrTakenOver)

		// A detached console is free at once, also for one that does not force.
		require.NoError(t, b.Close())
		c, err := cl.Console(bg, false)
		require.NoError(t, err)
		defer c.Close()
		require.NotContains(t, expect(t, c, "before\n"), "ghost")
		// Input may end before output does.
		_, err = c.Write([]byte("echo last\n"))
		require.NoError(t, err)
		require.NoError(t, c.CloseWrite())
		expect(t, c, "last\n")
		_, err = cl.Console(bg, false)
		require.ErrorIs(t, err, ErrBusy)
	})
}

// The owner of the console sets the size of the terminal, which outlives the owner
// and the machine.
func TestConsoleSize(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := testStore(t)
		require.NoError(t, m.start(t, s, fakeSpec{}, Config{}))
		cl := dial(t, s)
		a, err := cl.Console(bg, false)
		require.NoError(t, err)
		defer a.Close()
		sees := func(con *Console, want string) {
			_, err := con.Write([]byte("size\n"))
			require.NoError(t, err)
			expect(t, con, "size "+want+"\n")
		}
		sees(a, "0 0")
		require.NoError(t, a.SetSize(bg, 80, 24))
		sees(a, "80 24")
		b, err := cl.Console(bg, true)
		require.NoError(t, err)
		defer b.Close()
		require.ErrorIs(t, a.SetSize(bg, 1, 1), ErrTakenOver)
		expect(t, b, "size 80 24\n")
		sees(b, "80 24")
		require.NoError(t, b.SetSize(bg, 132, 43))
		sees(b, "132 43")
		require.NoError(t, cl.Reset(bg))
		expect(t, b, "boot 1\n")
		// The new machine learns it when it has begun to run.
		for said := ""; !strings.Contains(said, "size 132 43"); {
			_, err := b.Write([]byte("size\necho asked\n"))
			require.NoError(t, err)
			said = expect(t, b, "asked\n")
		}
		require.ErrorIs(t, (&Console{dir: b.dir, session: 99}).SetSize(bg, 1, 1), &Error{Code: CodeInvalidArgument})
	})
	s := testStore(t)
	require.NoError(t, modes[0].start(t, s, fakeSpec{NoSize: true}, Config{}))
	con, err := dial(t, s).Console(bg, false)
	require.NoError(t, err)
	defer con.Close()
	require.ErrorIs(t, con.SetSize(bg, 80, 24), &Error{Code: CodeUnsupported})
}

func TestFinalOutputReachesTheConsole(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for range 10 {
			s := testStore(t)
			require.NoError(t, m.start(t, s, fakeSpec{}, Config{}))
			con, err := dial(t, s).Console(bg, false)
			require.NoError(t, err)
			_, err = con.Write([]byte("flood 30000\noff\n"))
			require.NoError(t, err)
			all, err := io.ReadAll(con)
			require.NoError(t, err)
			require.True(t, strings.HasSuffix(string(all), "\nflooded\nbye\n"))
			require.NoError(t, con.Close())
		}
	})
}

// Nobody reads what the guest floods the console with.
func TestSlowConsoleReader(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := testStore(t)
		require.NoError(t, m.start(t, s, fakeSpec{}, Config{}))
		cl := dial(t, s)
		con, err := cl.Console(bg, false)
		require.NoError(t, err)
		defer con.Close()
		_, err = con.Write([]byte("flood 50000000\n"))
		require.NoError(t, err)
		// The guest is not held up, nor is the server.
		require.Eventually(t, func() bool {
			other, err := cl.Console(bg, true)
			if err != nil {
				return false
			}
			defer other.Close()
			buf := make([]byte, 1<<20)
			_ = other.SetDeadline(time.Now().Add(50 * time.Millisecond))
			n, _ := io.ReadFull(other, buf)
			return strings.HasSuffix(string(buf[:n]), "\nflooded\n")
		}, 20*time.Second, 10*time.Millisecond)
		_, err = cl.Info(bg)
		require.NoError(t, err)
		// A console that nobody reads does not hold the end up for long.
		con, err = cl.Console(bg, false)
		require.NoError(t, err)
		defer con.Close()
		_, err = con.Write([]byte("flood 50000000\n"))
		require.NoError(t, err)
		_, err = cl.Destroy(bg)
		require.NoError(t, err)
		requireTidy(t, s)
	})
}

// 1 GiB of input to a guest that takes all, some or none of it must not be stored.
func TestInputFloodIsBounded(t *testing.T) {
	for name, spec := range map[string]fakeSpec{"greedy": {Greedy: true}, "slow": {}, "deaf": {Deaf: true}} {
		s := testStore(t)
		require.NoError(t, modes[0].start(t, s, spec, Config{}))
		cl := dial(t, s)
		con, err := cl.Console(bg, false)
		require.NoError(t, err)
		before := anonymous(t, cl.Hello().PID)
		if !spec.Greedy || raceEnabled {
			_ = con.SetDeadline(time.Now().Add(time.Second))
		}
		chunk := bytes.Repeat([]byte("y"), 1<<20)
		sent := 0
		for range 1 << 10 {
			n, err := con.Write(chunk)
			sent += n
			if err != nil {
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				break
			}
		}
		if spec.Deaf {
			require.Less(t, sent, 2<<20)
		}
		grown := anonymous(t, cl.Hello().PID) - before
		t.Logf("%s: %d bytes sent, the VM process grew by %d KiB", name, sent, grown)
		if !raceEnabled {
			require.Less(t, grown, 1<<10)
		}
		// The client that stuffed the pipe goes away: the next one gets in.
		require.NoError(t, con.Close())
		require.Eventually(t, func() bool {
			con, err = cl.Console(bg, false)
			return err == nil
		}, 20*time.Second, 5*time.Millisecond)
		require.NoError(t, con.Close())
		_, err = cl.Destroy(bg)
		require.NoError(t, err)
	}
}

// anonymous gives the private memory of a process in KiB.
func anonymous(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	require.NoError(t, err)
	for _, l := range strings.Split(string(b), "\n") {
		var n int
		if _, err := fmt.Sscanf(l, "Anonymous: %d kB", &n); err == nil {
			return n
		}
	}
	t.Fatal("no Anonymous in smaps_rollup")
	return 0
}

func TestConsoleLog(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := testStore(t)
		path := filepath.Join(t.TempDir(), "console.log")
		require.NoError(t, os.WriteFile(path, []byte("older\n"), 0o600))
		for range 2 {
			require.NoError(t, m.start(t, s, fakeSpec{}, Config{ConsoleLog: path}))
			cl := dial(t, s)
			require.NoError(t, cl.Shutdown(bg))
			awaitStop(t, s, cl)
			require.Eventually(t, func() bool {
				b, _ := os.ReadFile(path)
				return strings.HasPrefix(string(b), "older\nboot 0\n")
			}, 10*time.Second, time.Millisecond)
		}
		require.Eventually(t, func() bool {
			b, _ := os.ReadFile(path)
			return string(b) == "older\nboot 0\nboot 0\n"
		}, 10*time.Second, time.Millisecond)
	})
}

func TestConsoleLogRotates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console.log")
	l, err := openConsoleLog(path, 100_000, nil)
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 1000 {
			l.write(bytes.Repeat([]byte("z"), 1000))
		}
	})
	wg.Wait()
	l.close()
	for _, p := range []string{path, path + ".1"} {
		fi, err := os.Stat(p)
		require.NoError(t, err)
		require.LessOrEqual(t, fi.Size(), int64(100_000+logBuffer))
	}
}

func TestConsoleWriteDoesNotAllocate(t *testing.T) {
	c := &console{}
	p := []byte("x")
	for range ringSize + 1 {
		_, _ = c.Write(p)
	}
	require.Zero(t, testing.AllocsPerRun(1000, func() { _, _ = c.Write(p) }))
}

// A log that is no file is neither renamed nor waited for.
func TestConsoleLogIsNoFile(t *testing.T) {
	dir := t.TempDir()
	null := filepath.Join(dir, "null")
	require.NoError(t, os.Symlink(os.DevNull, null))
	l, err := openConsoleLog(null, 1000, nil)
	require.NoError(t, err)
	l.write(make([]byte, 2*logBuffer))
	l.close()
	_, err = os.Lstat(null)
	require.NoError(t, err, "it was renamed")
	require.NoFileExists(t, null+".1")

	pipe := filepath.Join(dir, "pipe")
	require.NoError(t, unix.Mkfifo(pipe, 0o600))
	_, err = openConsoleLog(pipe, 0, nil)
	require.ErrorIs(t, err, ErrInvalidArgument)
	reader, err := os.OpenFile(pipe, os.O_RDWR, 0) // somebody reads it
	require.NoError(t, err)
	defer reader.Close()
	_, err = openConsoleLog(pipe, 0, nil)
	require.ErrorIs(t, err, ErrInvalidArgument)
}
