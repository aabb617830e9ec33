package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/polyvisor/polyvisor"
)

// execFaults are those of commands in guests.
func execFaults() []fault { return append(processFaults, lateWriter()) }

// lateWriter writes for a command when that has been closed.
func lateWriter() fault {
	var mu sync.Mutex
	var last io.Writer
	return fault{
		name: "a command writes after its end", of: "exec/ends", says: "have written",
		command: func(c *polyvisor.Cmd) {
			mu.Lock()
			defer mu.Unlock()
			last = c.Stdout
		},
		process: func(p polyvisor.ExecProcess) polyvisor.ExecProcess {
			mu.Lock()
			defer mu.Unlock()
			return writing{p, last}
		},
	}
}

type writing struct {
	polyvisor.ExecProcess
	w io.Writer
}

func (p writing) Wait(ctx context.Context) (polyvisor.ExitStatus, error) {
	s, err := p.ExecProcess.Wait(ctx)
	if errors.Is(err, polyvisor.ErrClosed) && p.w != nil {
		_, _ = p.w.Write([]byte("late"))
	}
	return s, err
}

var processFaults = []fault{
	{name: "every command succeeds", of: "exec/result", says: "want an *ExitError", process: status(func(polyvisor.ExitStatus) polyvisor.ExitStatus { return polyvisor.ExitStatus{} })},
	{name: "what kills a command is not told", of: "exec/result", says: "a command that is killed", process: status(func(s polyvisor.ExitStatus) polyvisor.ExitStatus { s.Signal = 0; return s })},
	{name: "the standard error is lost", of: "exec/result", says: "of the complaint", command: func(c *polyvisor.Cmd) { c.Stderr = io.Discard }},
	{name: "empty arguments are lost", of: "exec/command", says: "args", command: func(c *polyvisor.Cmd) {
		c.Args = slices.DeleteFunc(c.Args, func(a string) bool { return a == "" })
	}},
	{name: "the environment is lost", of: "exec/command", says: "env", command: func(c *polyvisor.Cmd) { c.Env = nil }},
	{name: "the directory is lost", of: "exec/command", says: "pwd", command: func(c *polyvisor.Cmd) { c.Dir = "" }},
	{name: "everybody is root", of: "exec/command", says: `"id"`, command: func(c *polyvisor.Cmd) { c.User = "" }},
	{name: "a missing program is a plain error", of: "exec/refused", says: "a program that is not there", op: instead("exec", polyvisor.ErrNotFound, errPlain)},
	{name: "the last byte of the input is lost", of: "exec/streams", says: "bytes came back", command: func(c *polyvisor.Cmd) {
		if c.Stdin != nil {
			c.Stdin = &trimmed{r: c.Stdin}
		}
	}},
	{name: "signals are lost", of: "exec/signals", says: "never prints", process: func(p polyvisor.ExecProcess) polyvisor.ExecProcess { return deaf{p} }},
	{name: "the size of a terminal is turned round", of: "exec/signals", says: "132 43", process: func(p polyvisor.ExecProcess) polyvisor.ExecProcess { return turned{p} }},
	{name: "what has ended is signalled", of: "exec/signals", says: "a signal to what has ended", process: func(p polyvisor.ExecProcess) polyvisor.ExecProcess { return tolerant{p} }},
	{name: "a command that was given up succeeded", of: "exec/ends", says: "Wait after Close", process: func(p polyvisor.ExecProcess) polyvisor.ExecProcess { return lenient{p} }},
	{name: "a domain's end is a plain error of its commands", of: "exec/ends", says: "after the end of the domain", process: func(p polyvisor.ExecProcess) polyvisor.ExecProcess { return vagueProcess{p} }},
}

// status changes how commands end.
func status(f func(polyvisor.ExitStatus) polyvisor.ExitStatus) func(polyvisor.ExecProcess) polyvisor.ExecProcess {
	return func(p polyvisor.ExecProcess) polyvisor.ExecProcess { return ending{p, f} }
}

type ending struct {
	polyvisor.ExecProcess
	f func(polyvisor.ExitStatus) polyvisor.ExitStatus
}

func (p ending) Wait(ctx context.Context) (polyvisor.ExitStatus, error) {
	s, err := p.ExecProcess.Wait(ctx)
	return p.f(s), err
}

// trimmed loses the last byte.
type trimmed struct {
	r    io.Reader
	last []byte
}

func (c *trimmed) Read(p []byte) (int, error) {
	if len(p) < 2 {
		return 0, fmt.Errorf("too little place: %d", len(p))
	}
	n, err := c.r.Read(p[1:])
	if n == 0 {
		return 0, err
	}
	if c.last == nil {
		c.last = []byte{p[n]}
		copy(p, p[1:n])
		return n - 1, err
	}
	p[0], c.last[0] = c.last[0], p[n]
	return n, err
}

type deaf struct{ polyvisor.ExecProcess }

func (deaf) Signal(context.Context, polyvisor.Signal) error { return nil }

type turned struct{ polyvisor.ExecProcess }

func (p turned) Resize(ctx context.Context, s polyvisor.TTYSize) error {
	return p.ExecProcess.Resize(ctx, polyvisor.TTYSize{Cols: s.Rows, Rows: s.Cols})
}

type tolerant struct{ polyvisor.ExecProcess }

func (p tolerant) Signal(ctx context.Context, s polyvisor.Signal) error {
	_ = p.ExecProcess.Signal(ctx, s)
	return nil
}

type lenient struct{ polyvisor.ExecProcess }

func (p lenient) Wait(ctx context.Context) (polyvisor.ExitStatus, error) {
	s, err := p.ExecProcess.Wait(ctx)
	if errors.Is(err, polyvisor.ErrClosed) {
		err = nil
	}
	return s, err
}

type vagueProcess struct{ polyvisor.ExecProcess }

func (p vagueProcess) Wait(ctx context.Context) (polyvisor.ExitStatus, error) {
	s, err := p.ExecProcess.Wait(ctx)
	if errors.Is(err, polyvisor.ErrConnLost) {
		err = errPlain
	}
	return s, err
}
