package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/polyvisor/polyvisor"
)

// settleTime is how long the state of a domain may lag behind the end of its
// console.
const settleTime = 2 * time.Second

func (a *app) consoleCommand() *cobra.Command {
	var force bool
	c := a.domainCommand(&cobra.Command{
		Use:   "console NAME",
		Short: "Attach this terminal to a domain's console",
		Long: `Console connects standard input and output with the first serial port of an
active domain. What the guest printed before is shown first, as far as it is
kept. If standard input is a terminal, every key goes to the guest, Ctrl-C too;
Ctrl-] leaves the console and the domain runs on. If it is not, it is copied to
the guest, and its end does not end the command.

The command ends when the domain stops. A console has one owner at a time;
--force takes it from the present one.`,
		Example: "  polyvisor console web\n  polyvisor console web < /dev/null | tee web.log",
	}, polyvisor.OpConsole, func(ctx context.Context, dom *polyvisor.Domain) error {
		con, err := dom.Console(ctx, polyvisor.ConsoleOptions{Force: force})
		if err != nil {
			return err
		}
		a.greet(dom)
		stop, err := a.follow(ctx, dom, con, nil)
		if err == nil && stop != nil {
			a.note("domain %q stopped: %s", dom.Name(), stop)
		}
		return err
	})
	c.Flags().BoolVar(&force, "force", false, "take the console from its present owner")
	return c
}

// greet says how to leave, to those who can.
func (a *app) greet(dom *polyvisor.Domain) {
	if isTerminal(a.stdin) {
		a.note("console of domain %q; Ctrl-] leaves it", dom.Name())
	}
}

// runConsole attaches to a domain that has just been started and ends with the
// exit code of its run. A paused one is let go when its console is open, so that
// nothing that it prints is missed.
func (a *app) runConsole(ctx context.Context, dom *polyvisor.Domain, paused bool, onSignal func(syscall.Signal) bool) error {
	con, err := dom.Console(ctx, polyvisor.ConsoleOptions{})
	if paused {
		if rerr := letGo(ctx, dom); rerr != nil {
			if con != nil {
				_ = con.Close()
			}
			return advise(errors.Join(err, rerr), "domain %q is left paused; \"polyvisor resume %[1]s\" lets it go on", dom.Name())
		}
	}
	var stop *polyvisor.Stop
	switch {
	case errors.Is(err, polyvisor.ErrInvalidState), errors.Is(err, polyvisor.ErrNotFound):
		// It was faster than we.
		s, werr := dom.Wait(ctx)
		if werr != nil {
			return werr
		}
		stop = &s
		a.note("domain %q ended before its console was attached; what it printed is in the log of its console, if it has one", dom.Name())
	case err != nil:
		return advise(err, "domain %q runs on; \"polyvisor console %[1]s\" attaches to it", dom.Name())
	default:
		a.greet(dom)
		if stop, err = a.follow(ctx, dom, con, onSignal); err != nil || stop == nil {
			return err
		}
	}
	a.note("domain %q stopped: %s", dom.Name(), stop)
	return stopResult(*stop)
}

// letGo resumes a domain that was started paused. That somebody else was faster
// with it, or with its end, is no failure.
func letGo(ctx context.Context, dom *polyvisor.Domain) error {
	err := dom.Resume(ctx)
	if errors.Is(err, polyvisor.ErrInvalidState) || errors.Is(err, polyvisor.ErrNotFound) {
		return nil
	}
	return err
}

// waited is what Domain.Wait returned.
type waited struct {
	stop polyvisor.Stop
	err  error
}

// follow attaches to a console until the domain stops, and gives the end of
// its run; or until the user leaves, then the result is nil.
func (a *app) follow(ctx context.Context, dom *polyvisor.Domain, con io.ReadWriteCloser, onSignal func(syscall.Signal) bool) (*polyvisor.Stop, error) {
	waiting, cancel := context.WithCancel(ctx)
	result := make(chan waited, 1)
	stopped := make(chan struct{})
	go func() {
		stop, err := dom.Wait(waiting)
		result <- waited{stop, err}
		close(stopped)
	}()
	defer func() {
		cancel()
		<-stopped
	}()
	e, err := a.attach(ctx, con, onSignal, stopped)
	if err != nil {
		return nil, err
	}
	switch e.kind {
	case endDetached:
		a.note("left domain %q, which runs on; \"polyvisor console %[1]s\" comes back to it", dom.Name())
		return nil, nil
	case endSignal:
		return nil, a.leftBy(dom, e.sig)
	case endOutput:
		return nil, advise(fmt.Errorf("%w: %w", errConsoleOutput, e.err),
			"domain %q runs on; \"polyvisor console %[1]s\" comes back to it", dom.Name())
	case endContext:
		return nil, e.err
	}
	takenOver := errors.Is(e.err, polyvisor.ErrBusy)
	if !takenOver {
		select {
		case w := <-result:
			return &w.stop, w.err
		case <-time.After(settleTime):
		}
	}
	lost := fmt.Errorf("the console of domain %q ended: %w", dom.Name(), e.err)
	if takenOver {
		lost = fmt.Errorf("the console of domain %q was taken over by another", dom.Name())
	}
	if onSignal != nil && !isTerminal(a.stdin) {
		// The life of the domain is this command's: it has its exit code.
		hangup := make(chan syscall.Signal, 1)
		defer a.signals.redirect(func(sig syscall.Signal) {
			if sig != syscall.SIGHUP {
				onSignal(sig)
				return
			}
			select {
			case hangup <- sig:
			default:
			}
		})()
		a.note("%s; waiting for the end of the domain", lost)
		select {
		case w := <-result:
			return &w.stop, w.err
		case sig := <-hangup:
			return nil, a.leftBy(dom, sig)
		}
	}
	again := ""
	if takenOver {
		again = "--force "
	}
	return nil, advise(lost, "the domain runs on; \"polyvisor console %s%s\" comes back to it", again, dom.Name())
}

// errConsoleOutput: the console's output could not be passed on. It is told
// even where an EPIPE of a listing would not be, since a machine is left.
var errConsoleOutput = errors.New("console: writing to standard output")

func (a *app) leftBy(dom *polyvisor.Domain, sig syscall.Signal) error {
	return &exitError{exitSignal + int(sig), advise(&signalError{sig},
		"domain %q runs on; \"polyvisor console %[1]s\" comes back to it", dom.Name())}
}
