package cli_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// program is the command as a process of its own, with its standard output as
// descriptor 1 of that process.
func program(t *testing.T, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	return cmd, &stderr
}

func TestProgram(t *testing.T) {
	cmd, stderr := program(t, "-c", "memtest:///x", "run", "--rm", "--name", "web")
	cmd.Stdin = strings.NewReader("hello\ncrash\n")
	out, err := cmd.Output()
	var exit *exec.ExitError
	require.True(t, errors.As(err, &exit), "%v", err)
	require.Equal(t, 18, exit.ExitCode(), stderr)
	require.Equal(t, "guest of web is up\r\necho hello\r\n", string(out))
}

// A pipe that is closed ends a listing as any program, but not a run without
// telling that a machine is left.
func TestProgramBrokenPipe(t *testing.T) {
	broken := func(args ...string) (syscall.WaitStatus, string) {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		r.Close()
		defer w.Close()
		cmd, stderr := program(t, args...)
		cmd.Stdout = w
		var exit *exec.ExitError
		require.True(t, errors.As(cmd.Run(), &exit))
		return exit.Sys().(syscall.WaitStatus), stderr.String()
	}
	status, stderr := broken("-c", "memtest:///x", "list")
	require.True(t, status.Signaled())
	require.Equal(t, syscall.SIGPIPE, status.Signal())
	require.Empty(t, stderr)
	status, stderr = broken("-c", "memtest:///x", "run", "--name", "web")
	require.Equal(t, 1, status.ExitStatus())
	require.Contains(t, stderr, "broken pipe; domain \"web\" runs on;")
}
