package polyvisor

import (
	"context"
	"errors"
)

// Process is a command that runs in a guest. It is safe for concurrent use.
type Process struct {
	d *Domain
	p ExecProcess
	owned
}

// PID is the number of the command's process in the guest, 0 if it is not known.
func (p *Process) PID() int { return p.p.PID() }

// Wait waits until the command has ended and all that it wrote is in Cmd.Stdout and
// Cmd.Stderr, which is when nobody in the guest has them open any more. Any number of
// callers may wait, also afterwards. The end of ctx ends the call alone.
//
// Errors: *ExitError if the command did not end with code 0; the error of a reader or
// writer of the Cmd, if the command ended with 0; ErrConnLost if the domain stopped before; ErrClosed after Close.
func (p *Process) Wait(ctx context.Context) error {
	var status ExitStatus
	err := p.d.read(ctx, "wait for command", func(ctx context.Context) (err error) {
		status, err = p.p.Wait(ctx)
		return err
	})
	if status != (ExitStatus{}) {
		return &ExitError{ExitStatus: status}
	}
	return err
}

// Signal sends a signal to the command and what it has started in its process group.
// It returns when the signal is on its way. ErrInvalidState if the command has ended.
func (p *Process) Signal(ctx context.Context, s Signal) error {
	return p.d.read(ctx, "signal", func(ctx context.Context) error {
		if s < 1 || s > 64 {
			return badArg("%d is not the number of a signal; they go from 1 to 64", int(s))
		}
		return p.p.Signal(ctx, s)
	})
}

// Resize gives the command's terminal a size, of which it hears by SIGWINCH.
// ErrInvalidConfig if it has no terminal, ErrInvalidState if it has ended.
func (p *Process) Resize(ctx context.Context, size TTYSize) error {
	return p.d.read(ctx, "resize", func(ctx context.Context) error { return p.p.Resize(ctx, size) })
}

// Close ends the command with all that it has started, if it has not ended by itself.
// Nothing is written to Cmd.Stdout and Cmd.Stderr when it has returned. It does not
// wait for the guest.
func (p *Process) Close() error { return p.close(p, p.p) }

// exitError finds one in an error.
func exitError(err error) (*ExitError, bool) {
	var e *ExitError
	return e, errors.As(err, &e)
}
