//go:build linux

package vmmproc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
)

const helloLine = `{"id":1,"op":"hello","args":{"versions":[1]}}` + "\n"

func rawDial(t testing.TB, s *store.Store) *os.File {
	t.Helper()
	f, err := connect(bg, s.RunDir(uuidN(1)), store.SocketName)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// talk sends bytes and gives all that the server answers until it hangs up.
func talk(t testing.TB, f *os.File, data string) string {
	t.Helper()
	_ = f.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(f, data)
	_ = closeWrite(f)
	b, err := io.ReadAll(f)
	if !errors.Is(err, unix.ECONNRESET) { // it need not read all that it was sent
		require.NoError(t, err)
	}
	return string(b)
}

func TestHostileLines(t *testing.T) {
	s := testStore(t)
	require.NoError(t, modes[0].start(t, s, fakeSpec{}, Config{}))
	long := strings.Repeat("x", MaxLine)
	for _, tc := range []struct {
		name, send string
		want       []string // substrings of the lines that come, in order
	}{
		{"nothing", "", nil},
		{"half a line", `{"id":1,"op":"hel`, nil},
		{"no json", "GET / HTTP/1.1\r\n\r\n", []string{`"protocol"`}},
		{"array", "[1]\n", []string{`"protocol"`}},
		{"no op", `{"id":1}` + "\n", []string{`"protocol"`}},
		{"negative id", `{"id":-1,"op":"hello"}` + "\n", []string{`"protocol"`}},
		{"two values", `{"id":1,"op":"hello"}{"id":2,"op":"info"}` + "\n", []string{`"protocol"`}},
		{"no hello", `{"id":1,"op":"info"}` + "\n", []string{`"protocol"`}},
		{"destroy without hello", `{"id":1,"op":"destroy"}` + "\n", []string{`"protocol"`}},
		{"version", `{"id":1,"op":"hello","args":{"versions":[7]}}` + "\n", []string{`"version"`}},
		{"no version", `{"id":1,"op":"hello"}` + "\n", []string{`"version"`}},
		{"long", long + "\n", []string{`"protocol"`}},
		{"long without end", long + long + long, []string{`"protocol"`}},
		{"long after hello", helloLine + `{"id":2,"op":"` + long + `"}` + "\n", []string{`"result"`, `"protocol"`}},
		{"unknown op", helloLine + `{"id":2,"op":"format-disk"}` + "\n" + `{"id":3,"op":"info"}` + "\n", []string{`"result"`, `"unknown-op"`, `"running"`}},
		{"unknown member", helloLine + `{"id":2,"op":"destroy","dry_run":true}` + "\n", []string{`"result"`, `"protocol"`}},
		{"unknown argument", helloLine + `{"id":2,"op":"console","args":{"read_only":true}}` + "\n", []string{`"result"`, `"invalid-argument"`}},
		{"deep", helloLine + `{"id":2,"op":"info","args":` + strings.Repeat("[", 20000) + "}\n", []string{`"result"`, `"protocol"`}},
		{"same id", helloLine + strings.Repeat(`{"id":2,"op":"wait"}`+"\n", 2), []string{`"result"`, `"invalid-argument"`}},
		{"cancel of nothing", helloLine + `{"id":2,"op":"cancel","args":{"id":77}}` + "\n", []string{`"result"`, `"result"`}},
		{"console while waiting", helloLine + `{"id":2,"op":"wait"}` + "\n" + `{"id":3,"op":"console"}` + "\n", []string{`"result"`, `"invalid-argument"`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := talk(t, rawDial(t, s), tc.send)
			var lines []string
			for l := range strings.Lines(got) {
				lines = append(lines, l)
				require.True(t, json.Valid([]byte(l)))
			}
			require.Len(t, lines, len(tc.want), "%q", got)
			for i, w := range tc.want {
				require.Contains(t, lines[i], w)
			}
			// The VM is as it was.
			st, err := dial(t, s).Info(bg)
			require.NoError(t, err)
			require.Equal(t, StateRunning, st.State)
		})
	}
}

// Input that comes with the console request is not lost.
func TestPipelinedConsole(t *testing.T) {
	s := testStore(t)
	require.NoError(t, modes[0].start(t, s, fakeSpec{}, Config{}))
	got := talk(t, rawDial(t, s), helloLine+`{"id":2,"op":"console"}`+"\necho hello there\noff\n")
	require.True(t, strings.HasSuffix(got, "boot 0\nhello there\nbye\n"), "%q", got)
}

func TestTooManyWaits(t *testing.T) {
	s := testStore(t)
	require.NoError(t, modes[1].start(t, s, fakeSpec{SlowSuspend: time.Hour}, Config{}))
	var b strings.Builder
	b.WriteString(helloLine)
	for i := range MaxWaits + 1 {
		fmt.Fprintf(&b, `{"id":%d,"op":"wait"}`+"\n", i+2)
	}
	for i := range MaxSlow + 1 {
		fmt.Fprintf(&b, `{"id":%d,"op":"suspend"}`+"\n", 5000+i)
	}
	got := talk(t, rawDial(t, s), b.String())
	require.Equal(t, 2, strings.Count(got, `"busy"`))
}

func TestTooManyConnections(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := testStore(t)
		require.NoError(t, m.start(t, s, fakeSpec{}, Config{}))
		var all []*Client
		for range MaxConns {
			all = append(all, dial(t, s))
		}
		_, err := Dial(bg, s.RunDir(uuidN(1)))
		require.ErrorIs(t, err, ErrBusy)
		_, err = all[7].Info(bg)
		require.NoError(t, err)
		all[0].Close()
		require.Eventually(t, func() bool {
			cl, err := Dial(bg, s.RunDir(uuidN(1)))
			if err != nil {
				return false
			}
			return cl.Close() == nil
		}, 10*time.Second, time.Millisecond)
	})
}

