package cli_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/cmd/polyvisor/internal/cli"
)

func TestRunExitCodes(t *testing.T) {
	for i, tc := range []struct {
		input string
		args  []string
		code  int
		says  string
	}{
		{"poweroff\n", nil, 0, "stopped: shutdown"},
		{"reboot\n", nil, 17, "stopped: reboot"},
		{"reboot\npoweroff\n", []string{"--on-reboot", "restart"}, 0, "stopped: shutdown"},
		{"crash\n", nil, 18, "stopped: crash: triple fault [31m at 0x1000"},
	} {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			h, uri := host(t)
			code, _, err := invoke(t, tc.input, append([]string{"-c", uri, "run", "--rm", "--name", "web"}, tc.args...)...)
			require.Equal(t, tc.code, code, err)
			require.Equal(t, "polyvisor: domain \"web\" "+tc.says+"\n", err)
			require.Empty(t, h.domains, "--rm")
		})
	}
}

// Nothing that a short guest prints is missed: it begins when its console is open.
func TestRunShortGuest(t *testing.T) {
	for range 20 {
		_, uri := host(t)
		code, out, err := invoke(t, "", "-c", uri, "run", "--rm", "--name", "web", "--cmdline", "poweroff")
		require.Zero(t, code, err)
		require.Equal(t, "bye\r\n", out)
		require.Equal(t, "polyvisor: domain \"web\" stopped: shutdown\n", err)
		code, _, err = invoke(t, `{"name": "web", "boot": {"cmdline": "poweroff"}}`, "-c", uri, "define", "-")
		require.Zero(t, code, err)
		code, out, err = invoke(t, "", "-c", uri, "start", "--console", "web")
		require.Zero(t, code, err)
		require.Equal(t, "bye\r\n", out)
		must(t, "-c", uri, "undefine", "web")
	}
}

// A hypervisor that cannot start a guest paused may have it ended before its
// console is attached to.
func TestRunFastGuest(t *testing.T) {
	h, uri := host(t)
	h.noSuspend = true
	code, out, err := invoke(t, "", "-c", uri, "run", "--rm", "--name", "web", "--cmdline", "poweroff")
	require.Zero(t, code, err)
	require.Contains(t, err, "domain \"web\" stopped: shutdown\n")
	require.True(t, out == "bye\r\n" || strings.Contains(err, "ended before its console was attached"), "output %q", out)
}

// A guest whose console cannot be opened, or that does not resume, is not left
// behind unsaid.
func TestRunPausedFails(t *testing.T) {
	h, uri := host(t)
	h.failConsole = polyvisor.ErrPermission
	code, _, err := invoke(t, "", "-c", uri, "run", "--name", "web")
	require.Equal(t, 1, code)
	require.Contains(t, err, "permission denied; domain \"web\" runs on; \"polyvisor console web\" attaches to it\n")
	require.Equal(t, polyvisor.Running, only(h).now(), "it does not wait for a console that does not come")
	must(t, "-c", uri, "undefine", "--destroy", "web")

	h.failConsole, h.failResume = nil, polyvisor.ErrNoResource
	code, _, err = invoke(t, "", "-c", uri, "run", "--name", "web")
	require.Equal(t, 1, code)
	require.Contains(t, err, "domain \"web\" is left paused; \"polyvisor resume web\" lets it go on\n")
	require.Equal(t, polyvisor.Paused, only(h).now())
}

// The connection to a console breaks while its domain runs.
func TestConsoleBreaks(t *testing.T) {
	h, uri := host(t)
	defineAll(t, uri, "web")
	must(t, "-c", uri, "start", "web")
	c := begin(t, "-c", uri, "console", "web")
	c.out.expect(t, "is up")
	only(h).current().console.fail(polyvisor.ErrConnLost)
	require.Equal(t, 1, c.end())
	require.Equal(t, "polyvisor: the console of domain \"web\" ended: connection lost; the domain runs on; \"polyvisor console web\" comes back to it\n", c.err.String())
}

// The end of standard input does not end the run.
func TestRunAfterEOF(t *testing.T) {
	_, uri := host(t)
	c := begin(t, "-c", uri, "run", "--name", "web")
	c.send("hello\n")
	c.in.Close()
	c.out.expect(t, "guest of web is up\r\necho hello\r\n")
	require.Contains(t, must(t, "-c", uri, "list"), "running")
	must(t, "-c", uri, "shutdown", "web")
	require.Zero(t, c.end())
	require.Contains(t, c.out.String(), "going down\r\n", "the last words")
	require.Contains(t, must(t, "-c", uri, "list", "--all"), "web    -    shutoff", "without --rm the definition stays")
}

