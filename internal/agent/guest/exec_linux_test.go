package guest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/internal/agent/host"
	"github.com/polyvisor/polyvisor/internal/agent/proto"
)

func sh(script string) *host.Command { return &host.Command{Args: []string{"sh", "-c", script}} }

// run runs a command to its end.
func runs(t *testing.T, c *host.Client, cmd *host.Command) proto.Exit {
	t.Helper()
	p, err := c.Start(limited(t), cmd)
	require.NoError(t, err)
	defer p.Close()
	e, err := p.Wait(limited(t))
	require.NoError(t, err)
	return e
}

func TestExec(t *testing.T) {
	c := pair(t, &Server{})
	for _, tt := range []struct {
		name     string
		cmd      host.Command
		in       string
		out, err string
		exit     proto.Exit
	}{
		{name: "exit code", cmd: *sh("exit 7"), exit: proto.Exit{Code: 7}},
		{name: "both outputs", cmd: *sh("echo out; echo err >&2"), out: "out\n", err: "err\n"},
		{name: "input", cmd: *sh("cat; echo end"), in: "some words\n", out: "some words\nend\n"},
		{name: "arguments that are no text", cmd: host.Command{Args: []string{"printf", "%s|", "a b", "", "\xff\xfe"}}, out: "a b||\xff\xfe|"},
		{name: "environment", cmd: host.Command{Args: []string{"sh", "-c", "echo $ONE-$HOME-$PATH"}, Env: []string{"ONE=1 2", "HOME=/x", "PATH=/bin:/usr/bin"}}, out: "1 2-/x-/bin:/usr/bin\n"},
		{name: "directory", cmd: host.Command{Args: []string{"pwd"}, Dir: "/usr"}, out: "/usr\n"},
		{name: "signal", cmd: *sh("kill -TERM $$"), exit: proto.Exit{Code: 143, Signal: 15}},
		{name: "name and file", cmd: host.Command{Path: "/bin/sh", Args: []string{"other", "-c", "echo $0"}}, out: "other\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out, err bytes.Buffer
			cmd := tt.cmd
			cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(tt.in), &out, &err
			require.Equal(t, tt.exit, runs(t, c, &cmd))
			require.Equal(t, tt.out, out.String())
			require.Equal(t, tt.err, err.String())
		})
	}
}

func TestExecMerged(t *testing.T) {
	var out bytes.Buffer
	cmd := sh("for i in 1 2 3; do echo out; echo err >&2; done")
	cmd.Stdout, cmd.Merge = &out, true
	require.Zero(t, runs(t, pair(t, &Server{}), cmd))
	require.Equal(t, strings.Repeat("out\nerr\n", 3), out.String())
}

func TestExecRefused(t *testing.T) {
	c := pair(t, &Server{})
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	require.NoError(t, os.WriteFile(plain, []byte("x"), 0o644))
	for _, tt := range []struct {
		name string
		cmd  host.Command
		code string
	}{
		{"no such program", host.Command{Args: []string{"no-such-program"}}, proto.FailNotFound},
		{"no such file", host.Command{Args: []string{"/no/such/program"}}, proto.FailNotFound},
		{"no permission", host.Command{Args: []string{plain}}, proto.FailPermission},
		{"a directory", host.Command{Args: []string{dir}}, proto.FailPermission},
		{"no such directory", host.Command{Args: []string{"true"}, Dir: "/no/such/dir"}, proto.FailNotFound},
		{"no such user", host.Command{Args: []string{"true"}, User: "no-such-user"}, proto.FailNotFound},
		{"no such group", host.Command{Args: []string{"true"}, User: "0:no-such-group"}, proto.FailNotFound},
		{"nothing", host.Command{}, proto.FailInvalid},
		{"a zero byte", host.Command{Args: []string{"a\x00b"}}, proto.FailInvalid},
		{"bad environment", host.Command{Args: []string{"true"}, Env: []string{"X"}}, proto.FailInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := c.Start(limited(t), &tt.cmd)
			var f *proto.Failure
			require.ErrorAs(t, err, &f)
			require.Equal(t, tt.code, f.Code, f.Message)
		})
	}
}

