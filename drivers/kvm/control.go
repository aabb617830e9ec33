//go:build linux && amd64

package kvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vmmproc"
)

// control runs one call of the VM process of an active domain. One that is being
// started by someone else is waited for, as operations on a domain come one after
// another, whoever asks for them.
func (i *instance) control(ctx context.Context, f func(c *vmmproc.Client) error) error {
	for {
		run, err := i.d.store.ActiveByUUID(i.uuid)
		if errors.Is(err, store.ErrNotFound) {
			return i.noRun(ctx)
		}
		if err != nil {
			return classify(err)
		}
		c, err := dial(ctx, run.Dir)
		if errors.Is(err, errSilent) && run.Started {
			return fmt.Errorf("%w: %w within %v (process %d); destroy the domain, which kills that process, or wait", polyvisor.ErrBusy, err, lookPatience, run.PID)
		}
		if (errors.Is(err, vmmproc.ErrNotReady) || errors.Is(err, vmmproc.ErrGone)) && !run.Started {
			select {
			case <-time.After(5 * time.Millisecond):
				continue
			case <-ctx.Done():
				return fmt.Errorf("%w: %w", ctx.Err(), err)
			}
		}
		if err == nil {
			err = f(c)
			c.Close()
		}
		return ended(ctx, classify(err))
	}
}

func (i *instance) Suspend(ctx context.Context) error {
	return i.control(ctx, func(c *vmmproc.Client) error { return c.Suspend(ctx) })
}

func (i *instance) Resume(ctx context.Context) error {
	return i.control(ctx, func(c *vmmproc.Client) error { return c.Resume(ctx) })
}

func (i *instance) Shutdown(ctx context.Context) error {
	return i.control(ctx, func(c *vmmproc.Client) error { return c.Shutdown(ctx) })
}

func (i *instance) Reboot(ctx context.Context) error {
	return i.control(ctx, func(c *vmmproc.Client) error { return c.Reboot(ctx) })
}

// destroyPatience is how long a VM process may take to end when it is told to,
// before it is killed. Its machine ends within milliseconds; the rest is for a
// host under load.
var destroyPatience = 15 * time.Second

// errSilent says that a VM process does not even greet, so that no patience helps.
var errSilent = errors.New("the VM process does not answer")

