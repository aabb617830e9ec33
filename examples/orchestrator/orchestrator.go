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
	// default) after crashes and failed starts, "always" also when the guest
	// powered off by itself. A domain that somebody destroyed stays down.
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
	case polyvisor.StopCrash, polyvisor.StopServiceDied, polyvisor.StopStartFailed, polyvisor.StopHangup:
		return true
	case polyvisor.StopShutdown, polyvisor.StopReboot:
		return s.Restart == "always"
	}
	return false
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
// those that take too long, and returns when all are down.
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
			return nil
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

// drain shuts a domain down, within the time that it is given.
func (o *Orchestrator) drain(log *slog.Logger, name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), o.Drain)
	defer cancel()
	dom, err := o.Conn.Domain(ctx, name)
	if err == nil {
		if err = dom.Shutdown(ctx); err == nil {
			_, err = dom.Wait(ctx)
		}
	}
	switch {
	case err == nil:
		log.Info("drained")
		return nil
	case errors.Is(err, polyvisor.ErrInvalidState), errors.Is(err, polyvisor.ErrNotFound):
		return nil // it was down already
	}
	if dom == nil {
		return err
	}
	log.Warn("the guest does not shut down; pulling the plug", "error", err)
	hard, cancel := context.WithTimeout(context.Background(), o.Drain)
	defer cancel()
	if err := dom.Destroy(hard); err != nil && !errors.Is(err, polyvisor.ErrInvalidState) {
		return err
	}
	return nil
}