func shorten(t *testing.T, d *time.Duration) {
	old := *d
	*d = 50 * time.Millisecond
	t.Cleanup(func() { *d = old }) // after the servers of the test have ended
}

func TestSilentConnectionIsClosed(t *testing.T) {
	shorten(t, &helloTimeout)
	s := testStore(t)
	require.NoError(t, modes[1].start(t, s, fakeSpec{}, Config{}))
	patient := dial(t, s) // said hello: may be silent
	f := rawDial(t, s)
	_ = f.SetDeadline(time.Now().Add(20 * time.Second))
	b, err := io.ReadAll(f)
	require.NoError(t, err)
	require.Contains(t, string(b), "no hello")
	_, err = patient.Info(bg)
	require.NoError(t, err)
}

func TestPeerThatDoesNotReadIsDropped(t *testing.T) {
	shorten(t, &writeTimeout)
	s := testStore(t)
	require.NoError(t, modes[1].start(t, s, fakeSpec{}, Config{}))
	cl := dial(t, s)
	f := rawDial(t, s)
	_, err := io.WriteString(f, helloLine)
	require.NoError(t, err)
	_ = f.SetDeadline(time.Now().Add(20 * time.Second))
	line := []byte(strings.Repeat(`{"id":2,"op":"info"}`+"\n", 1000))
	for err == nil {
		_, err = f.Write(line)
		_, ierr := cl.Info(bg)
		require.NoError(t, ierr)
	}
	require.ErrorIs(t, err, unix.EPIPE)
	_, err = cl.Info(bg)
	require.NoError(t, err)
}

func TestStrangersAreRefused(t *testing.T) {
	require.True(t, allowed(&unix.Ucred{Uid: 0}, 1000))
	require.True(t, allowed(&unix.Ucred{Uid: 1000}, 1000))
	require.False(t, allowed(&unix.Ucred{Uid: 1001}, 1000))
	require.False(t, allowed(&unix.Ucred{Uid: 1001}, 0))
	if os.Getuid() != 0 {
		t.Skip("the rest needs root")
	}
	s := testStore(t)
	require.NoError(t, modes[0].start(t, s, fakeSpec{}, Config{}))
	// Even if the directories were opened to all by mistake.
	sock := filepath.Join(s.RunDir(uuidN(1)), store.SocketName)
	require.NoError(t, os.Chmod(sock, 0o777))
	for d := filepath.Dir(sock); d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		require.NoError(t, os.Chmod(d, 0o755))
	}
	cmd := role(t, "stranger", s.RunDir(uuidN(1)))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "user 65534 may not control")
}

