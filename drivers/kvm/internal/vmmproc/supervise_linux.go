package vmmproc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
)

const (
	killPatience  = 10 * time.Second // for a killed machine to end by itself
	firstRestart  = 100 * time.Millisecond
	longRestart   = 5 * time.Second
	longEnoughRun = 10 * time.Second // a machine that ran so long may restart at once
	quickReboot   = time.Second      // one that reboots after so little does nothing else
)

// supervise follows the machine until the domain's run ends: builds it anew when
// a policy says so, and then takes everything down. It is the only one that
// replaces s.m and that ends the run.
func (s *Server) supervise(m Machine) {
	defer close(s.done)
	var delay time.Duration
	for {
		born := time.Now()
		exit, ended := s.awaitEnd(m)
		if !ended {
			s.finish(m, Exit{Reason: ReasonKilled, Detail: "the machine did not end when it was killed; its process was ended under it"}, false)
			return
		}
		stop, again := s.decide(exit)
		if !again {
			s.preserve(stop)
			s.finish(m, stop, true)
			return
		}
		s.log.Info("the machine is built anew", "reason", exit.Reason, "detail", exit.Detail)
		// A guest that crashes or reboots at once must not keep the host busy.
		asked := exit.Reason == ReasonReset || exit.Reason == ReasonReboot && time.Since(born) > quickReboot
		if time.Since(born) > longEnoughRun || asked {
			delay = 0
		} else {
			delay = min(max(firstRestart, 2*delay), longRestart)
		}
		next, err := s.rebuild(m, delay)
		if err != nil {
			stop := Exit{Reason: ReasonCrash, Detail: fmt.Sprintf("after %s, the machine could not be built anew: %v", exit.Reason, err)}
			if s.killed.Err() != nil {
				stop = Exit{Reason: ReasonKilled}
			}
			s.finish(nil, stop, true)
			return
		}
		m = next
	}
}

// awaitEnd waits for the end of the machine, and kills it when the run is to be
// destroyed. It says false if the machine was killed and is still there after a
// while.
func (s *Server) awaitEnd(m Machine) (Exit, bool) {
	ctx, giveUp := context.WithCancel(context.Background())
	defer giveUp()
	killer := make(chan struct{})
	stop := context.AfterFunc(s.killed, func() {
		defer close(killer)
		timer := time.AfterFunc(killPatience, giveUp)
		defer timer.Stop()
		m.Kill()
	})
	exit, err := m.Wait(ctx)
	if err != nil {
		return Exit{}, false
	}
	if !stop() {
		select {
		case <-killer: // the machine must not be closed under it
		case <-ctx.Done():
			return Exit{}, false
		}
	}
	return exit, true
}

// decide says what the end of a machine means: how the run ended, or that the
// machine is to be built again.
func (s *Server) decide(exit Exit) (Exit, bool) {
	s.mu.Lock()
	comeBack, wasReset := s.comeBack, s.reset
	s.comeBack, s.reset = false, false
	s.mu.Unlock()
	if wasReset && exit.Reason == ReasonReboot {
		exit.Reason = ReasonReset
	}
	if s.killed.Err() != nil {
		// The guest may have ended by itself at the same moment, for good.
		if exit.Reason == ReasonReset || exit.Reason == ReasonReboot || comeBack {
			exit = Exit{Reason: ReasonKilled}
		}
		return exit, false
	}
	switch exit.Reason {
	case ReasonReset:
		return exit, true
	case ReasonReboot:
		return exit, s.cfg.restartsOnReboot()
	case ReasonShutdown:
		if comeBack {
			// The power button was pressed for a reboot.
			return Exit{Reason: ReasonReboot, Detail: exit.Detail}, s.cfg.restartsOnReboot()
		}
		return exit, s.cfg.OnPoweroff == ActionRestart
	case ReasonCrash:
		return exit, s.cfg.OnCrash == ActionRestart
	case ReasonKilled:
		return exit, false
	}
	return Exit{Reason: ReasonCrash, Detail: fmt.Sprintf("the machine ended for the unknown reason %q: %s", exit.Reason, exit.Detail)}, false
}

// policy is what the configuration says about the end of a machine.
func (c *Config) policy(r Reason) Action {
	switch r {
	case ReasonShutdown:
		return c.OnPoweroff
	case ReasonReboot:
		return c.OnReboot
	case ReasonCrash:
		return c.OnCrash
	}
	return ActionDestroy
}

func (c *Config) restartsOnReboot() bool { return c.OnReboot == "" || c.OnReboot == ActionRestart }

// preserve keeps the machine that has ended until it is destroyed, if the policy
// says so.
func (s *Server) preserve(exit Exit) {
	policy := s.cfg.policy(exit.Reason)
	if s.killed.Err() != nil || policy != ActionPreserve && policy != ActionRenameRestart {
		return
	}
	stop := &Stop{Reason: exit.Reason, Detail: exit.Detail, Time: time.Now().UTC()}
	select {
	case s.slow <- struct{}{}: // what is under way fails on the machine, which has ended
	case <-s.killed.Done():
		return
	}
	s.mu.Lock()
	s.ended = stop
	s.mu.Unlock()
	err := s.run.AnnouncePreserved(store.StopRecord{Reason: string(stop.Reason), Detail: stop.Detail, Time: stop.Time})
	<-s.slow
	if err != nil {
		s.log.Warn("an event could not be told", "event", store.EventPreserved, "err", err)
	}
	s.log.Info("the guest has ended and is kept", "reason", stop.Reason, "detail", stop.Detail)
	if policy == ActionRenameRestart {
		s.renewing.Go(s.renew)
	}
	<-s.killed.Done()
}

// rebuild closes the machine and starts another one in its place. A machine that
// was suspended when it was reset is suspended again.
func (s *Server) rebuild(old Machine, delay time.Duration) (Machine, error) {
	// Suspend, Resume and Reset keep out; they fail on the old machine, which has
	// ended, and so do not hold it long.
	s.slow <- struct{}{}
	defer func() { <-s.slow }()
	s.addExits(old)
	if err := old.Close(); err != nil {
		s.log.Error("close the machine", "err", err)
	}
	if err := pause(s.killed, delay); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.reboots++
	n := s.reboots
	s.mu.Unlock()
	m, err := s.build(s.killed, n)
	if err != nil {
		return nil, err
	}
	err = s.pinAll(m)
	if err == nil {
		err = m.Start()
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	if s.paused {
		if err := m.Suspend(s.killed); err != nil {
			s.log.Error("suspend the machine after its reset", "err", err)
			s.paused = false
		}
	}
	s.mu.Lock()
	s.m, s.counted = m, false
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
	if err := s.console.tellSize(m); err != nil {
		s.log.Error("tell the machine the size of the console's terminal", "err", err)
	}
	s.announce(store.EventRebooted)
	return m, nil
}

// addExits keeps the counts of a machine that is about to be closed.
func (s *Server) addExits(m Machine) {
	info := m.Info()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counted = true
	s.cpuTime += info.CPUTime
	s.addVCPUTime(info.VCPUTime)
	s.disks, s.nics = sumOf(info.Disks, s.disks), sumOf(info.NICs, s.nics)
	for k, n := range info.Exits {
		if s.exits == nil {
			s.exits = map[string]uint64{}
		}
		s.exits[k] += n
	}
}