func TestRunConfig(t *testing.T) {
	_, uri := host(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "web.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"name": "web", "memory": "64MiB", "vcpus": 2, "on_reboot": "restart",
		"boot": {"kernel": "vmlinuz", "cmdline": "quiet"}}`), 0o600))
	abs := func(name string) string {
		path, err := filepath.Abs(name)
		require.NoError(t, err)
		return path
	}
	for _, tc := range []struct {
		args string
		want polyvisor.Config
	}{
		{"--name a", polyvisor.Config{Name: "a", Memory: polyvisor.DefaultMemory, VCPUs: 1, OnReboot: polyvisor.ActionDestroy}},
		{"--name b --memory 1GiB --vcpus 4 --kernel k --initrd i --title T --console-log log --virtio-console --on-crash restart", polyvisor.Config{
			Name: "b", Title: "T", Memory: polyvisor.GiB, VCPUs: 4, OnReboot: polyvisor.ActionDestroy, OnCrash: polyvisor.ActionRestart,
			Boot:    polyvisor.Boot{Kernel: polyvisor.Path(abs("k")), Initrd: polyvisor.Path(abs("i")), CommandLine: "console=ttyS0"},
			Console: polyvisor.ConsoleConfig{Log: abs("log"), Virtio: true}}},
		{"--name c --kernel k --cmdline=", polyvisor.Config{
			Name: "c", Memory: polyvisor.DefaultMemory, VCPUs: 1, OnReboot: polyvisor.ActionDestroy,
			Boot: polyvisor.Boot{Kernel: polyvisor.Path(abs("k"))}}},
		{file, polyvisor.Config{Name: "web", Memory: 64 * polyvisor.MiB, VCPUs: 2, OnReboot: polyvisor.ActionRestart,
			Boot: polyvisor.Boot{Kernel: polyvisor.Path(filepath.Join(dir, "vmlinuz")), CommandLine: "quiet"}}},
		{"--file " + file + " --name d --vcpus 3 --on-reboot destroy", polyvisor.Config{Name: "d", Memory: 64 * polyvisor.MiB, VCPUs: 3,
			OnReboot: polyvisor.ActionDestroy, Boot: polyvisor.Boot{Kernel: polyvisor.Path(filepath.Join(dir, "vmlinuz")), CommandLine: "quiet"}}},
	} {
		t.Run(tc.want.Name, func(t *testing.T) {
			must(t, append([]string{"-c", uri, "run", "--detach"}, strings.Fields(tc.args)...)...)
			got, err := polyvisor.ParseConfig([]byte(must(t, "-c", uri, "config", tc.want.Name)))
			require.NoError(t, err)
			tc.want.UUID = got.UUID
			require.Equal(t, tc.want.WithDefaults(), got)
		})
	}
}

func TestRunConfigFromStdin(t *testing.T) {
	_, uri := host(t)
	code, out, _ := invoke(t, `{"name": "web"}`, "-c", uri, "run", "--detach", "-")
	require.Zero(t, code)
	require.Equal(t, "web\n", out)
}

func TestRunMadeUpName(t *testing.T) {
	_, uri := host(t)
	name := strings.TrimSpace(must(t, "-c", uri, "run", "--detach"))
	require.Regexp(t, "^run-[0-9a-f]{8}$", name)
	require.Contains(t, must(t, "-c", uri, "info", name), "running")
	_, _, err := invoke(t, "poweroff\n", "-c", uri, "run", "--rm")
	require.Regexp(t, "^polyvisor: domain \"run-[0-9a-f]{8}\" started\n", err, "the user must learn the name")
}

// A run that fails leaves what was there before, and nothing else.
func TestRunUndone(t *testing.T) {
	h, uri := host(t)
	defineAll(t, uri, "old")
	before := must(t, "-c", uri, "config", "old")
	for _, args := range [][]string{{}, {"--rm"}} {
		code, _, err := invoke(t, "", append([]string{"-c", uri, "run", "--name", "old", "--memory", "1GiB"}, args...)...)
		require.Equal(t, 1, code)
		require.Contains(t, err, "exists already")
		require.Contains(t, err, "polyvisor undefine --destroy old")
	}
	require.Equal(t, before, must(t, "-c", uri, "config", "old"))
	h.failStart = polyvisor.ErrNoResource
	for _, args := range [][]string{{}, {"--rm"}} {
		code, _, err := invoke(t, "", append([]string{"-c", uri, "run", "--name", "new"}, args...)...)
		require.Equal(t, 1, code)
		require.Contains(t, err, "resource not available; \"polyvisor doctor\" shows")
	}
	require.Contains(t, must(t, "-c", uri, "list", "--all"), "old")
	require.NotContains(t, must(t, "-c", uri, "list", "--all"), "new")
}

func TestBigOutput(t *testing.T) {
	_, uri := host(t)
	const n = 10 << 20
	code, out, _ := invoke(t, "flood 10485760\npoweroff\n", "-c", uri, "run", "--rm", "--name", "web")
	require.Zero(t, code)
	out = strings.TrimPrefix(out, "guest of web is up\r\n")
	require.Len(t, out, n+len("flooded\r\n"))
	require.True(t, out[:n] == string(pattern(n)), "no byte lost, doubled or changed")
}

// A reader that is slow or stops for a while gets everything.
func TestSlowReader(t *testing.T) {
	_, uri := host(t)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	const n = 1 << 20
	var msg outBuffer
	code := make(chan int, 1)
	go func() {
		defer w.Close()
		code <- cli.Main(context.Background(), []string{"-c", uri, "run", "--rm", "--name", "web"},
			strings.NewReader("flood 1048576\npoweroff\n"), w, &msg)
	}()
	var got bytes.Buffer
	for range 20 {
		_, err := io.CopyN(&got, r, 1000)
		require.NoError(t, err)
		time.Sleep(time.Millisecond)
	}
	_, err = io.Copy(&got, r)
	require.NoError(t, err)
	require.Zero(t, <-code, msg.String())
	require.Equal(t, len("guest of web is up\r\n")+n+len("flooded\r\n"), got.Len())
}

func TestRunBrokenOutput(t *testing.T) {
	h, uri := host(t)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	r.Close()
	defer w.Close()
	var msg bytes.Buffer
	code := cli.Main(context.Background(), []string{"-c", uri, "run", "--name", "web"}, strings.NewReader(""), w, &msg)
	require.Equal(t, 1, code)
	require.Equal(t, "polyvisor: console: writing to standard output: write |1: broken pipe; domain \"web\" runs on; \"polyvisor console web\" comes back to it\n", msg.String())
	require.Equal(t, polyvisor.Running, only(h).now())
}

// The guest takes no input: the run ends with the domain all the same.
func TestDeafGuest(t *testing.T) {
	h, uri := host(t)
	c := begin(t, "-c", uri, "run", "--rm", "--name", "web", "-k", "/k", "--cmdline", "deaf")
	c.send(strings.Repeat("x", 10000))
	c.out.expect(t, "is up")
	d := only(h)
	d.finish(d.current(), polyvisor.StopHangup, "")
	require.Equal(t, 21, c.end())
}

func TestSignals(t *testing.T) {
	kill := func(sig syscall.Signal) { require.NoError(t, syscall.Kill(os.Getpid(), sig)) }
	later := func() { time.Sleep(cli.SameSignal + 100*time.Millisecond) }
	t.Run("one and its echo", func(t *testing.T) {
		h, uri := host(t)
		c := begin(t, "-c", uri, "run", "--rm", "--name", "web", "-k", "/k", "--cmdline", "stubborn")
		c.out.expect(t, "is up")
		kill(syscall.SIGTERM)
		kill(syscall.SIGINT)
		c.err.expect(t, "was asked to shut down")
		later()
		require.Equal(t, 1, strings.Count(c.out.String(), "no\r\n"))
		require.Equal(t, polyvisor.Running, only(h).now(), "it was asked once and not destroyed")
		c.send("poweroff\n")
		require.Zero(t, c.end())
	})
	t.Run("first asks", func(t *testing.T) {
		_, uri := host(t)
		c := begin(t, "-c", uri, "run", "--rm", "--name", "web")
		c.out.expect(t, "is up")
		kill(syscall.SIGTERM)
		require.Zero(t, c.end())
		require.Contains(t, c.err.String(), "domain \"web\" was asked to shut down; another signal destroys it\n")
		require.Contains(t, c.err.String(), "domain \"web\" stopped: shutdown\n")
	})
	t.Run("second destroys", func(t *testing.T) {
		_, uri := host(t)
		c := begin(t, "-c", uri, "run", "--rm", "--name", "web", "-k", "/k", "--cmdline", "stubborn")
		c.out.expect(t, "is up")
		kill(syscall.SIGINT)
		c.out.expect(t, "no\r\n")
		later()
		kill(syscall.SIGINT)
		require.Equal(t, 13, c.end())
		require.Contains(t, c.err.String(), "stopped: killed")
	})
	t.Run("a paused guest cannot be asked", func(t *testing.T) {
		_, uri := host(t)
		c := begin(t, "-c", uri, "run", "--rm", "--name", "web")
		c.out.expect(t, "is up")
		must(t, "-c", uri, "suspend", "web")
		kill(syscall.SIGINT)
		c.err.expect(t, "domain is paused, shutdown needs it running or blocked; resume it first; another signal destroys the domain\n")
		later()
		kill(syscall.SIGINT)
		require.Equal(t, 13, c.end())
	})
	t.Run("hangup leaves", func(t *testing.T) {
		h, uri := host(t)
		c := begin(t, "-c", uri, "run", "--name", "web")
		c.out.expect(t, "is up")
		kill(syscall.SIGHUP)
		require.Equal(t, 129, c.end())
		require.Contains(t, c.err.String(), "\"polyvisor console web\" comes back to it\n")
		require.Equal(t, polyvisor.Running, only(h).now())
	})
	t.Run("console is left", func(t *testing.T) {
		h, uri := host(t)
		defineAll(t, uri, "web")
		must(t, "-c", uri, "start", "web")
		c := begin(t, "-c", uri, "console", "web")
		c.out.expect(t, "is up")
		kill(syscall.SIGTERM)
		require.Equal(t, 143, c.end())
		require.Equal(t, polyvisor.Running, only(h).now())
	})
	t.Run("wait is ended", func(t *testing.T) {
		h, uri := host(t)
		defineAll(t, uri, "web")
		must(t, "-c", uri, "start", "web")
		c := begin(t, "-v", "-c", uri, "wait", "web")
		c.err.expect(t, "connected")
		kill(syscall.SIGINT)
		require.Equal(t, 130, c.end())
		require.Contains(t, c.err.String(), "polyvisor: ended by signal: interrupt\n")
		require.Equal(t, polyvisor.Running, only(h).now())
	})
}

func TestConsole(t *testing.T) {
	_, uri := host(t)
	defineAll(t, uri, "web")
	must(t, "-c", uri, "start", "web")
	first := begin(t, "-c", uri, "console", "web")
	first.out.expect(t, "guest of web is up")
	code, _, err := invoke(t, "", "-c", uri, "console", "web")
	require.Equal(t, 1, code)
	require.Contains(t, err, "busy: the console has an owner; --force takes the console over")

	second := begin(t, "-c", uri, "console", "--force", "web")
	require.Equal(t, 1, first.end())
	require.Contains(t, first.err.String(), "taken over by another; the domain runs on; \"polyvisor console --force web\" comes back to it\n")
	second.send("hi\npoweroff\n")
	require.Zero(t, second.end())
	require.Equal(t, "echo hi\r\n", second.out.String())
	require.Equal(t, "polyvisor: domain \"web\" stopped: shutdown\n", second.err.String())
}

// A run keeps its exit code when another takes the console.
func TestRunTakenOver(t *testing.T) {
	_, uri := host(t)
	c := begin(t, "-c", uri, "run", "--rm", "--name", "web")
	c.out.expect(t, "is up")
	other := begin(t, "-c", uri, "console", "--force", "web")
	c.err.expect(t, "the console of domain \"web\" was taken over by another; waiting for the end of the domain\n")
	other.send("crash\n")
	require.Zero(t, other.end())
	require.Equal(t, 18, c.end())
}

func TestRunTakenOverHangup(t *testing.T) {
	h, uri := host(t)
	c := begin(t, "-c", uri, "run", "--name", "web")
	c.out.expect(t, "is up")
	port, err := only(h).current().console.open(true)
	require.NoError(t, err)
	defer port.Close()
	c.err.expect(t, "waiting for the end")
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	require.Equal(t, 129, c.end())
	require.Equal(t, polyvisor.Running, only(h).now())
}

func TestStartConsole(t *testing.T) {
	_, uri := host(t)
	defineAll(t, uri, "web")
	code, out, _ := invoke(t, "hello\ncrash\n", "-c", uri, "start", "--console", "web")
	require.Equal(t, 18, code)
	require.Contains(t, out, "guest of web is up\r\necho hello\r\n")
}