func init() {
	roles["stranger"] = func(a []string) error {
		_, err := Dial(bg, a[0])
		if !errors.Is(err, ErrPermission) {
			return fmt.Errorf("not refused: %w", err)
		}
		fmt.Println(err)
		return nil
	}
}

func TestAbandonedCallsLeaveTheClientUsable(t *testing.T) {
	s := testStore(t)
	r, err := newRun(s)
	require.NoError(t, err)
	srv, err := Serve(bg, ServeConfig{Run: r, Spec: []byte(`{"slow_suspend":3600000000000}`)}, fakeFactory)
	require.NoError(t, err)
	t.Cleanup(func() { srv.Close() })
	cl := dial(t, s)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 300 {
				ctx, cancel := context.WithTimeout(bg, time.Duration(i%7)*100*time.Microsecond)
				var err error
				if g%2 == 0 {
					_, err = cl.Wait(ctx)
				} else {
					err = cl.Suspend(ctx)
				}
				cancel()
				if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrBusy) {
					t.Error(err)
					return
				}
				if _, err := cl.Info(bg); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	require.Eventually(t, func() bool {
		srv.mu.Lock()
		defer srv.mu.Unlock()
		n := 0
		for c := range srv.conns {
			c.mu.Lock()
			n += len(c.waits) + len(c.calls)
			c.mu.Unlock()
		}
		return n == 0
	}, 10*time.Second, time.Millisecond, "requests that nobody waits for are still under way")
	cl.mu.Lock()
	require.Empty(t, cl.pending)
	cl.mu.Unlock()
	// Closing a client ends its calls.
	ended := make(chan error, 1)
	go func() { _, err := cl.Wait(bg); ended <- err }()
	time.Sleep(5 * time.Millisecond)
	cl.Close()
	require.ErrorIs(t, <-ended, os.ErrClosed)
	require.ErrorIs(t, cl.Suspend(bg), os.ErrClosed)
}

// A server that is not ours.
func TestHostileServer(t *testing.T) {
	for _, tc := range []struct {
		name, send string
		want       error
	}{
		{"nothing", "", ErrGone},
		{"half a line", `{"id":1,"res`, ErrGone},
		{"long", strings.Repeat("x", 3*MaxLine), ErrProtocol},
		{"garbage", "\x00\xff\n", ErrProtocol},
		{"neither", `{"id":1}` + "\n", ErrProtocol},
		{"both", `{"id":1,"result":{},"error":{"code":"busy","message":"x"}}` + "\n", ErrProtocol},
		{"unasked", `{"result":{}}` + "\n", ErrProtocol},
		{"another's", `{"id":99,"result":{}}` + "\n", ErrGone},
		{"wrong type", `{"id":1,"result":{"vcpus":"many"}}` + "\n", ErrProtocol},
		{"error of its own", `{"id":0,"error":{"code":"busy","message":"go away"}}` + "\n", ErrBusy},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, b := socketPair(t)
			cl := newClient(a, "test")
			defer cl.Close()
			go func() {
				_, _ = io.WriteString(b, tc.send)
				_ = closeWrite(b)
			}()
			_, err := cl.Info(bg)
			require.ErrorIs(t, err, tc.want)
			b.Close()
		})
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nb\n\nlonger than the limit\nc"), uint8(3))
	f.Fuzz(func(t *testing.T, data []byte, size uint8) {
		const limit = 16
		l := newLineReader(&slowReader{data, int(size)%7 + 1}, limit)
		rest := data
		for {
			line, err := l.next()
			i := bytes.IndexByte(rest, '\n')
			if err != nil {
				switch {
				case i < 0 && len(rest) == 0:
					require.Equal(t, io.EOF, err)
				case i >= limit || i < 0 && len(rest) >= limit:
					require.ErrorIs(t, err, ErrProtocol)
				default:
					require.Equal(t, io.ErrUnexpectedEOF, err)
				}
				require.LessOrEqual(t, cap(l.buf), limit+512)
				return
			}
			require.Equal(t, string(rest[:i]), string(line))
			rest = rest[i+1:]
		}
	})
}

