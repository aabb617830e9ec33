package polyvisor_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

func TestExecErrors(t *testing.T) {
	dom, r := inState(t, polyvisor.Running, nil)
	ctx := t.Context()
	cmd := polyvisor.Cmd{Args: []string{"words"}}
	require.NoError(t, dom.Exec(ctx, cmd))
	assert.Equal(t, 1, r.process.closes)

	out, err := dom.ExecOutput(ctx, cmd)
	require.NoError(t, err)
	assert.Equal(t, "words", string(out))

	r.exit = polyvisor.ExitStatus{Code: 7}
	var exit *polyvisor.ExitError
	out, err = dom.ExecOutput(ctx, cmd)
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, 7, exit.Code)
	assert.Equal(t, "words", string(exit.Stderr))
	assert.Equal(t, "words", string(out))
	assert.EqualError(t, exit, "the command ended with exit code 7")

	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Args[0] = "other"
	_, err = dom.ExecOutput(ctx, cmd)
	require.ErrorAs(t, err, &exit)
	assert.Nil(t, exit.Stderr, "the caller has it")
	assert.Equal(t, "other", stderr.String())

	r.exit = polyvisor.ExitStatus{Code: 137, Signal: polyvisor.SIGKILL}
	assert.EqualError(t, dom.Exec(ctx, cmd), "the command was ended by SIGKILL")

	// Only the end of a long complaint is kept.
	cmd = polyvisor.Cmd{Args: []string{strings.Repeat("x", 100<<10) + "!"}}
	_, err = dom.ExecOutput(ctx, cmd)
	require.ErrorAs(t, err, &exit)
	assert.Len(t, exit.Stderr, 64<<10)
	assert.True(t, bytes.HasSuffix(exit.Stderr, []byte("!")))
}

// A driver is given a copy, and no command that is none.
func TestExecValidates(t *testing.T) {
	dom, r := inState(t, polyvisor.Running, nil)
	size := &polyvisor.TTYSize{Cols: 1, Rows: 2}
	cmd := polyvisor.Cmd{Args: []string{"a", "b"}, Env: []string{"A=1"}, TTY: size}
	p, err := dom.StartExec(t.Context(), cmd)
	require.NoError(t, err)
	defer p.Close()
	cmd.Args[1], cmd.Env[0], size.Cols = "changed", "changed", 9
	assert.Equal(t, &polyvisor.Cmd{Args: []string{"a", "b"}, Env: []string{"A=1"}, TTY: &polyvisor.TTYSize{Cols: 1, Rows: 2}}, r.process.cmd)
	assert.Equal(t, 77, p.PID())

	for _, bad := range []polyvisor.Cmd{
		{}, {Args: []string{""}}, {Args: []string{"a\x00"}}, {Args: []string{"a"}, Env: []string{"A"}}, {Args: []string{"a"}, Env: []string{"=1"}},
		{Args: []string{"a"}, Env: []string{"A=\x00"}}, {Args: []string{"a"}, Dir: "relative"}, {Args: []string{"a"}, User: "\x00"},
	} {
		_, err := dom.StartExec(t.Context(), bad)
		require.ErrorIs(t, err, polyvisor.ErrInvalidConfig, "%+v", bad)
	}
}

func TestProcess(t *testing.T) {
	dom, r := inState(t, polyvisor.Running, nil)
	ctx := t.Context()
	p, err := dom.StartExec(ctx, polyvisor.Cmd{Args: []string{"a"}})
	require.NoError(t, err)
	require.NoError(t, p.Signal(ctx, polyvisor.SIGINT))
	require.NoError(t, p.Signal(ctx, 64))
	for _, bad := range []polyvisor.Signal{0, -1, 65} {
		require.ErrorIs(t, p.Signal(ctx, bad), polyvisor.ErrInvalidConfig)
	}
	assert.Equal(t, []polyvisor.Signal{polyvisor.SIGINT, 64}, r.process.signals)
	require.NoError(t, p.Resize(ctx, polyvisor.TTYSize{Cols: 3, Rows: 4}))
	assert.Equal(t, polyvisor.TTYSize{Cols: 3, Rows: 4}, r.process.size)
	// The end of the connection is that of its commands.
	require.NoError(t, dom.Conn().Close())
	assert.Equal(t, 1, r.process.closes)
	require.NoError(t, p.Close())
	assert.Equal(t, 1, r.process.closes)
	require.ErrorIs(t, p.Wait(ctx), polyvisor.ErrClosed)
}

func TestCmdMerged(t *testing.T) {
	var b bytes.Buffer
	same := []polyvisor.Cmd{{Stdout: &b, Stderr: &b}}
	other := []polyvisor.Cmd{{}, {Stdout: &b}, {Stderr: &b}, {Stdout: &b, Stderr: &bytes.Buffer{}}, {Stdout: &b, Stderr: &b, TTY: &polyvisor.TTYSize{}}, {Stdout: uncomparable{}, Stderr: uncomparable{}}}
	for _, c := range same {
		assert.True(t, c.Merged())
	}
	for i, c := range other {
		assert.False(t, c.Merged(), i)
	}
	assert.Equal(t, "SIGTERM", polyvisor.SIGTERM.String())
	assert.Equal(t, "signal 40", polyvisor.Signal(40).String())
}

// uncomparable is a writer whose comparison panics.
type uncomparable []byte

func (uncomparable) Write(p []byte) (int, error) { return 0, errors.ErrUnsupported }