// Destroy tells the VM process to end its machine, and kills the process if it
// does not answer.
func (i *instance) Destroy(ctx context.Context) error {
	patience, cancel := context.WithTimeout(ctx, destroyPatience)
	defer cancel()
	token := ""
	for {
		run, err := i.d.store.ActiveByUUID(i.uuid)
		if errors.Is(err, store.ErrNotFound) && token == "" {
			if pid, err := i.d.store.Lost(ctx, i.uuid); err != nil || pid != 0 {
				return ended(ctx, classify(errors.Join(err, i.killLost(ctx, pid))))
			}
			// What crashed and is inactive is shut off from now on.
			return ended(ctx, classify(i.d.store.ClearStop(ctx, i.uuid)))
		}
		if errors.Is(err, store.ErrNotFound) || err == nil && token != "" && run.Token != token {
			return nil // it has stopped; another run is another domain's life
		}
		if err != nil {
			return classify(err)
		}
		token = run.Token
		err = destroyRun(patience, run.Dir)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ended(ctx, classify(err))
		case (patience.Err() != nil || errors.Is(err, errSilent)) && run.Started:
			return classify(i.kill(ctx, run))
		case patience.Err() == nil && !errors.Is(err, vmmproc.ErrGone) && !errors.Is(err, vmmproc.ErrNotReady) && !errors.Is(err, errSilent):
			return classify(err)
		}
		// It ends by itself, or is being started by someone else.
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

func destroyRun(ctx context.Context, dir string) error {
	c, err := dial(ctx, dir)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Destroy(ctx)
	return err
}

// dial is vmmproc.Dial for a VM process that may be silent.
func dial(ctx context.Context, dir string) (*vmmproc.Client, error) {
	greeting, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	c, err := vmmproc.Dial(greeting, dir)
	if err != nil && ctx.Err() == nil && greeting.Err() != nil {
		return nil, errSilent
	}
	return c, err
}

// kill ends a VM process that does not answer.
func (i *instance) kill(ctx context.Context, run store.Active) error {
	fd, err := unix.PidfdOpen(run.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return i.d.store.ReapDomain(ctx, i.uuid)
	}
	if err != nil {
		return fmt.Errorf("VM process %d: %w", run.PID, err)
	}
	defer unix.Close(fd)
	// If the run is alive still, the descriptor refers to its process and not to
	// another that was given its number.
	if now, err := i.d.store.ActiveByUUID(i.uuid); err != nil || now.Token != run.Token {
		return nil
	}
	if !isVMProcess(run.PID) {
		return fmt.Errorf("%w: process %d, which runs the domain among other things (isolation=%s), does not answer; end that process",
			polyvisor.ErrBusy, run.PID, IsolationNone)
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill VM process %d: %w", run.PID, err)
	}
	if err := i.d.store.ReapDomain(ctx, i.uuid); err != nil {
		return err
	}
	err = i.d.store.RecordStop(i.uuid, store.StopRecord{
		Run: run.Token, Reason: string(vmmproc.ReasonKilled), Time: time.Now().UTC(),
		Detail: "the VM process did not answer and was killed",
	})
	if errors.Is(err, store.ErrActive) {
		return nil // it has been started again
	}
	return err
}

// noRun says why there is nobody to talk to.
func (i *instance) noRun(ctx context.Context) error {
	pid, err := i.d.store.Lost(ctx, i.uuid)
	if err != nil {
		return ended(ctx, classify(err))
	}
	if pid != 0 {
		return fmt.Errorf("%w: process %d runs the domain, but its run directory %s is gone, so that it cannot be told anything; destroy the domain and start it again",
			polyvisor.ErrInvalidState, pid, i.d.store.RunDir(i.uuid))
	}
	return fmt.Errorf("%w: the domain has just stopped", polyvisor.ErrInvalidState)
}

// killLost ends a VM process that has lost its run directory.
func (i *instance) killLost(ctx context.Context, pid int) error {
	if pid == 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("VM process %d: %w", pid, err)
	}
	if err == nil {
		defer unix.Close(fd)
		// The descriptor refers to the process that still holds the lock.
		if now, err := i.d.store.Lost(ctx, i.uuid); err != nil || now != pid {
			return err
		}
		if !isVMProcess(pid) {
			return fmt.Errorf("%w: process %d runs the domain among other things (isolation=%s), and the run directory is gone; end that process", polyvisor.ErrBusy, pid, IsolationNone)
		}
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("kill VM process %d: %w", pid, err)
		}
	}
	if err := i.d.store.ReapDomain(ctx, i.uuid); err != nil {
		return err
	}
	err = i.d.store.RecordStop(i.uuid, store.StopRecord{Reason: string(vmmproc.ReasonKilled), Time: time.Now().UTC(),
		Detail: "the VM process had lost its run directory and was killed"})
	if errors.Is(err, store.ErrActive) {
		return nil // it has been started again
	}
	return err
}

// isVMProcess tells a process that is nothing but a virtual machine from a program
// that has one in it.
func isVMProcess(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	arg0, _, _ := strings.Cut(string(b), "\x00")
	return err == nil && arg0 == vmmproc.ProgramName
}

// Undefine forgets the definition. An active domain goes on as a transient one.
func (i *instance) Undefine(ctx context.Context) error {
	lock, err := i.d.store.LockDomain(ctx, i.uuid)
	if err != nil {
		return ended(ctx, classify(err))
	}
	defer lock.Unlock()
	run, err := i.d.store.ActiveByUUID(i.uuid)
	active := err == nil
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return classify(err)
	}
	err = i.d.store.Undefine(ctx, i.uuid)
	if active && errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%w: the domain is transient and has no definition; destroy it to be rid of it", polyvisor.ErrInvalidState)
	}
	if err == nil && active {
		// Who holds this reference may still ask how the run ended.
		i.end.CompareAndSwap(nil, i.d.watchers.watch(run))
	}
	return ended(ctx, classify(err))
}
