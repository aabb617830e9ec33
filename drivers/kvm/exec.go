//go:build linux && amd64

package kvm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/polyvisor/polyvisor"
	agent "github.com/polyvisor/polyvisor/internal/agent/host"
	"github.com/polyvisor/polyvisor/internal/agent/proto"
)

// errNoAgent says that nobody answers in a guest with a socket device.
var errNoAgent = fmt.Errorf("%w: no agent listens in the guest; run \"polyvisor-vmm agent\" in it, and WaitReady to wait until it has come up", polyvisor.ErrNoResource)

// agent gives the host's side of the agent in the guest.
func (i *instance) agent() *agent.Client {
	return &agent.Client{Dial: func(ctx context.Context) (net.Conn, error) {
		c, err := i.DialVsock(ctx, proto.Port)
		if errors.Is(err, polyvisor.ErrNotFound) {
			return nil, errNoAgent
		}
		return c, err
	}}
}

// agentError gives what the agent or the way to it says its class.
func agentError(err error) error {
	var f *proto.Failure
	switch {
	case errors.As(err, &f):
		class := map[string]error{
			proto.FailNotFound: polyvisor.ErrNotFound, proto.FailPermission: polyvisor.ErrPermission, proto.FailInvalid: polyvisor.ErrInvalidConfig,
			proto.FailExists: polyvisor.ErrExists, proto.FailVersion: polyvisor.ErrUnsupported,
		}[f.Code]
		if class == nil {
			class = polyvisor.ErrNoResource
		}
		return fmt.Errorf("%w: in the guest: %w", class, err)
	case errors.Is(err, proto.ErrTooLong):
		return fmt.Errorf("%w: the command: %w", polyvisor.ErrInvalidConfig, err)
	case errors.Is(err, agent.ErrKilled):
		return fmt.Errorf("%w: %w", polyvisor.ErrClosed, err)
	case errors.Is(err, agent.ErrEnded):
		return fmt.Errorf("%w: %w", polyvisor.ErrInvalidState, err)
	case errors.Is(err, agent.ErrBroken) || errors.Is(err, proto.ErrProtocol):
		return fmt.Errorf("%w: %w", polyvisor.ErrConnLost, err)
	}
	return err
}

// The agent is asked again after these pauses. Until the guest has a driver for its socket
// device the first question waits for an answer, so it is not asked often.
const (
	firstPause = 2 * time.Millisecond
	lastPause  = 50 * time.Millisecond
)

// WaitReady asks until the agent answers.
func (i *instance) WaitReady(ctx context.Context) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		a, err := i.agent().Ping(ctx)
		switch {
		case err == nil && len(a.Problems) > 0:
			return fmt.Errorf("%w: the agent could not set the guest up: %s", polyvisor.ErrNoResource, strings.Join(a.Problems, "; "))
		case err == nil:
			return nil
		case !errors.Is(err, errNoAgent) && !errors.Is(err, agent.ErrBroken): // which the end of a listener's queue may be, or a reboot
			return agentError(err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// StartExec starts a command by the agent.
func (i *instance) StartExec(ctx context.Context, c *polyvisor.Cmd) (polyvisor.ExecProcess, error) {
	cmd := &agent.Command{Args: c.Args, Path: c.Path, Env: c.Env, Dir: c.Dir, User: c.User, Stdin: c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr, Merge: c.Merged()}
	if c.TTY != nil {
		cmd.TTY = &proto.Size{Cols: c.TTY.Cols, Rows: c.TTY.Rows}
	}
	p, err := i.agent().Start(ctx, cmd)
	if err != nil {
		return nil, agentError(err)
	}
	return &process{p, c.TTY != nil}, nil
}

// process is a command of a guest.
type process struct {
	p   *agent.Process
	tty bool
}

func (p *process) PID() int { return p.p.PID }

func (p *process) Wait(ctx context.Context) (polyvisor.ExitStatus, error) {
	e, err := p.p.Wait(ctx)
	return polyvisor.ExitStatus{Code: e.Code, Signal: polyvisor.Signal(e.Signal)}, agentError(err)
}

func (p *process) Signal(ctx context.Context, s polyvisor.Signal) error {
	return agentError(p.p.Signal(ctx, uint32(s)))
}

func (p *process) Resize(ctx context.Context, size polyvisor.TTYSize) error {
	if !p.tty {
		return fmt.Errorf("%w: the command has no terminal; set Cmd.TTY", polyvisor.ErrInvalidConfig)
	}
	return agentError(p.p.Resize(ctx, proto.Size{Cols: size.Cols, Rows: size.Rows}))
}

func (p *process) Close() error { return p.p.Close() }

var _ polyvisor.Execer = (*instance)(nil)
