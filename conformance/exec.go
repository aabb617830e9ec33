package conformance

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"

	"github.com/polyvisor/polyvisor"
)

func execCases() []Case {
	need := []polyvisor.Feature{polyvisor.FeatureVsock, polyvisor.FeatureExec}
	return []Case{
		{
			Name: "exec/result", Features: need, Talks: true, Words: []string{"Tool"},
			Rule: "After WaitReady a command runs. Exec gives nil for code 0 and an *ExitError with the code for another, or with the signal that ended the command, whose code is then 128 and the signal. ExecOutput gives what went to the standard output, and the ExitError the end of what went to the standard error.",
			Run:  execResult,
		},
		{
			Name: "exec/command", Features: need, Talks: true, Words: []string{"Tool"},
			Rule: "The command sees its arguments as they were given, also those that are empty or no UTF-8, the variables of Env, Dir and User. What it writes to both outputs reaches their writers, and comes in order if that is one.",
			Run:  execCommand,
		},
		{
			Name: "exec/refused", Features: need, Talks: true, Words: []string{"Tool"},
			Rule: "A program that the guest does not have is ErrNotFound, a Cmd that says nothing to run or has an environment that is none ErrInvalidConfig, and neither does any harm to a later command.",
			Run:  execRefused,
		},
		{
			Name: "exec/streams", Features: need, Talks: true, Words: []string{"Tool"},
			Rule: "What the command reads from Stdin and writes to Stdout comes through byte for byte, and the end of Stdin too. A writer that does not return holds up its own command alone.",
			Run:  execStreams,
		},
		{
			Name: "exec/signals", Features: need, Talks: true, Words: []string{"Tool"},
			Rule: "A signal reaches the command, and ends it if it does not take it. Resize changes the size of the terminal, of which the command hears, and is ErrInvalidConfig without a terminal. A command that has ended takes neither: ErrInvalidState.",
			Run:  execSignals,
		},
		{
			Name: "exec/ends", Features: need, Talks: true, Words: []string{"Tool"},
			Rule: "The end of the context of Exec ends the command, as do Close of its Process and the end of the domain, however it floods; nothing is written to its writers afterwards. Wait then gives ErrClosed, or ErrConnLost after the end of the domain; the end of Wait's own context ends only that call.",
			Run:  execEnds,
		},
	}
}

// ready starts a domain whose guest takes commands.
func (c *C) ready(name string) *polyvisor.Domain {
	d := c.started(name, withVsock)
	c.ok(d.WaitReady(c.ctx), "wait for the guest")
	return d
}

func (c *C) tool(words ...string) polyvisor.Cmd {
	return polyvisor.Cmd{Args: append(strings.Fields(c.h.Guest.Tool), words...)}
}

// exits checks how a command ended.
func (c *C) exits(err error, what string, want polyvisor.ExitStatus) *polyvisor.ExitError {
	var e *polyvisor.ExitError
	if !errors.As(err, &e) {
		c.Fatalf("%s: the error is %v, want an *ExitError", what, err)
	}
	c.check(e.ExitStatus == want, "%s: the command ended with %+v, want %+v", what, e.ExitStatus, want)
	return e
}

func execResult(c *C) {
	d := c.ready("commands")
	c.ok(d.Exec(c.ctx, c.tool("exit", "0")), "a command that succeeds")
	c.exits(d.Exec(c.ctx, c.tool("exit", "7")), "a command that fails", polyvisor.ExitStatus{Code: 7})
	c.exits(d.Exec(c.ctx, c.tool("die")), "a command that is killed", polyvisor.ExitStatus{Code: 137, Signal: polyvisor.SIGKILL})
	out, err := d.ExecOutput(c.ctx, c.tool("say", "one", "two"))
	c.ok(err, "a command whose output is wanted")
	c.check(string(out) == "one\n", "the output is %q, want %q", out, "one\n")
	_, err = d.ExecOutput(c.ctx, c.tool("no-such-word"))
	e := c.exits(err, "a command that complains", polyvisor.ExitStatus{Code: 1})
	c.check(strings.Contains(string(e.Stderr), "no-such-word"), "the ExitError has %q of the complaint", e.Stderr)
}

