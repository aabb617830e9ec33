package fake

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/polyvisor/polyvisor"
)

// Command is a command that runs in a guest, as its Program sees it.
type Command struct {
	// Domain is the name of the domain, Cmd what it was started with; its Stdin, Stdout and
	// Stderr are to be used here: they are never nil.
	Domain string
	polyvisor.Cmd

	p *process
}

// Program is what a command of a guest does, in place of a program that the guest would
// have: it returns how the command ends, 0 being success. ctx ends when the command is
// ended, by Process.Close, a signal that it does not take, or the end of the domain; nothing
// that it does counts from then on, and it is to return.
type Program func(ctx context.Context, c *Command) (code int)

// Notify has the signals put into a channel, those that do not find a place there being
// lost; without it they end the command. SIGKILL always does. A change of the terminal's
// size is signal 28.
func (c *Command) Notify(to chan<- polyvisor.Signal, signals ...polyvisor.Signal) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	for _, s := range signals {
		c.p.takes[s] = to
	}
}

// Size is that of the command's terminal at present.
func (c *Command) Size() polyvisor.TTYSize {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	return c.p.size
}

// SetProgram says what a program does in all guests: that whose name is Args[0] of a
// command. nil takes it away: it is then not found. At first there is one, "tool", whose
// arguments are a word and what it needs, as conformance.Guest.Tool tells.
func (h *Hypervisor) SetProgram(name string, p Program) {
	h.mu.Lock()
	defer h.unlock()
	if p == nil {
		delete(h.programs, name)
		return
	}
	h.programs[name] = p
}

const sigWinch polyvisor.Signal = 28

// ignored are the signals that end nothing.
var ignored = []polyvisor.Signal{17, 18, 19, 20, 21, 22, 23, sigWinch}

// process is a command under way.
type process struct {
	h   *Hypervisor
	g   *guest
	pid int
	tty bool

	cancel context.CancelFunc
	over   chan struct{} // closed when status and err are set
	status polyvisor.ExitStatus
	err    error

	mu    sync.Mutex
	takes map[polyvisor.Signal]chan<- polyvisor.Signal
	size  polyvisor.TTYSize

	wmu   sync.Mutex // held while something is written for the caller
	ended bool
	werr  error
}

// writer is where a command writes to until it ends.
type writer struct {
	p *process
	w io.Writer
}

func (o writer) Write(b []byte) (int, error) {
	o.p.wmu.Lock()
	defer o.p.wmu.Unlock()
	if o.p.ended || o.p.werr != nil {
		return 0, io.ErrClosedPipe
	}
	if o.w == nil {
		return len(b), nil
	}
	n, err := o.w.Write(b)
	o.p.werr = err
	return n, err
}

// end says how the command ended, once.
func (p *process) end(status polyvisor.ExitStatus, err error) {
	p.wmu.Lock()
	if p.ended {
		p.wmu.Unlock()
		return
	}
	p.ended = true
	if err == nil && status == (polyvisor.ExitStatus{}) {
		err = p.werr
	}
	p.status, p.err = status, err
	p.wmu.Unlock()
	p.cancel()
	close(p.over)
	p.h.mu.Lock()
	delete(p.g.sockets.commands, p)
	p.h.unlock()
}

// kill ends the command by a signal.
func (p *process) kill(s polyvisor.Signal) {
	p.end(polyvisor.ExitStatus{Code: 128 + int(s), Signal: s}, nil)
}

func (p *process) PID() int { return p.pid }

func (p *process) Wait(ctx context.Context) (polyvisor.ExitStatus, error) {
	select {
	case <-p.over:
		return p.status, p.err
	default:
	}
	select {
	case <-p.over:
		return p.status, p.err
	case <-ctx.Done():
		return polyvisor.ExitStatus{}, context.Cause(ctx)
	}
}

// hasEnded is the error of what comes too late.
func (p *process) hasEnded() error {
	select {
	case <-p.over:
		return fmt.Errorf("%w: the command has ended", polyvisor.ErrInvalidState)
	default:
		return nil
	}
}

func (p *process) Signal(_ context.Context, s polyvisor.Signal) error {
	if err := p.hasEnded(); err != nil {
		return err
	}
	p.mu.Lock()
	to := p.takes[s]
	p.mu.Unlock()
	switch {
	case to != nil && s != polyvisor.SIGKILL:
		select {
		case to <- s:
		default:
		}
	case !slices.Contains(ignored, s):
		go p.kill(s) // after what it writes just now
	}
	return nil
}

func (p *process) Resize(ctx context.Context, size polyvisor.TTYSize) error {
	if !p.tty {
		return fmt.Errorf("%w: the command has no terminal; set Cmd.TTY", polyvisor.ErrInvalidConfig)
	}
	if err := p.hasEnded(); err != nil {
		return err
	}
	p.mu.Lock()
	p.size = size
	p.mu.Unlock()
	return p.Signal(ctx, sigWinch)
}

func (p *process) Close() error {
	p.cancel()
	p.end(polyvisor.ExitStatus{}, fmt.Errorf("%w: the command was given up", polyvisor.ErrClosed))
	return nil
}

// WaitReady returns when the guest may run: it has come up then.
func (i *instance) WaitReady(ctx context.Context) error {
	return i.whenItRuns(ctx, opWaitReady, polyvisor.OpWaitReady, func(*guest) error { return nil })
}

// StartExec runs a Program.
func (i *instance) StartExec(ctx context.Context, c *polyvisor.Cmd) (polyvisor.ExecProcess, error) {
	var made *process
	err := i.whenItRuns(ctx, opExec, polyvisor.OpExec, func(g *guest) error {
		name := c.Args[0]
		if c.Path != "" {
			name = c.Path
		}
		program := i.c.h.programs[name]
		if program == nil {
			return fmt.Errorf("%w: the guest has no program %q; see fake.Hypervisor.SetProgram", polyvisor.ErrNotFound, name)
		}
		made = g.runLocked(i.c.h, i.d.name, c, program)
		return nil
	})
	if err != nil {
		if made != nil { // the answer was lost
			_ = made.Close()
		}
		return nil, err
	}
	return made, nil
}

// runLocked starts a program.
func (g *guest) runLocked(h *Hypervisor, domain string, c *polyvisor.Cmd, program Program) *process {
	ctx, cancel := context.WithCancel(context.Background())
	g.sockets.started++
	p := &process{h: h, g: g, pid: 100 + g.sockets.started, cancel: cancel, over: make(chan struct{}), takes: map[polyvisor.Signal]chan<- polyvisor.Signal{}}
	cmd := &Command{Domain: domain, Cmd: *c, p: p}
	cmd.Stdout, cmd.Stderr = writer{p, c.Stdout}, writer{p, c.Stderr}
	if cmd.Stdin == nil {
		cmd.Stdin = strings.NewReader("")
	}
	if c.TTY != nil {
		p.tty, p.size, cmd.Stderr = true, *c.TTY, cmd.Stdout
	}
	if g.sockets.commands == nil {
		g.sockets.commands = map[*process]struct{}{}
	}
	g.sockets.commands[p] = struct{}{}
	go func() {
		code := program(ctx, cmd)
		if ctx.Err() == nil {
			p.end(polyvisor.ExitStatus{Code: code}, nil)
		}
	}()
	return p
}

// lose ends the command with its guest. It takes no lock.
func (p *process) lose() {
	p.cancel()
	go p.end(polyvisor.ExitStatus{}, fmt.Errorf("%w: the guest has stopped", polyvisor.ErrConnLost))
}
