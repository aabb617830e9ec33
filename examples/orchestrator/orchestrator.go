package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/polyvisor/polyvisor"
)

// Spec is what shall run.
type Spec struct {
	Domains []*polyvisor.Config `json:"domains"`
	// Restart says after which ends a domain is started again: "crash" (the
	// default) after crashes, failed starts and failures of the host, "always"
	// also when the guest powered off by itself or nobody can tell why it ended.
	// A domain that somebody destroyed stays down, and so does one whose
	// firmware refuses its image or key: that would happen again.
	Restart string `json:"restart"`
}

// ReadSpec reads a Spec from a JSON file.
func ReadSpec(file string) (*Spec, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var raw struct {
		Domains []json.RawMessage `json:"domains"`
		Restart string            `json:"restart"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	s := &Spec{Restart: raw.Restart}
	for i, d := range raw.Domains {
		c, err := polyvisor.ParseConfig(d)
		if err != nil {
			return nil, fmt.Errorf("%s: domain %d: %w", file, i, err)
		}
		s.Domains = append(s.Domains, c)
	}
	return s, s.validate()
}

func (s *Spec) validate() error {
	switch s.Restart {
	case "", "crash", "always":
		return nil
	}
	return fmt.Errorf("restart %q: want crash or always", s.Restart)
}

func (s *Spec) restarts(r polyvisor.StopReason) bool {
	switch r {
	case polyvisor.StopCrash, polyvisor.StopServiceDied, polyvisor.StopStartFailed, polyvisor.StopHangup,
		polyvisor.StopInfrastructureError:
		return true
	case polyvisor.StopKilled, polyvisor.StopFirmwareKeyMismatch, polyvisor.StopFirmwareImageChanged:
		return false
	}
	return s.Restart == "always" // also for reasons that this program does not know
}

// Orchestrator keeps the domains of a Spec running on one connection.
type Orchestrator struct {
	Conn *polyvisor.Conn
	Spec *Spec
	Log  *slog.Logger
	// Backoff is the pause before the first restart in a row; it doubles up to
	// a hundred times that.
	Backoff time.Duration
	// Drain is how long guests may take to shut down at the end.
	Drain time.Duration
}

// Run keeps the domains running until ctx ends, then shuts them down, destroys
// those that take too long, and returns when all are down. An error names the
// domains that may still be active, and those that could not be kept running.
func (o *Orchestrator) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, len(o.Spec.Domains))
	for i, c := range o.Spec.Domains {
		wg.Go(func() { errs[i] = o.keep(ctx, c) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// keep is the life of one domain.
func (o *Orchestrator) keep(ctx context.Context, c *polyvisor.Config) error {
	log := o.Log.With("domain", c.Name)
	pause := o.Backoff
	for {
		began := time.Now()
		again, err := o.once(ctx, log, c)
		switch {
		case ctx.Err() != nil:
			return o.drain(log, c.Name)
		case errors.Is(err, polyvisor.ErrInvalidConfig), errors.Is(err, polyvisor.ErrUnsupported),
			errors.Is(err, polyvisor.ErrExists), errors.Is(err, polyvisor.ErrClosed):
			return err // trying again cannot help
		case err != nil:
			log.Warn("trying again", "in", pause, "error", err)
		case !again:
			<-ctx.Done()
			return o.drain(log, c.Name) // somebody else may have started it since
		}
		if time.Since(began) > 10*pause {
			pause = o.Backoff
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return o.drain(log, c.Name)
		}
		pause = min(2*pause, 100*o.Backoff)
	}
}

// once sees to it that the domain runs, and reports how it ended.
func (o *Orchestrator) once(ctx context.Context, log *slog.Logger, c *polyvisor.Config) (again bool, err error) {
	dom, err := o.Conn.Domain(ctx, c.Name)
	if errors.Is(err, polyvisor.ErrNotFound) {
		dom, err = o.Conn.Define(ctx, c)
	}
	if err != nil {
		return false, err
	}
	state, err := dom.State(ctx)
	if err == nil && !state.Active() {
		err = dom.Start(ctx)
		if err == nil {
			log.Info("started")
		}
	}
	if err != nil {
		return false, err
	}
	stop, err := dom.Wait(ctx)
	if err != nil {
		return false, err
	}
	log.Info("stopped", "reason", stop)
	return o.Spec.restarts(stop.Reason), nil
}

// drain brings a domain down: it asks the guest within the time that it is
// given, and then does not ask.
func (o *Orchestrator) drain(log *slog.Logger, name string) error {
	err := o.within(name, shutDown)
	if err == nil {
		log.Info("drained")
		return nil
	}
	log.Warn("the guest does not shut down; pulling the plug", "error", err)
	if err := o.within(name, destroy); err != nil {
		return fmt.Errorf("domain %q may still be active: %w", name, err)
	}
	return nil
}

// within brings the domain down by f in the time for draining, and makes sure
// that it is down. A domain that does not exist is.
func (o *Orchestrator) within(name string, f func(context.Context, *polyvisor.Domain) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), o.Drain)
	defer cancel()
	dom, err := o.Conn.Domain(ctx, name)
	if err == nil {
		if err = f(ctx, dom); err == nil {
			var info polyvisor.Info
			if info, err = dom.Info(ctx); err == nil && info.ID > 0 {
				return fmt.Errorf("it is %s with ID %d", info.State, info.ID)
			}
		}
	}
	if errors.Is(err, polyvisor.ErrNotFound) {
		return nil
	}
	return err
}

// shutDown asks the guest to shut down and waits until it has. A paused guest
// hears nothing and is resumed first.
func shutDown(ctx context.Context, dom *polyvisor.Domain) error {
	// A domain's ID tells whether it is active: also a crashed one can be.
	info, err := dom.Info(ctx)
	if err != nil || info.ID < 1 {
		return err
	}
	if info.State == polyvisor.Paused {
		// What is not paused any more, since somebody was faster, is fine.
		if err := dom.Resume(ctx); err != nil && !errors.Is(err, polyvisor.ErrInvalidState) {
			return err
		}
	}
	if err := dom.Shutdown(ctx); err != nil {
		info, ierr := dom.Info(ctx)
		if ierr != nil || info.ID > 0 && info.State != polyvisor.ShuttingDown {
			return err
		}
	}
	_, err = dom.Wait(ctx)
	return err
}

// destroy stops the domain without asking its guest.
func destroy(ctx context.Context, dom *polyvisor.Domain) error {
	err := dom.Destroy(ctx)
	if errors.Is(err, polyvisor.ErrInvalidState) {
		return nil // within looks whether it is down
	}
	return err
}
