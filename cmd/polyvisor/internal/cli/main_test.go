package cli_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/cmd/polyvisor/internal/cli"
	"github.com/polyvisor/polyvisor/internal/leaktest"
)

// asProgram is set in a child process that is the command itself.
const asProgram = "POLYVISOR_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(cli.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Unsetenv("POLYVISOR_URI")
	leaktest.Main(m)
}

// patience bounds what must happen at some time.
const patience = 20 * time.Second

// host is a fresh memtest host and the URI of it. Its domains end with the test.
func host(t *testing.T) (*memHost, string) {
	t.Helper()
	name := strings.ReplaceAll(t.Name(), "/", ".")
	h := hostOf(name)
	t.Cleanup(func() {
		h.mu.Lock()
		var all []*memDomain
		for _, d := range h.domains {
			all = append(all, d)
		}
		h.mu.Unlock()
		for _, d := range all {
			if r := d.current(); r != nil {
				d.finish(r, polyvisor.StopKilled, "")
			}
		}
		memHosts.Delete(name)
	})
	return h, "memtest:///" + name
}

// invoke runs a command line to its end.
func invoke(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = cli.Main(context.Background(), args, strings.NewReader(stdin), &out, &err)
	return code, out.String(), err.String()
}

// must runs a command line that succeeds.
func must(t *testing.T, args ...string) string {
	t.Helper()
	code, out, err := invoke(t, "", args...)
	require.Zero(t, code, "%v: %s", args, err)
	require.Empty(t, err, "%v", args)
	return out
}

// outBuffer is written by a command while a test reads it.
type outBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *outBuffer) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *outBuffer) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// expect waits until the text has been printed.
func (o *outBuffer) expect(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(o.String(), text) }, patience, 2*time.Millisecond,
		"%q was not printed", text)
}

// command is a command line under way.
type command struct {
	t        *testing.T
	in       *os.File // what it reads as standard input, from the other side
	out, err outBuffer
	code     chan int
}

// begin runs a command line with a pipe as standard input.
func begin(t *testing.T, args ...string) *command {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	c := &command{t: t, in: w, code: make(chan int, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer r.Close()
		c.code <- cli.Main(ctx, args, r, &c.out, &c.err)
	}()
	t.Cleanup(func() {
		cancel()
		<-over
		w.Close()
	})
	return c
}

func (c *command) send(text string) {
	c.t.Helper()
	_, err := io.WriteString(c.in, text)
	require.NoError(c.t, err)
}

// end waits for the end and gives the exit code.
func (c *command) end() int {
	c.t.Helper()
	select {
	case code := <-c.code:
		return code
	case <-time.After(patience):
		require.FailNow(c.t, "the command does not end", "stdout: %.200s\nstderr: %.200s", c.out.String(), c.err.String())
		return -1
	}
}