type slowReader struct {
	data []byte
	n    int
}

func (r *slowReader) Read(p []byte) (int, error) {
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.n)], r.data)
	r.data = r.data[n:]
	return n, nil
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"id":1,"op":"hello","args":{"versions":[1]}}`))
	f.Add([]byte(`{"id":18446744073709551615,"op":"cancel","args":{"id":2}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRequest(data)
		if err != nil {
			require.ErrorIs(t, err, ErrProtocol)
			return
		}
		// What was understood means the same when it is sent again.
		line, err := encodeLine(r, 10*MaxLine)
		require.NoError(t, err)
		again, err := parseRequest(line)
		require.NoError(t, err)
		require.Equal(t, r.ID, again.ID)
		require.Equal(t, r.Op, again.Op)
		for _, v := range []any{&helloArgs{}, &cancelArgs{}, &consoleArgs{}, &consoleReply{}} {
			if err := decodeArgs(r, v); err != nil {
				require.ErrorIs(t, err, ErrInvalidArgument)
			}
		}
	})
}

// A whole server connection, after a good hello or without.
func FuzzServerConnection(f *testing.F) {
	f.Add(true, []byte(`{"id":2,"op":"info"}`+"\n"+`{"id":3,"op":"wait"}`+"\n"+`{"id":4,"op":"cancel","args":{"id":3}}`+"\n"))
	f.Add(true, []byte(`{"id":2,"op":"console","args":{"force":true}}`+"\necho x\nreset\nflood 100000\n"))
	f.Add(true, []byte(`{"id":2,"op":"suspend"}`+"\n"+`{"id":3,"op":"reset"}`+"\n"+`{"id":4,"op":"destroy"}`+"\n"))
	f.Add(true, []byte(`{"id":2,"op":"reboot"}`+"\n"+`{"id":3,"op":"resume"}`+"\n"+`{"id":4,"op":"console-ended","args":{"session":1}}`+"\n"))
	f.Add(false, []byte("\x00\n"))
	s := testStore(f)
	var srv *Server
	f.Cleanup(func() {
		if srv != nil {
			srv.Close()
		}
	})
	f.Fuzz(func(t *testing.T, hello bool, data []byte) {
		if srv == nil || srv.killed.Err() != nil {
			if srv != nil {
				srv.Close()
			}
			r, err := newRun(s)
			require.NoError(t, err)
			srv, err = Serve(bg, ServeConfig{Run: r, Spec: []byte("{}")}, fakeFactory)
			require.NoError(t, err)
		}
		send := string(data)
		if hello {
			send = helloLine + send
		}
		fd, err := connect(bg, s.RunDir(uuidN(1)), store.SocketName)
		if err != nil {
			return // the input before shut the guest down
		}
		defer fd.Close()
		_ = fd.SetDeadline(time.Now().Add(100 * time.Millisecond)) // a console stays open
		go func() { _, _ = io.WriteString(fd, send); _ = closeWrite(fd) }()
		_, _ = io.Copy(io.Discard, fd)
		fd.Close()
		// Whatever it was: others are served, or it ended as it should.
		ctx, cancel := context.WithTimeout(bg, 10*time.Second)
		defer cancel()
		cl, err := Dial(ctx, s.RunDir(uuidN(1)))
		if err == nil {
			_, err = cl.Info(ctx)
			cl.Close()
		}
		if err != nil {
			require.ErrorIs(t, err, ErrGone)
			_, err = srv.Wait(ctx)
			require.NoError(t, err)
		}
	})
}

// A client at a hostile server.
func FuzzClient(f *testing.F) {
	f.Add([]byte(`{"id":1,"result":{"state":"running"}}` + "\n"))
	f.Add([]byte(`{"id":9,"result":{}}` + "\n" + `{"id":1,"error":{"code":"busy","message":""}}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, b := socketPair(t)
		cl := newClient(a, "test")
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = b.SetWriteDeadline(time.Now().Add(10 * time.Second))
			_, _ = b.Write(data)
			_ = closeWrite(b)
		}()
		_, _ = cl.Info(bg) // must return
		cl.Close()
		<-done
		b.Close()
	})
}
