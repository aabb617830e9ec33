package cli_test

import (
	"context"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/fake"
)

// execHost gives the URI of a host with a domain "web" that runs and takes commands.
func execHost(t *testing.T) string {
	t.Helper()
	name := strings.ReplaceAll(t.Name(), "/", "-")
	c, err := fake.Open(t.Context(), fake.Options{Name: name})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, c.Close())
		fake.Forget(name)
	})
	h := fake.Named(name)
	h.SetProgram("shout", func(_ context.Context, c *fake.Command) int {
		text, err := io.ReadAll(c.Stdin)
		if err != nil {
			return 1
		}
		_, _ = io.WriteString(c.Stdout, strings.ToUpper(string(text)))
		_, _ = io.WriteString(c.Stderr, strings.Join(c.Args, "|")+" "+c.Dir+" "+c.User+" "+strings.Join(c.Env, ","))
		return len(text)
	})
	h.SetProgram("await", awaitSignal)
	_, err = c.Create(t.Context(), &polyvisor.Config{Name: "web", Memory: 64 * polyvisor.MiB, Vsock: &polyvisor.VsockConfig{}})
	require.NoError(t, err)
	return "fake:///" + name
}

// awaitSignal ends with 5 when it is interrupted.
func awaitSignal(ctx context.Context, c *fake.Command) int {
	signals := make(chan polyvisor.Signal, 1)
	c.Notify(signals, polyvisor.SIGINT)
	_, _ = io.WriteString(c.Stdout, "ready\n")
	select {
	case <-signals:
		return 5
	case <-ctx.Done():
		return 0
	}
}

func TestExec(t *testing.T) {
	uri := execHost(t)
	code, out, err := invoke(t, "hello", "-c", uri, "exec", "--wait", "1m", "-e", "A=1", "-w", "/srv", "-u", "app", "web", "--", "shout", "-t", "--", "x")
	require.Equal(t, 5, code, err)
	require.Equal(t, "HELLO", out)
	require.Equal(t, "shout|-t|--|x /srv app A=1", err)
	code, out, _ = invoke(t, "", "-c", uri, "exec", "web", "shout")
	require.Zero(t, code)
	require.Empty(t, out)

	for _, tc := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"web", "--", "none"}, 127, `the guest has no program "none"`},
		{[]string{"web", "tool", "die"}, 137, ""},
		{[]string{"other", "tool"}, 1, "no domain"},
		{[]string{"web"}, 2, "want the name of a domain and a command"},
		{[]string{"web", "--"}, 2, "want a command"},
		{[]string{"-w", "srv", "web", "tool"}, 1, "does not begin with /"},
	} {
		code, _, err := invoke(t, "", append([]string{"-c", uri, "exec"}, tc.args...)...)
		require.Equal(t, tc.code, code, "%v: %s", tc.args, err)
		require.Contains(t, err, tc.says)
	}
}

// A signal goes to the command, and its end is not held up by an input that does not end.
func TestExecSignal(t *testing.T) {
	c := begin(t, "-c", execHost(t), "exec", "web", "await")
	c.out.expect(t, "ready\n")
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGINT))
	require.Equal(t, 5, c.end(), c.err.String())
}