func execCommand(c *C) {
	d := c.ready("commands")
	output := func(cmd polyvisor.Cmd, want string) {
		out, err := d.ExecOutput(c.ctx, cmd)
		c.ok(err, "run %q", cmd.Args)
		c.check(string(out) == want, "%q prints %q, want %q", cmd.Args, out, want)
	}
	output(c.tool("args", "a b", "", "\xff\xfe", "ü"), "\"a b\"\n\"\"\n\"\\xff\\xfe\"\n\"ü\"\n")
	cmd := c.tool("env", "ONE", "TWO", "USER")
	cmd.Env = []string{"ONE=1 and 1", "TWO=a=b"}
	output(cmd, "ONE=1 and 1\nTWO=a=b\nUSER=root\n")
	cmd = c.tool("pwd")
	cmd.Dir = "/dev"
	output(cmd, "/dev\n")
	cmd = c.tool("id")
	cmd.User = "1234:4321"
	output(cmd, "1234 4321\n")
	output(c.tool("id"), "0 0\n")

	var one, two bytes.Buffer
	cmd = c.tool("say", "out", "err")
	cmd.Stdout, cmd.Stderr = &one, &two
	c.ok(d.Exec(c.ctx, cmd), "a command with two writers")
	c.check(one.String() == "out\n" && two.String() == "err\n", "the outputs are %q and %q", one.String(), two.String())
	one.Reset()
	cmd.Stderr = &one
	c.ok(d.Exec(c.ctx, cmd), "a command with one writer")
	c.check(one.String() == "out\nerr\n", "both outputs to one writer are %q", one.String())
}

func execRefused(c *C) {
	d := c.ready("commands")
	c.fails(d.Exec(c.ctx, polyvisor.Cmd{Args: []string{"no-such-program"}}), "a program that is not there", polyvisor.CodeNotFound)
	c.fails(d.Exec(c.ctx, polyvisor.Cmd{Args: []string{"/no/such/program"}}), "a file that is not there", polyvisor.CodeNotFound)
	c.fails(d.Exec(c.ctx, polyvisor.Cmd{}), "no program", polyvisor.CodeInvalidConfig)
	cmd := c.tool("exit", "0")
	cmd.Env = []string{"NAME"}
	c.fails(d.Exec(c.ctx, cmd), "an environment that is none", polyvisor.CodeInvalidConfig)
	c.exits(d.Exec(c.ctx, c.tool("exit", "9")), "a command after those that were refused", polyvisor.ExitStatus{Code: 9})
}

// streamed is how much goes through a command: more than a window of any protocol.
const streamed = 1 << 20

