//go:build linux && amd64

package kvm_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/internal/testguest"
)

// agentInitrd makes an initial RAM disk whose first process is the agent, with the tool of
// tests as /bin/tool.
func (l *lab) agentInitrd(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("POLYVISOR_TEST_AGENT_INITRD"); path != "" {
		return path
	}
	_, release, err := testguest.FindKernel()
	require.NoError(t, err)
	dir := t.TempDir()
	b, err := testguest.AgentInitramfs(patiently(t), dir, testguest.Options{Release: release, Modules: testguest.ButtonModules(), DeviceModules: testguest.DeviceModules()})
	require.NoError(t, err)
	path := filepath.Join(dir, "initrd")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return path
}

// agentConfig is a guest whose first process is the agent.
func (l *lab) agentConfig(t *testing.T, name string) *polyvisor.Config {
	t.Helper()
	cfg := l.config(name, 1, 192*polyvisor.MiB, "")
	cfg.Boot.Initrd = polyvisor.Path(l.agentInitrd(t))
	cfg.Vsock = &polyvisor.VsockConfig{}
	return cfg
}

func tool(words ...string) polyvisor.Cmd {
	return polyvisor.Cmd{Args: append([]string{"tool"}, words...)}
}

// Commands in a guest with a stock kernel, whose first process is the agent.
func TestLinuxExec(t *testing.T) {
	l := newLab(t)
	c, ctx := l.open(t), patiently
	d := create(t, c, l.agentConfig(t, "commands"))
	begin := time.Now()
	require.NoError(t, d.WaitReady(ctx(t)))
	t.Logf("ready after %v", time.Since(begin))

	begin = time.Now()
	out, err := d.ExecOutput(ctx(t), tool("uname"))
	require.NoError(t, err)
	t.Logf("the guest's kernel is %s; a command took %v", strings.TrimSpace(string(out)), time.Since(begin))
	if modules := os.Getenv("POLYVISOR_TEST_MODULES"); modules != "" {
		require.Equal(t, filepath.Base(modules)+"\n", string(out))
	}
	var exit *polyvisor.ExitError
	require.ErrorAs(t, d.Exec(ctx(t), tool("exit", "7")), &exit)
	require.Equal(t, polyvisor.ExitStatus{Code: 7}, exit.ExitStatus)
	require.ErrorAs(t, d.Exec(ctx(t), tool("die")), &exit)
	require.Equal(t, polyvisor.ExitStatus{Code: 137, Signal: polyvisor.SIGKILL}, exit.ExitStatus)
	requireCode(t, d.Exec(ctx(t), polyvisor.Cmd{Args: []string{"no-such-program"}}), polyvisor.ErrNotFound, "no-such-program")

	t.Run("8 MiB through cat", func(t *testing.T) {
		const size = 8 << 20
		sent, got := sha256.New(), sha256.New()
		cmd := tool("cat")
		cmd.Stdin = io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{3}), size), sent)
		cmd.Stdout = got
		begin := time.Now()
		require.NoError(t, d.Exec(ctx(t), cmd))
		t.Logf("%d bytes there and back in %v", size, time.Since(begin))
		require.Equal(t, sent.Sum(nil), got.Sum(nil))
	})
	t.Run("signal, terminal and size", func(t *testing.T) {
		var out bytes.Buffer
		lines := make(chan string, 10)
		cmd := tool("await")
		cmd.TTY = &polyvisor.TTYSize{Cols: 80, Rows: 25}
		cmd.Stdin = strings.NewReader("")
		cmd.Stdout = writerFunc(func(p []byte) (int, error) {
			out.Write(p)
			for {
				line, rest, ok := strings.Cut(out.String(), "\r\n")
				if !ok {
					return len(p), nil
				}
				lines <- line
				out.Reset()
				out.WriteString(rest)
			}
		})
		p, err := d.StartExec(ctx(t), cmd)
		require.NoError(t, err)
		defer p.Close()
		next := func() string {
			select {
			case line := <-lines:
				return line
			case <-ctx(t).Done():
				return "nothing"
			}
		}
		line := next()
		if line == "^D" || strings.HasPrefix(line, "^D") {
			line = strings.TrimLeft(line, "^D\b")
		}
		require.Equal(t, "ready", line)
		require.NoError(t, p.Resize(ctx(t), polyvisor.TTYSize{Cols: 132, Rows: 43}))
		require.Equal(t, "132 43", next())
		require.NoError(t, p.Signal(ctx(t), polyvisor.SIGINT))
		require.Equal(t, "interrupted", next())
		require.ErrorAs(t, p.Wait(ctx(t)), &exit)
		require.Equal(t, 3, exit.Code)
	})
	t.Run("a flood is ended, with what got out of its session", func(t *testing.T) {
		came := make(chan struct{}, 1)
		cmd := tool("flood")
		cmd.Stdout = writerFunc(func(p []byte) (int, error) {
			select {
			case came <- struct{}{}:
			default:
			}
			return len(p), nil
		})
		short, cancel := context.WithCancel(ctx(t))
		go func() {
			<-came
			cancel()
		}()
		require.ErrorIs(t, d.Exec(short, cmd), context.Canceled)
		// Nothing of it is left: the agent is all there is beside the kernel's own.
		eventually(t, func() bool {
			out, err := d.ExecOutput(ctx(t), tool("procs"))
			require.NoError(t, err)
			return strings.TrimSpace(string(out)) == "1"
		}, "the flood goes on")
	})
	require.NoError(t, d.Shutdown(ctx(t)))
	require.Equal(t, polyvisor.StopShutdown, wait(t, d).Reason)
	requireCode(t, d.Exec(ctx(t), tool("uname")), polyvisor.ErrNotFound)
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
