//go:build linux && amd64

package kvm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vmmproc"
)

// control runs one call of the VM process of an active domain.
func (i *instance) control(ctx context.Context, f func(c *vmmproc.Client) error) error {
	run, err := i.d.store.ActiveByUUID(i.uuid)
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%w: the domain has just stopped", polyvisor.ErrInvalidState)
	}
	if err != nil {
		return classify(err)
	}
	c, err := vmmproc.Dial(ctx, run.Dir)
	if err == nil {
		defer c.Close()
		err = f(c)
	}
	return i.controlError(err)
}

// codes says to which sentinel an error of a VM process belongs.
var codes = map[vmmproc.Code]error{
	vmmproc.CodeInvalidState:    polyvisor.ErrInvalidState,
	vmmproc.CodeGone:            polyvisor.ErrInvalidState,
	vmmproc.CodeNotReady:        polyvisor.ErrBusy,
	vmmproc.CodeInvalidArgument: polyvisor.ErrInvalidConfig,
	vmmproc.CodeUnsupported:     polyvisor.ErrUnsupported,
	vmmproc.CodeUnknownOp:       polyvisor.ErrUnsupported,
	vmmproc.CodeVersion:         polyvisor.ErrUnsupported,
	vmmproc.CodeBusy:            polyvisor.ErrBusy,
	vmmproc.CodePermission:      polyvisor.ErrPermission,
	vmmproc.CodeNotFound:        polyvisor.ErrNotFound,
	vmmproc.CodeNoResource:      polyvisor.ErrNoResource,
}

// controlError gives an error of a VM process its class.
func (i *instance) controlError(err error) error {
	var e *vmmproc.Error
	if errors.As(err, &e) {
		if class := codes[e.Code]; class != nil {
			return &classed{class, err}
		}
	}
	return classify(err)
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
const destroyPatience = 15 * time.Second

// Destroy tells the VM process to end its machine, and kills the process if it
// does not answer.
func (i *instance) Destroy(ctx context.Context) error {
	for {
		run, err := i.d.store.ActiveByUUID(i.uuid)
		if errors.Is(err, store.ErrNotFound) {
			return nil // it stopped meanwhile
		}
		if err != nil {
			return classify(err)
		}
		err = i.destroyRun(ctx, run)
		if err == nil {
			return nil
		}
		if !errors.Is(err, vmmproc.ErrGone) && !errors.Is(err, vmmproc.ErrNotReady) {
			return i.controlError(err)
		}
		// It ends by itself, or is being started by someone else.
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

func (i *instance) destroyRun(ctx context.Context, run store.Active) error {
	patience, cancel := context.WithTimeout(ctx, destroyPatience)
	defer cancel()
	c, err := vmmproc.Dial(patience, run.Dir)
	if err == nil {
		defer c.Close()
		_, err = c.Destroy(patience)
	}
	if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) || !run.Started {
		return err
	}
	return i.kill(ctx, run)
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
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill VM process %d: %w", run.PID, err)
	}
	if err := i.d.store.ReapDomain(ctx, i.uuid); err != nil {
		return err
	}
	return i.d.store.RecordStop(i.uuid, store.StopRecord{
		Run: run.Token, Reason: string(vmmproc.ReasonKilled), Time: time.Now().UTC(),
		Detail: "the VM process did not answer and was killed",
	})
}

// Undefine forgets the definition. An active domain goes on as a transient one.
func (i *instance) Undefine(ctx context.Context) error {
	lock, err := i.d.store.LockDomain(ctx, i.uuid)
	if err != nil {
		return classify(err)
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
	return classify(err)
}