func execStreams(c *C) {
	d := c.ready("commands")
	asleep, wake := make(chan struct{}), make(chan struct{})
	slow := c.tool("flood")
	var once sync.Once
	slow.Stdout = writerFunc(func(p []byte) (int, error) {
		once.Do(func() { close(asleep) })
		<-wake
		return len(p), nil
	})
	flood, err := d.StartExec(c.ctx, slow)
	c.ok(err, "start a command whose writer sleeps")
	c.cleanup("closing a command", func() { _ = flood.Close() })
	defer close(wake)
	select {
	case <-asleep:
	case <-c.ctx.Done():
		c.Fatalf("a flood never comes")
	}

	data := make([]byte, streamed)
	random := rand.NewChaCha8([32]byte{7})
	_, _ = random.Read(data)
	cmd := c.tool("cat")
	sum, n := sha256.New(), 0
	cmd.Stdin = bytes.NewReader(data)
	cmd.Stdout = writerFunc(func(p []byte) (int, error) {
		n += len(p)
		return sum.Write(p)
	})
	c.ok(d.Exec(c.ctx, cmd), "a command that copies")
	want := sha256.Sum256(data)
	c.check(n == len(data) && bytes.Equal(sum.Sum(nil), want[:]), "%d bytes came back, and they are not the %d that were sent", n, len(data))
	cmd.Stdin = nil
	c.ok(d.Exec(c.ctx, cmd), "a command that copies nothing")
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// printed hands over what a command prints line by line.
type printed struct {
	c     *C
	lines chan string
	rest  string
}

func (c *C) printed() *printed { return &printed{c: c, lines: make(chan string, 100)} }

func (p *printed) Write(b []byte) (int, error) {
	p.rest += string(b)
	for {
		line, rest, ok := strings.Cut(p.rest, "\n")
		if !ok {
			return len(b), nil
		}
		p.rest = rest
		select {
		case p.lines <- strings.TrimSuffix(line, "\r"):
		default:
		}
	}
}

func (p *printed) await(want string) {
	select {
	case line := <-p.lines:
		p.c.check(line == want, "the command prints %q, want %q", line, want)
	case <-p.c.ctx.Done():
		p.c.Fatalf("the command never prints %q", want)
	}
}

func execSignals(c *C) {
	d := c.ready("commands")
	start := func(size *polyvisor.TTYSize) (*polyvisor.Process, *printed) {
		out, cmd := c.printed(), c.tool("await")
		cmd.Stdout, cmd.TTY = out, size
		p, err := d.StartExec(c.ctx, cmd)
		c.ok(err, "start a command")
		c.cleanup("closing a command", func() { _ = p.Close() })
		out.await("ready")
		return p, out
	}
	p, out := start(&polyvisor.TTYSize{Cols: 80, Rows: 25})
	c.ok(p.Resize(c.ctx, polyvisor.TTYSize{Cols: 132, Rows: 43}), "resize")
	out.await("132 43")
	c.ok(p.Signal(c.ctx, polyvisor.SIGINT), "interrupt")
	out.await("interrupted")
	c.exits(p.Wait(c.ctx), "a command that takes its signal", polyvisor.ExitStatus{Code: 3})
	c.exits(p.Wait(c.ctx), "the same, asked again", polyvisor.ExitStatus{Code: 3})
	c.fails(p.Signal(c.ctx, polyvisor.SIGINT), "a signal to what has ended", polyvisor.CodeInvalidState)
	c.fails(p.Resize(c.ctx, polyvisor.TTYSize{}), "a size for what has ended", polyvisor.CodeInvalidState)

	p, _ = start(nil)
	c.fails(p.Resize(c.ctx, polyvisor.TTYSize{Cols: 1, Rows: 1}), "a size without a terminal", polyvisor.CodeInvalidConfig)
	c.fails(p.Signal(c.ctx, 0), "signal 0", polyvisor.CodeInvalidConfig)
	c.ok(p.Signal(c.ctx, polyvisor.SIGTERM), "terminate")
	c.exits(p.Wait(c.ctx), "a command that does not take its signal", polyvisor.ExitStatus{Code: 143, Signal: polyvisor.SIGTERM})
}

func execEnds(c *C) {
	d := c.ready("commands")
	// begin starts a command that floods, and tells of what it writes.
	begin := func(run func(cmd polyvisor.Cmd) error) (<-chan error, *latecomer) {
		q := &latecomer{came: make(chan struct{})}
		cmd := c.tool("flood")
		cmd.Stdout = q
		result := make(chan error, 1)
		go func() { result <- run(cmd) }()
		select {
		case <-q.came:
		case <-c.ctx.Done():
			c.Fatalf("a flood never comes")
		}
		return result, q
	}
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	result, q := begin(func(cmd polyvisor.Cmd) error { return d.Exec(ctx, cmd) })
	cancel()
	c.fails(<-result, "a command whose context has ended", polyvisor.CodeCanceled)
	q.over()

	started := func() (*polyvisor.Process, *latecomer) {
		var p *polyvisor.Process
		result, q := begin(func(cmd polyvisor.Cmd) (err error) {
			p, err = d.StartExec(c.ctx, cmd)
			return err
		})
		c.ok(<-result, "start a command")
		c.cleanup("closing a command", func() { _ = p.Close() })
		return p, q
	}
	p, q2 := started()
	c.fails(p.Wait(ctx), "Wait with a context that has ended", polyvisor.CodeCanceled)
	c.ok(p.Close(), "close a command")
	q2.over()
	c.fails(p.Wait(c.ctx), "Wait after Close", polyvisor.CodeClosed)

	p, q3 := started()
	c.ok(d.Destroy(c.ctx), "destroy")
	c.fails(p.Wait(c.ctx), "Wait after the end of the domain", polyvisor.CodeConnLost)
	q3.over()
	c.check(q.late()+q2.late()+q3.late() == 0, "commands that were over have written %d, %d and %d times", q.late(), q2.late(), q3.late())
}

// latecomer is a writer that counts what comes when it is over.
type latecomer struct {
	came  chan struct{}
	mu    sync.Mutex
	any   bool
	ended bool
	after int
}

func (q *latecomer) Write(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.any {
		q.any = true
		close(q.came)
	}
	if q.ended {
		q.after++
	}
	return len(p), nil
}

func (q *latecomer) over() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
}

func (q *latecomer) late() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.after
}
