//go:build linux && amd64

package kvm_test

import (
	"bytes"
	"crypto/rand"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// polyvisor run -- COMMAND: a machine for one command, which has the command's input, output, signals and exit code, and is gone
// after, also when the program is killed.
func TestLinuxSandbox(t *testing.T) {
	command := os.Getenv("POLYVISOR_TEST_COMMAND")
	if command == "" {
		t.Skip("needs the command polyvisor in POLYVISOR_TEST_COMMAND, polyvisor-vmm beside it and a static busybox; make test-nested sees to it")
	}
	l := newLab(t)
	run := func(args ...string) *exec.Cmd {
		return exec.CommandContext(patiently(t), command, append([]string{"-c", l.uri(), "run", "-m", "128MiB", "--kernel", l.kernel, "--"}, args...)...)
	}
	gone := func() {
		t.Helper()
		out, err := exec.CommandContext(patiently(t), command, "-c", l.uri(), "list", "--all", "-o", "json").Output()
		require.NoError(t, err)
		require.JSONEq(t, "[]", string(out))
		require.Empty(t, l.vmPIDs())
	}

	t.Run("output and exit code", func(t *testing.T) {
		var errs bytes.Buffer
		cmd := run("sh", "-c", "uname -r; echo complaint >&2; exit 7")
		cmd.Stderr = &errs
		out, err := cmd.Output()
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit, "%s", &errs)
		require.Equal(t, 7, exit.ExitCode(), "%s", &errs)
		require.Equal(t, strings.TrimPrefix(l.kernel, "/boot/vmlinuz-")+"\n", string(out))
		require.Contains(t, errs.String(), "complaint")
		gone()
	})

	t.Run("what goes in comes out", func(t *testing.T) {
		data := make([]byte, 8<<20)
		_, _ = rand.Read(data)
		cmd := run("cat")
		cmd.Stdin = bytes.NewReader(data)
		out, err := cmd.Output()
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, out), "%d bytes came out of %d", len(out), len(data))
	})

	t.Run("a signal", func(t *testing.T) {
		cmd := run("sh", "-c", "trap 'echo got it; exit 3' INT; echo up; while :; do sleep 0.1; done")
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		up := make([]byte, len("up\n"))
		_, err = io.ReadFull(out, up)
		require.NoError(t, err)
		require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
		rest, err := io.ReadAll(out)
		require.NoError(t, err)
		require.Equal(t, "got it\n", string(rest))
		var exit *exec.ExitError
		require.ErrorAs(t, cmd.Wait(), &exit)
		require.Equal(t, 3, exit.ExitCode())
	})

	t.Run("killed under a flood of processes", func(t *testing.T) {
		cmd := run("sh", "-c", "echo up; while :; do sleep 1000 & done")
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		_, err = io.ReadFull(out, make([]byte, len("up\n")))
		require.NoError(t, err)
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
		gone()
	})
}
