package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/polyvisor/polyvisor"
)

// The exit codes of commands that cannot be started, as shells have them.
const (
	exitCannotRun = 126
	exitNoProgram = 127
)

func (a *app) execCommand() *cobra.Command {
	var cmd polyvisor.Cmd
	var tty bool
	var ready time.Duration
	c := &cobra.Command{
		Use:   "exec NAME [--] COMMAND [ARG...]",
		Short: "Run a command in a guest",
		Long: `Exec runs a command in the guest of an active domain, by the agent that runs
there ("polyvisor-vmm agent"; the domain needs a vsock). Standard input, output
and error are the command's, SIGINT, SIGTERM, SIGHUP and SIGQUIT go to it, and
its exit code is that of this command: 128 and the number of the signal if one
ended it, 127 if the guest has no such program, 126 if it cannot be run. If this
command is killed, the command in the guest is, with all that it has started.

With --tty it runs on a terminal of the size of this one, and every key goes to
it, Ctrl-C too.`,
		Example: "  polyvisor exec web -- uname -r\n  polyvisor exec -t web -- sh\n  tar c . | polyvisor exec --user app --dir /srv web -- tar x",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usage("%s: want the name of a domain and a command; see \"%s --help\"", command(cmd), cmd.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: func(c *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return a.completeDomains(polyvisor.OpExec)(c, args, part)
		},
	}
	c.RunE = a.action(func(ctx context.Context, args []string) error {
		return a.withDomain(ctx, args[0], func(dom *polyvisor.Domain) error {
			cmd.Args = args[1:]
			if cmd.Args[0] == "--" {
				cmd.Args = cmd.Args[1:]
			}
			if len(cmd.Args) == 0 {
				return usage("exec: want a command after --")
			}
			if ready != 0 {
				if err := a.awaitReady(ctx, dom, ready); err != nil {
					return err
				}
			}
			return a.exec(ctx, dom, cmd, tty)
		})
	})
	f := c.Flags()
	f.SetInterspersed(false) // what follows the name is the command's
	f.BoolVarP(&tty, "tty", "t", false, "run it on a terminal")
	f.StringArrayVarP(&cmd.Env, "env", "e", nil, "set `NAME=VALUE` for it; may be repeated")
	f.StringVarP(&cmd.Dir, "dir", "w", "", "run it in this `directory` of the guest (default: the home of its user)")
	f.StringVarP(&cmd.User, "user", "u", "", "run it as `USER[:GROUP]`, names or numbers of the guest (default root)")
	f.DurationVar(&ready, "wait", 0, "first wait up to this `time` until the guest takes commands")
	return c
}

// awaitReady waits for the guest.
func (a *app) awaitReady(ctx context.Context, dom *polyvisor.Domain, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := dom.WaitReady(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return &exitError{exitTimeout, advise(err, "is \"polyvisor-vmm agent\" started by the guest?")}
	}
	return err
}

// exec runs a command with the standard input, output and error and the signals of this
// process, and gives its exit code as an *exitError.
func (a *app) exec(ctx context.Context, dom *polyvisor.Domain, cmd polyvisor.Cmd, tty bool) error {
	r, err := newStdinReader(a.stdin)
	if err != nil {
		return err
	}
	in := &commandInput{r: r}
	defer in.stop()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, a.stdout, a.stderr
	var keys *terminal
	if tty {
		cmd.TTY = &polyvisor.TTYSize{}
		if keys, err = rawTerminal(a.stdin, a.stdout); err != nil {
			return err
		}
	}
	if keys != nil {
		a.stderr.setRaw(true)
		defer func() {
			keys.restore()
			a.stderr.setRaw(false)
		}()
		*cmd.TTY = keys.size()
		if name := os.Getenv("TERM"); name != "" {
			cmd.Env = append([]string{"TERM=" + name}, cmd.Env...)
		}
	}
	p, err := dom.StartExec(ctx, cmd)
	switch {
	case errors.Is(err, polyvisor.ErrNotFound):
		return &exitError{exitNoProgram, err}
	case errors.Is(err, polyvisor.ErrPermission):
		return &exitError{exitCannotRun, err}
	case err != nil:
		return err
	}
	defer p.Close()
	defer a.passOn(ctx, p, keys)()
	err = p.Wait(ctx)
	var exit *polyvisor.ExitError
	if errors.As(err, &exit) {
		return &exitError{code: exit.Code}
	}
	return err
}

// passOn gives the command the signals that come, and the sizes of the terminal, until the
// function that it returns is called.
func (a *app) passOn(ctx context.Context, p *polyvisor.Process, keys *terminal) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	came := make(chan syscall.Signal, 16)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			select {
			case sig := <-came:
				// An error is that the command has ended, which Wait tells.
				if sig == syscall.SIGWINCH {
					_ = p.Resize(ctx, keys.size())
				} else if n, ok := guestSignals[sig]; ok {
					_ = p.Signal(ctx, n)
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	more := []os.Signal{syscall.SIGQUIT}
	if keys != nil {
		more = append(more, syscall.SIGWINCH)
	}
	back := a.signals.redirect(func(sig syscall.Signal) {
		select {
		case came <- sig:
		default: // sixteen are under way
		}
	}, more...)
	return func() {
		back()
		cancel()
		<-over
	}
}

// guestSignals are the signals that a command is told of. Their numbers in this system need
// not be those in the guest.
var guestSignals = map[syscall.Signal]polyvisor.Signal{
	syscall.SIGINT: polyvisor.SIGINT, syscall.SIGTERM: polyvisor.SIGTERM, syscall.SIGHUP: polyvisor.SIGHUP, syscall.SIGQUIT: polyvisor.SIGQUIT,
}

// size is that of the terminal.
func (t *terminal) size() polyvisor.TTYSize {
	cols, rows, err := term.GetSize(t.fd)
	if err != nil {
		return polyvisor.TTYSize{}
	}
	return polyvisor.TTYSize{Cols: uint16(cols), Rows: uint16(rows)}
}

// commandInput is standard input for a command in a guest. The library may have a Read of
// it under way when the command has ended.
type commandInput struct {
	r    *stdinReader
	mu   sync.Mutex // held by a Read
	over bool
}

func (c *commandInput) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return 0, io.EOF
	}
	n, err := c.r.Read(p)
	if errors.Is(err, os.ErrClosed) {
		err = io.EOF
	}
	return n, err
}

// stop ends a Read of a file; another reader may be left with one under way.
func (c *commandInput) stop() {
	if c.r.fd < 0 {
		return
	}
	c.r.interrupt()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	c.r.close()
}
