package libvirt

import (
	"context"

	"github.com/digitalocean/go-libvirt"

	"github.com/polyvisor/polyvisor"
)

// Suspend returns when no vCPU executes guest code any more.
func (i *instance) Suspend(ctx context.Context) error {
	return i.change(ctx, func(ctx context.Context, s *session) error {
		// libvirt is content to suspend what is suspended.
		state, _, err := s.State(ctx, &i.dom)
		if err != nil {
			return err
		}
		if states[state] == polyvisor.Paused {
			return &polyvisor.StateError{Op: polyvisor.OpSuspend, State: polyvisor.Paused, Want: polyvisor.Transitions[polyvisor.OpSuspend].From}
		}
		return stateTrouble(s.Suspend(ctx, &i.dom))
	})
}

// Resume continues a suspended domain, and wakes one whose guest sleeps.
func (i *instance) Resume(ctx context.Context) error {
	return i.change(ctx, func(ctx context.Context, s *session) error {
		state, _, err := s.State(ctx, &i.dom)
		switch {
		case err != nil:
			return err
		case state == libvirt.DomainPmsuspended:
			return stateTrouble(s.Wakeup(ctx, &i.dom))
		case state == libvirt.DomainRunning:
			return &polyvisor.StateError{Op: polyvisor.OpResume, State: polyvisor.Running, Want: polyvisor.Transitions[polyvisor.OpResume].From}
		}
		return stateTrouble(s.Resume(ctx, &i.dom))
	})
}

// Shutdown asks the guest to stop.
func (i *instance) Shutdown(ctx context.Context) error {
	return i.change(ctx, func(ctx context.Context, s *session) error { return s.Shutdown(ctx, &i.dom) })
}

// Reboot asks the guest to stop and come back.
func (i *instance) Reboot(ctx context.Context) error {
	return i.change(ctx, func(ctx context.Context, s *session) error { return s.Reboot(ctx, &i.dom) })
}

var (
	_ polyvisor.Suspender  = (*instance)(nil)
	_ polyvisor.Shutdowner = (*instance)(nil)
	_ polyvisor.Rebooter   = (*instance)(nil)
)
