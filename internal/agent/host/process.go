package host

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/polyvisor/polyvisor/internal/agent/proto"
)

// Command is a command to run in a guest.
type Command struct {
	// Args has the program and its arguments; Path is its file, if it is another.
	Args []string
	Path string
	Env  []string
	Dir  string
	User string
	// Stdin, if not nil, is read until the command ends or reads no more.
	Stdin io.Reader
	// Stdout and Stderr take the output; nil drops it. With Merge the standard error goes to
	// where the standard output goes.
	Stdout, Stderr io.Writer
	Merge          bool
	// TTY, if not nil, gives the command a terminal, whose output all comes by Stdout.
	TTY *proto.Size
}

func (c *Command) exec() *proto.Exec {
	e := &proto.Exec{Args: texts(c.Args), Path: []byte(c.Path), Env: texts(c.Env), Dir: []byte(c.Dir), User: []byte(c.User), Stdin: c.Stdin != nil, TTY: c.TTY}
	if c.Stdout != nil {
		e.Stdout = proto.ToStream
	}
	switch {
	case c.TTY != nil:
	case c.Merge:
		e.Stderr = proto.ToStdout
	case c.Stderr != nil:
		e.Stderr = proto.ToStream
	}
	return e
}

func texts(list []string) [][]byte {
	var out [][]byte
	for _, s := range list {
		out = append(out, []byte(s))
	}
	return out
}

// Process is a command that has started.
type Process struct {
	// PID is its number in the guest.
	PID int

	call    *call
	control chan control
	work    sync.WaitGroup // of the outputs
	done    chan struct{}  // closed when exit and err are set
	exit    proto.Exit
	err     error

	mu     sync.Mutex
	closed bool
	lost   error // of a stream
	failed error // of the caller's reader and writers
}

// control is what the command is told beside its input.
type control struct {
	typ proto.Type
	n   uint32
}

// Start starts a command, within ctx, which means nothing to it afterwards. The caller closes
// the Process.
func (c *Client) Start(ctx context.Context, cmd *Command) (*Process, error) {
	k, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	p := &Process{call: k, control: make(chan control, 16), done: make(chan struct{})}
	a, err := k.request(&proto.Request{Op: proto.OpExec, Exec: cmd.exec()})
	if err == nil {
		err = k.release()
	}
	if err != nil {
		k.stop()
		_ = k.Close()
		return nil, err
	}
	p.PID = a.PID
	if cmd.Stdout != nil || cmd.TTY != nil {
		p.take(proto.Stdout, cmd.Stdout)
	}
	if cmd.Stderr != nil && cmd.TTY == nil && !cmd.Merge {
		p.take(proto.Stderr, cmd.Stderr)
	}
	if cmd.Stdin != nil {
		p.send(cmd.Stdin)
	}
	go p.order()
	go p.serve()
	return p, nil
}

// send has the command read what r has. A Read under way is not waited for: nothing could
// end it.
func (p *Process) send(r io.Reader) {
	out := p.call.Outbox(proto.Stdin, nil)
	go func() {
		_, err := out.ReadFrom(r)
		var rerr *proto.ReadError
		if errors.As(err, &rerr) {
			p.note(&p.failed, rerr.Err)
		}
		_ = out.Close()
	}()
}

// take writes an output of the command to w.
func (p *Process) take(stream uint8, w io.Writer) {
	if w == nil {
		w = io.Discard
	}
	in := p.call.Inbox(stream)
	p.work.Go(func() {
		_, err := in.WriteTo(w)
		var werr *proto.WriteError
		if errors.As(err, &werr) {
			p.note(&p.failed, werr.Err)
			_ = in.Close()
		} else if err != nil {
			p.note(&p.lost, err)
		}
	})
}

// note keeps the first error of a kind.
func (p *Process) note(of *error, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if *of == nil {
		*of = err
	}
}

// order sends what Signal and Resize say. A guest that does not read holds up nobody else.
func (p *Process) order() {
	for {
		select {
		case c := <-p.control:
			if p.call.SendNumber(c.typ, c.n) != nil {
				return
			}
		case <-p.done:
			return
		}
	}
}

// serve reads what the agent sends, until the command has ended and all its output is
// here.
func (p *Process) serve() {
	var told bool
	exited, over := make(chan struct{}), make(chan error, 1)
	go func() {
		over <- p.call.Serve(func(t proto.Type, b []byte) error {
			if t != proto.TypeExit || told {
				return proto.ErrProtocol
			}
			told = true
			defer close(exited)
			return proto.Decode(b, &p.exit)
		})
	}()
	var err error
	select {
	case <-exited:
		p.work.Wait() // ends with the streams, or with the connection
		_ = p.call.Close()
		err = <-over
	case err = <-over:
		p.work.Wait()
		_ = p.call.Close()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case errors.Is(err, proto.ErrProtocol):
		p.err = err
	case told && p.lost == nil:
		p.err = p.failed
	case p.closed:
		p.err = ErrKilled
	case err == nil:
		p.err = ErrBroken
	default:
		p.err = p.call.broken(err)
	}
	close(p.done)
}

// ErrKilled is the error of a command that was given up by Close.
var ErrKilled = errors.New("the command was given up")

// Wait waits until the command has ended and all its output is written, and tells how it
// ended. Any number of callers may wait; the end of ctx ends the call alone. The error
// may be that of a writer: then the exit is known too.
func (p *Process) Wait(ctx context.Context) (proto.Exit, error) {
	select {
	case <-p.done:
		return p.exit, p.err
	default:
	}
	select {
	case <-p.done:
		return p.exit, p.err
	case <-ctx.Done():
		return proto.Exit{}, context.Cause(ctx)
	}
}

// ErrEnded means that the command has ended already.
var ErrEnded = errors.New("the command has ended")

// Signal sends a signal, by Linux's number, to the command's process group.
func (p *Process) Signal(ctx context.Context, n uint32) error {
	return p.tell(ctx, control{proto.TypeSignal, n})
}

// Resize gives the command's terminal a size.
func (p *Process) Resize(ctx context.Context, s proto.Size) error {
	return p.tell(ctx, control{proto.TypeResize, uint32(s.Cols) | uint32(s.Rows)<<16})
}

func (p *Process) tell(ctx context.Context, c control) error {
	select {
	case <-p.done:
		return ErrEnded
	default:
	}
	select {
	case p.control <- c:
		return nil
	case <-p.done:
		return ErrEnded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close ends the command, if it has not ended, with all that it has started, and waits until
// nothing is written to the caller's writers any more.
func (p *Process) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.call.Close()
	<-p.done
	return nil
}