// A hundred megabytes go through a command and come back byte for byte.
func TestExecMuch(t *testing.T) {
	const size = 100 << 20
	random := rand.NewChaCha8([32]byte{1})
	sent, got := sha256.New(), sha256.New()
	cmd := &host.Command{Args: []string{"cat"}, Stdin: io.TeeReader(io.LimitReader(random, size), sent)}
	n := &counter{}
	cmd.Stdout = io.MultiWriter(got, n)
	require.Zero(t, runs(t, pair(t, &Server{}), cmd))
	require.EqualValues(t, size, n.n)
	require.Equal(t, sent.Sum(nil), got.Sum(nil))
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// A writer that sleeps holds up its own stream, and nothing else.
func TestExecSlowReader(t *testing.T) {
	c := pair(t, &Server{})
	wake := make(chan struct{})
	slow := writerFunc(func(p []byte) (int, error) { <-wake; return len(p), nil })
	var said bytes.Buffer
	words := make(chan string, 100)
	fast := writerFunc(func(p []byte) (int, error) {
		said.Write(p)
		words <- string(p)
		return len(p), nil
	})
	cmd := sh("head -c 4000000 /dev/zero & while read line; do echo got $line >&2; done; wait")
	in, w := io.Pipe()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, slow, fast
	p, err := c.Start(limited(t), cmd)
	require.NoError(t, err)
	defer p.Close()
	for i := range 10 {
		_, err := io.WriteString(w, strconv.Itoa(i)+"\n")
		require.NoError(t, err)
		require.Equal(t, "got "+strconv.Itoa(i)+"\n", <-words)
	}
	close(wake)
	require.NoError(t, w.Close())
	e, err := p.Wait(limited(t))
	require.NoError(t, err)
	require.Zero(t, e)
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestExecSignal(t *testing.T) {
	c := pair(t, &Server{})
	lines := make(chan string, 10)
	cmd := sh("trap 'echo interrupted; exit 3' INT; echo ready; while :; do sleep 0.01; done")
	cmd.Stdout = writerFunc(func(p []byte) (int, error) { lines <- string(p); return len(p), nil })
	p, err := c.Start(limited(t), cmd)
	require.NoError(t, err)
	defer p.Close()
	require.Equal(t, "ready\n", <-lines)
	require.NoError(t, p.Signal(limited(t), 2))
	e, err := p.Wait(limited(t))
	require.NoError(t, err)
	require.Equal(t, proto.Exit{Code: 3}, e)
	require.Equal(t, "interrupted\n", <-lines)
	require.ErrorIs(t, p.Signal(limited(t), 2), host.ErrEnded)
}

// What a command has started is gone with it when the host gives up, however it multiplies and
// whatever it prints.
func TestExecKilled(t *testing.T) {
	c := pair(t, &Server{})
	dir := t.TempDir()
	cmd := sh(`i=0; while [ $i -lt 20 ]; do (while :; do echo flood; done) & i=$((i+1)); done; echo $$ > "$DIR/pid"; wait`)
	cmd.Env = []string{"DIR=" + dir}
	cmd.Stdout = io.Discard
	p, err := c.Start(limited(t), cmd)
	require.NoError(t, err)
	require.Eventually(t, func() bool { _, err := os.Stat(filepath.Join(dir, "pid")); return err == nil }, time.Minute, time.Millisecond)
	require.NotEmpty(t, inSession(p.PID))
	require.NoError(t, p.Close())
	_, err = p.Wait(limited(t))
	require.ErrorIs(t, err, host.ErrKilled)
	require.Eventually(t, func() bool { return len(inSession(p.PID)) == 0 }, time.Minute, time.Millisecond)
}

// inSession lists the processes of a session.
func inSession(sid int) (pids []string) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, s := range stats {
		b, err := os.ReadFile(s)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(rest); len(f) > 3 && f[3] == strconv.Itoa(sid) && f[0] != "Z" {
			pids = append(pids, s)
		}
	}
	return pids
}

func TestExecTerminal(t *testing.T) {
	c := pair(t, &Server{})
	lines := make(chan string, 100)
	cmd := sh("trap 'stty size' WINCH; stty -echo; stty size; echo ready; until read x; do :; done; echo got $x; read y; echo rest $?")
	in, w := io.Pipe()
	var all strings.Builder
	cmd.TTY, cmd.Stdin = &proto.Size{Cols: 90, Rows: 30}, in
	cmd.Stdout = writerFunc(func(p []byte) (int, error) {
		for _, b := range p {
			if b == '\n' {
				lines <- strings.TrimSuffix(all.String(), "\r")
				all.Reset()
			} else {
				all.WriteByte(b)
			}
		}
		return len(p), nil
	})
	p, err := c.Start(limited(t), cmd)
	require.NoError(t, err)
	defer p.Close()
	require.Equal(t, "30 90", <-lines)
	require.Equal(t, "ready", <-lines)
	require.NoError(t, p.Resize(limited(t), proto.Size{Cols: 100, Rows: 40}))
	_, err = io.WriteString(w, "word\n")
	require.NoError(t, err)
	got := []string{<-lines, <-lines}
	require.ElementsMatch(t, []string{"40 100", "got word"}, got)
	require.NoError(t, w.Close()) // control-D
	require.Equal(t, "rest 1", <-lines)
	e, err := p.Wait(limited(t))
	require.NoError(t, err)
	require.Zero(t, e)
}

// The control character of a terminal is a signal to what runs on it.
func TestExecTerminalInterrupt(t *testing.T) {
	cmd := sh("echo ready; exec sleep 60")
	in, w := io.Pipe()
	ready := make(chan struct{}, 100)
	cmd.TTY, cmd.Stdin = &proto.Size{}, in
	cmd.Stdout = writerFunc(func(p []byte) (int, error) { ready <- struct{}{}; return len(p), nil })
	p, err := pair(t, &Server{}).Start(limited(t), cmd)
	require.NoError(t, err)
	defer p.Close()
	<-ready
	_, err = w.Write([]byte{3})
	require.NoError(t, err)
	e, err := p.Wait(limited(t))
	require.NoError(t, err)
	require.Equal(t, proto.Exit{Code: 130, Signal: 2}, e)
	require.NoError(t, w.Close())
}

// A writer that fails ends the stream: the command hears of it by SIGPIPE.
func TestExecWriterFails(t *testing.T) {
	broken := errors.New("disk full")
	cmd := sh("while echo flood; do :; done 2>/dev/null; exit 9")
	cmd.Stdout = writerFunc(func([]byte) (int, error) { return 0, broken })
	p, err := pair(t, &Server{}).Start(limited(t), cmd)
	require.NoError(t, err)
	defer p.Close()
	_, err = p.Wait(limited(t))
	require.ErrorIs(t, err, broken)
}

// What a command leaves behind when it ends by itself goes on.
func TestExecLeavesDaemon(t *testing.T) {
	cmd := sh("sleep 60 >/dev/null 2>&1 & echo $!")
	var out bytes.Buffer
	cmd.Stdout = &out
	require.Zero(t, runs(t, pair(t, &Server{}), cmd))
	pid, err := strconv.Atoi(strings.TrimSpace(out.String()))
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
}
