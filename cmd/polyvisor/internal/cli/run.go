package cli

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/polyvisor/polyvisor"
)

const (
	// undoTime bounds the cleaning up after a run that did not start.
	undoTime = 10 * time.Second
	// sameSignal is how long further signals count as the first one: timeout(1)
	// and others send one to the process and at once to its group, too.
	sameSignal = 500 * time.Millisecond
)

func (a *app) runCommand() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run [FILE|-] [-- COMMAND [ARG...]]",
		Short: "Define and start a domain, with its console on this terminal",
		Long: `Run makes a domain from flags, or from FILE (a configuration in JSON or libvirt
domain XML, see "polyvisor define") and flags that change it, and starts it with
its console on standard input and output. In XML, too, everything must be what a
configuration can say. Without a kernel the built-in guest runs: it obeys
commands, "help" lists them. Without a name it gets one that begins with "run-".

Without --rm the domain is defined, and afterwards "polyvisor start" runs it
again; with --rm it is transient, and gone when it stops. A run is one life: a
guest that reboots ends it, unless --on-reboot or the file says "restart". A
definition that stays keeps this.

If standard input is a terminal, every key goes to the guest, Ctrl-C too.
Ctrl-] leaves the domain running and "polyvisor console" comes back to it. If
standard input is not a terminal it is copied to the console, and its end does
not end the run. SIGINT and SIGTERM ask the guest to shut down; a further one,
half a second later or more, destroys the domain. SIGHUP leaves it running.

With COMMAND after -- that runs in a machine of its own, which is gone after: the
newest kernel of this host unless --kernel names another, an initial RAM disk
made on the fly with busybox, and polyvisor's agent. Standard input, output,
error, signals and the exit code are the command's, as with "polyvisor exec".
The machine lives in this process, and dies with it however that ends.

The exit code is 0 if the guest powered itself off or the console was left,
1 for a failure, 2 for wrong usage, and else 10 plus the number of the stop
reason: 11 service-died, 13 killed, 17 reboot, 18 crash, 21 hangup; "polyvisor
wait --help" has all.`,
		Example: `  polyvisor run --rm
  polyvisor run --name web --kernel auto --initrd initrd.img --memory 512MiB --vcpus 2
  polyvisor run --rm --kernel vmlinux --cmdline "console=ttyS0 quiet panic=-1" | tee boot.log
  polyvisor run --detach web.json
  polyvisor run -- sh -c 'uname -r; exit 7'
  tar c . | polyvisor run --timeout 1m -m 512MiB -- sh -c 'tar x && make'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if n := cmd.ArgsLenAtDash(); n >= 0 {
				if len(args) == n {
					return usage("run: want a command after --")
				}
				args = args[:n]
			}
			if len(args) > 0 {
				return wants(1, "at most one file")(cmd, args)
			}
			return nil
		},
		ValidArgsFunction: completeFile("json", "xml"),
	}
	f.register(c)
	c.RunE = a.action(func(ctx context.Context, args []string) error {
		var command []string
		if n := c.ArgsLenAtDash(); n >= 0 {
			args, command = args[:n], args[n:]
		}
		file := f.file
		if len(args) > 0 {
			if file != "" {
				return usage("both --file %s and %s; give one", file, args[0])
			}
			file = args[0]
		}
		config, err := a.runConfig(&f, file, c.Flags().Changed)
		if err != nil {
			return err
		}
		if command != nil {
			return a.runSandbox(ctx, config, &f, command)
		}
		if f.timeout != 0 || f.tty {
			return usage("--timeout and --tty are for a command after --")
		}
		return a.withConn(ctx, func(conn *polyvisor.Conn) error { return a.run(ctx, conn, config, &f) })
	})
	return c
}

func (a *app) run(ctx context.Context, conn *polyvisor.Conn, config *polyvisor.Config, f *runFlags) error {
	if !f.detach && !conn.Capabilities().Has(polyvisor.FeatureConsole) {
		return usage("the %s driver has no console; give --detach", conn.Type())
	}
	var dom *polyvisor.Domain
	var err error
	paused := !f.detach && conn.Capabilities().Has(polyvisor.FeatureSuspend)
	if f.remove {
		dom, err = conn.Create(ctx, config, startOptions(paused)...)
	} else {
		dom, err = defineAndStart(ctx, conn, config, startOptions(paused))
	}
	if err != nil {
		return err
	}
	if f.detach {
		return a.say("%s", dom.Name())
	}
	if f.named {
		a.note("domain %q started", dom.Name())
	}
	s := &stopper{a: a, ctx: ctx, dom: dom}
	back := a.signals.redirect(func(sig syscall.Signal) {
		if sig != syscall.SIGHUP {
			s.signal(sig)
		}
	})
	err = a.runConsole(ctx, dom, paused, s.signal)
	back()
	s.wait()
	return err
}

// defineAndStart leaves no definition behind if the domain does not start, and
// does not touch one that was there before.
func defineAndStart(ctx context.Context, conn *polyvisor.Conn, config *polyvisor.Config, opts []polyvisor.StartOption) (*polyvisor.Domain, error) {
	if _, err := conn.Domain(ctx, config.Name); err == nil {
		return nil, advise(fmt.Errorf("%w: domain %q", polyvisor.ErrExists, config.Name),
			"\"polyvisor start --console %[1]s\" runs it, \"polyvisor undefine --destroy %[1]s\" removes it, --name gives another name", config.Name)
	} else if !errors.Is(err, polyvisor.ErrNotFound) {
		return nil, err
	}
	dom, err := conn.Define(ctx, config)
	if err != nil {
		return nil, err
	}
	if err = dom.Start(ctx, opts...); err == nil {
		return dom, nil
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	if uerr := dom.Undefine(undo); uerr != nil {
		err = errors.Join(err, fmt.Errorf("its definition is left behind: %w", uerr))
	}
	return nil, err
}

// stopper ends a run by signals: the first asks the guest to shut down, the
// next ones destroy the domain.
type stopper struct {
	a     *app
	ctx   context.Context
	dom   *polyvisor.Domain
	asked time.Time
	calls []chan struct{}
}

// signal is called by one goroutine. The attachment goes on, so that what the
// guest prints while it stops is seen.
func (s *stopper) signal(syscall.Signal) bool {
	ask := s.asked.IsZero()
	if ask {
		s.asked = time.Now()
	} else if time.Since(s.asked) < sameSignal {
		return false
	}
	over := make(chan struct{})
	s.calls = append(s.calls, over)
	go func() {
		defer close(over)
		ctx, cancel := context.WithTimeout(s.ctx, undoTime)
		defer cancel()
		if !ask {
			if err := s.dom.Destroy(ctx); err != nil && !errors.Is(err, polyvisor.ErrInvalidState) && !errors.Is(err, polyvisor.ErrNotFound) {
				s.a.complain(err)
			}
			return
		}
		if err := s.dom.Shutdown(ctx); err != nil {
			s.a.complain(advise(err, "another signal destroys the domain"))
			return
		}
		s.a.note("domain %q was asked to shut down; another signal destroys it", s.dom.Name())
	}()
	return false
}

// wait returns when no call is under way. No signal may come any more.
func (s *stopper) wait() {
	for _, over := range s.calls {
		<-over
	}
}
