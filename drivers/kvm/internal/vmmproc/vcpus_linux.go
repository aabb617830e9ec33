package vmmproc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
)

// VCPU is a virtual CPU as the host sees its thread.
type VCPU struct {
	// Running says that it executes or is ready to, and does not sleep.
	Running bool          `json:"running"`
	CPU     int           `json:"cpu"` // of the host, where it runs or ran last; -1 if not known
	Time    time.Duration `json:"time_ns"`
	// Affinity is the host CPUs that it may run on, as a map: CPU 0 is the lowest
	// bit of the first byte. Nil if not known.
	Affinity []byte `json:"affinity,omitempty"`
}

// Scheduler is what a Machine implements whose virtual CPUs are threads of the
// host.
type Scheduler interface {
	// VCPUs looks at all of them, in the order of their numbers, without
	// blocking on the guest.
	VCPUs() []VCPU
	// Pin binds a virtual CPU to host CPUs, given as a map; also before Start. An
	// error has CodeInvalidArgument if there is no such virtual CPU or the host
	// has none of the CPUs.
	Pin(number int, cpus []byte) error
}

type vcpusReply struct {
	VCPUs []VCPU `json:"vcpus"`
}

type pinArgs struct {
	VCPU int    `json:"vcpu"`
	CPUs []byte `json:"cpus"`
}

// VCPUs looks at the threads of the virtual CPUs.
func (c *Client) VCPUs(ctx context.Context) ([]VCPU, error) {
	var r vcpusReply
	err := c.call(ctx, opVCPUs, nil, &r)
	return r.VCPUs, err
}

// Pin binds a virtual CPU to host CPUs, given as a map, for the rest of the run.
func (c *Client) Pin(ctx context.Context, number int, cpus []byte) error {
	return c.call(ctx, opPin, pinArgs{number, cpus}, nil)
}

// vcpus answers vcpus. The time is that of the run, as in info.
func (s *Server) vcpus(m Machine) (vcpusReply, error) {
	sched, ok := m.(Scheduler)
	if !ok {
		return vcpusReply{}, ErrUnsupported
	}
	r := vcpusReply{sched.VCPUs()}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range r.VCPUs {
		if i < len(s.vcpuTime) {
			r.VCPUs[i].Time += s.vcpuTime[i]
		}
	}
	return r, nil
}

// pin binds a virtual CPU of the machine, and of those that follow it in this
// run. s.slow is held.
func (s *Server) pin(m Machine, a pinArgs) error {
	sched, ok := m.(Scheduler)
	if !ok {
		return ErrUnsupported
	}
	if err := sched.Pin(a.VCPU, a.CPUs); err != nil {
		return err
	}
	if s.pins == nil {
		s.pins = maps.Clone(s.cfg.Pins)
	}
	if s.pins == nil {
		s.pins = map[int][]byte{}
	}
	s.pins[a.VCPU] = a.CPUs
	return nil
}

// pinAll binds the virtual CPUs of a machine that has not started.
func (s *Server) pinAll(m Machine) error {
	pins := s.pins
	if pins == nil {
		pins = s.cfg.Pins
	}
	if len(pins) == 0 {
		return nil
	}
	sched, ok := m.(Scheduler)
	if !ok {
		return ErrUnsupported
	}
	for number, cpus := range pins {
		if err := sched.Pin(number, cpus); err != nil {
			var e *Error
			if errors.As(err, &e) {
				return err
			}
			return fmt.Errorf("pin: %w", err)
		}
	}
	return nil
}

// addVCPUTime keeps the times of a machine that is about to be closed. s.mu is
// held.
func (s *Server) addVCPUTime(times []time.Duration) {
	for i, t := range times {
		if i == len(s.vcpuTime) {
			s.vcpuTime = append(s.vcpuTime, 0)
		}
		s.vcpuTime[i] += t
	}
}

// announce tells subscribers what has happened.
func (s *Server) announce(what store.EventType) {
	if err := s.run.Announce(what, s.paused); err != nil {
		s.log.Warn("an event could not be told", "event", what, "err", err)
	}
}
