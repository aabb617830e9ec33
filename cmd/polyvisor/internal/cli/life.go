package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/polyvisor/polyvisor"
)

const oneDomain = "the name, the UUID or the ID of one domain"

// domainCommand is a command about one domain, on which op must be legal for
// its name to be completed.
func (a *app) domainCommand(c *cobra.Command, op polyvisor.Op, f func(ctx context.Context, dom *polyvisor.Domain) error) *cobra.Command {
	c.Args = wants(1, oneDomain)
	c.ValidArgsFunction = a.completeDomains(op)
	c.RunE = a.action(func(ctx context.Context, args []string) error {
		return a.withDomain(ctx, args[0], func(dom *polyvisor.Domain) error { return f(ctx, dom) })
	})
	return c
}

func (a *app) startCommand() *cobra.Command {
	var console, paused bool
	c := a.domainCommand(&cobra.Command{
		Use:   "start NAME",
		Short: "Start a domain that is defined",
		Long: `Start runs a domain that is defined and inactive, and returns when the guest is
free to execute. The domain runs on when the command ends.

With --console this terminal becomes the domain's console until the domain
stops, with the exit code of "polyvisor wait", or until Ctrl-] is typed; see
"polyvisor console --help". With --paused its virtual CPUs do not execute
anything until "polyvisor resume".`,
		Example: "  polyvisor start web\n  polyvisor start --console web",
	}, polyvisor.OpStart, func(ctx context.Context, dom *polyvisor.Domain) error {
		wait := console && dom.Conn().Capabilities().Has(polyvisor.FeatureSuspend)
		if err := dom.Start(ctx, startOptions(paused || wait)...); err != nil {
			return err
		}
		if console {
			return a.runConsole(ctx, dom, wait, nil)
		}
		return a.say("domain %q started", dom.Name())
	})
	c.Flags().BoolVar(&console, "console", false, "attach this terminal to the console")
	c.Flags().BoolVar(&paused, "paused", false, "leave it paused before its first instruction")
	c.MarkFlagsMutuallyExclusive("console", "paused")
	return c
}

func (a *app) suspendCommand() *cobra.Command {
	return a.domainCommand(&cobra.Command{
		Use:   "suspend NAME",
		Short: "Stop a domain's CPUs",
		Long: `Suspend stops the virtual CPUs of a running domain and returns when none of
them executes any more. Its memory and its devices stay as they are.`,
		Example: "  polyvisor suspend web",
	}, polyvisor.OpSuspend, func(ctx context.Context, dom *polyvisor.Domain) error {
		return a.done(dom, "suspended", dom.Suspend(ctx))
	})
}

func (a *app) resumeCommand() *cobra.Command {
	return a.domainCommand(&cobra.Command{
		Use:     "resume NAME",
		Short:   "Let a suspended domain go on",
		Long:    `Resume lets the virtual CPUs of a suspended domain execute again.`,
		Example: "  polyvisor resume web",
	}, polyvisor.OpResume, func(ctx context.Context, dom *polyvisor.Domain) error {
		return a.done(dom, "resumed", dom.Resume(ctx))
	})
}

func (a *app) rebootCommand() *cobra.Command {
	return a.domainCommand(&cobra.Command{
		Use:   "reboot NAME",
		Short: "Ask the guest to restart",
		Long: `Reboot asks the guest to stop and starts it afresh when it has. The command
returns when the guest has been asked; a guest may take its time or ignore it.
"polyvisor destroy" and "polyvisor start" insist.`,
		Example: "  polyvisor reboot web",
	}, polyvisor.OpReboot, func(ctx context.Context, dom *polyvisor.Domain) error {
		return a.done(dom, "was asked to reboot", dom.Reboot(ctx))
	})
}

func (a *app) destroyCommand() *cobra.Command {
	return a.domainCommand(&cobra.Command{
		Use:   "destroy NAME",
		Short: "Stop a domain at once, like pulling the plug",
		Long: `Destroy stops an active domain at once. The guest is not told: what it has not
written to its disks is lost. The definition, if there is one, stays.
"polyvisor shutdown" asks the guest instead.`,
		Example: "  polyvisor destroy web",
	}, polyvisor.OpDestroy, func(ctx context.Context, dom *polyvisor.Domain) error {
		return a.done(dom, "destroyed", dom.Destroy(ctx))
	})
}

func (a *app) shutdownCommand() *cobra.Command {
	var wait bool
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "shutdown NAME",
		Short: "Ask the guest to power off",
		Long: `Shutdown asks the guest to power itself off, as a power button does. The
command returns when the guest has been asked; a guest may take its time or
ignore it. With --wait it returns when the domain has stopped, with the exit
code of "polyvisor wait". "polyvisor destroy" insists.`,
		Example: "  polyvisor shutdown web\n  polyvisor shutdown --wait --timeout 30s web || polyvisor destroy web",
	}
	a.domainCommand(c, polyvisor.OpShutdown, func(ctx context.Context, dom *polyvisor.Domain) error {
		if timeout < 0 {
			return usage("--timeout: %s is negative", timeout)
		}
		if !wait && timeout == 0 {
			return a.done(dom, "was asked to shut down", dom.Shutdown(ctx))
		}
		stop, err := shutdownAndWait(ctx, dom, timeout)
		if err != nil {
			return err
		}
		return a.reportStop(formatTable, stop)
	})
	c.Flags().BoolVar(&wait, "wait", false, "return when the domain has stopped")
	c.Flags().DurationVar(&timeout, "timeout", 0, "with the exit code 124 give up waiting after this time, such as 30s; implies --wait")
	return c
}

// shutdownAndWait begins to wait before it asks: a transient domain may be gone
// before the answer is here, and nobody could tell any more how it stopped.
func shutdownAndWait(ctx context.Context, dom *polyvisor.Domain, timeout time.Duration) (polyvisor.Stop, error) {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	begun, result := make(chan struct{}), make(chan waited, 1)
	go func() {
		close(begun)
		stop, err := waitFor(waiting, dom, timeout)
		result <- waited{stop, err}
	}()
	<-begun
	if err := dom.Shutdown(ctx); err != nil {
		cancel()
		<-result // the connection is still in use until then
		return polyvisor.Stop{}, err
	}
	w := <-result
	return w.stop, advise(w.err, "\"polyvisor destroy %s\" insists", dom.Name())
}

func (a *app) waitCommand() *cobra.Command {
	var timeout time.Duration
	var output *format
	c := a.domainCommand(&cobra.Command{
		Use:   "wait NAME",
		Short: "Wait until a domain stops and say why",
		Long: `Wait returns when the domain is inactive and prints why its last run ended. The
exit code says it too: 0 if the guest powered itself off, else 10 plus the
number of the reason:

  10 unrecognised           11 service-died          12 infrastructure-error
  13 killed                 14 unknown               16 start-failed
  17 reboot                 18 crash                 19 firmware-key-mismatch
  20 firmware-image-changed 21 hangup

124 means that the time given with --timeout was over first.`,
		Example: "  polyvisor wait web\n  polyvisor wait --timeout 1m -o json web",
	}, "", func(ctx context.Context, dom *polyvisor.Domain) error {
		if timeout < 0 {
			return usage("--timeout: %s is negative", timeout)
		}
		stop, err := waitFor(ctx, dom, timeout)
		if err != nil {
			return err
		}
		return a.reportStop(*output, stop)
	})
	c.Flags().DurationVar(&timeout, "timeout", 0, "give up after this time, such as 30s; no limit if 0")
	output = outputFlag(c)
	return c
}

// done says what was done to a domain, if it was.
func (a *app) done(dom *polyvisor.Domain, what string, err error) error {
	if err != nil {
		return err
	}
	return a.say("domain %q %s", dom.Name(), what)
}

// waitFor waits for a domain to stop, for ever if timeout is 0.
func waitFor(ctx context.Context, dom *polyvisor.Domain, timeout time.Duration) (polyvisor.Stop, error) {
	bounded := ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	stop, err := dom.Wait(bounded)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = &exitError{exitTimeout, errors.New("domain \"" + dom.Name() + "\" has not stopped within " + timeout.String())}
	}
	return stop, err
}

// reportStop prints the end of a run and gives the exit code for it.
func (a *app) reportStop(f format, stop polyvisor.Stop) error {
	var err error
	if f == formatJSON {
		err = a.printJSON(stop)
	} else {
		err = a.say("%s", stop)
	}
	if err != nil {
		return err
	}
	return stopResult(stop)
}

// stopResult is the silent error that makes the exit code of the stop.
func stopResult(stop polyvisor.Stop) error {
	if code := stopCode(stop.Reason); code != exitOK {
		return &exitError{code: code}
	}
	return nil
}
