package libvirt

import (
	"github.com/digitalocean/go-libvirt"

	"github.com/polyvisor/polyvisor"
)

// states are the states of libvirt. A guest that has put its machine to sleep has
// no vCPU that executes, which is what Paused says; Resume wakes it.
var states = map[libvirt.DomainState]polyvisor.State{
	libvirt.DomainNostate:     polyvisor.NoState,
	libvirt.DomainRunning:     polyvisor.Running,
	libvirt.DomainBlocked:     polyvisor.Blocked,
	libvirt.DomainPaused:      polyvisor.Paused,
	libvirt.DomainShutdown:    polyvisor.ShuttingDown,
	libvirt.DomainShutoff:     polyvisor.Shutoff,
	libvirt.DomainCrashed:     polyvisor.Crashed,
	libvirt.DomainPmsuspended: polyvisor.Paused,
}

// stop is a reason in libvirt's words and in ours.
type stop struct {
	reason polyvisor.StopReason
	detail string
}

// shutoffStops say what a domain's state tells of its last run. A domain that has
// never run has the reason 0, as has every inactive one after its daemon was
// started anew: libvirt does not keep it.
var shutoffStops = map[libvirt.DomainShutoffReason]stop{
	libvirt.DomainShutoffShutdown:     {polyvisor.StopShutdown, ""},
	libvirt.DomainShutoffDestroyed:    {polyvisor.StopKilled, ""},
	libvirt.DomainShutoffCrashed:      {polyvisor.StopCrash, ""},
	libvirt.DomainShutoffMigrated:     {polyvisor.StopKilled, "migrated to another host"},
	libvirt.DomainShutoffSaved:        {polyvisor.StopKilled, "saved to a file"},
	libvirt.DomainShutoffFailed:       {polyvisor.StopStartFailed, ""},
	libvirt.DomainShutoffFromSnapshot: {polyvisor.StopKilled, "reverted to a snapshot of an inactive domain"},
	libvirt.DomainShutoffDaemon:       {polyvisor.StopKilled, "by the daemon when it was started anew"},
}

// eventStops say the same of a lifecycle event's detail.
var eventStops = map[libvirt.DomainEventStoppedDetailType]stop{
	libvirt.DomainEventStoppedShutdown:     shutoffStops[libvirt.DomainShutoffShutdown],
	libvirt.DomainEventStoppedDestroyed:    shutoffStops[libvirt.DomainShutoffDestroyed],
	libvirt.DomainEventStoppedCrashed:      shutoffStops[libvirt.DomainShutoffCrashed],
	libvirt.DomainEventStoppedMigrated:     shutoffStops[libvirt.DomainShutoffMigrated],
	libvirt.DomainEventStoppedSaved:        shutoffStops[libvirt.DomainShutoffSaved],
	libvirt.DomainEventStoppedFailed:       shutoffStops[libvirt.DomainShutoffFailed],
	libvirt.DomainEventStoppedFromSnapshot: shutoffStops[libvirt.DomainShutoffFromSnapshot],
	libvirt.DomainEventStoppedRecreated:    {polyvisor.StopKilled, "made anew for a migration"},
}

// lastStop gives the end of the last run of an inactive domain, nil if it has
// never run. libvirt does not keep when that was.
func lastStop(state libvirt.DomainState, reason int32) *polyvisor.Stop {
	switch state {
	case libvirt.DomainCrashed:
		return &polyvisor.Stop{Reason: polyvisor.StopCrash}
	case libvirt.DomainShutoff:
	default:
		return nil
	}
	if reason == int32(libvirt.DomainShutoffUnknown) {
		return nil
	}
	s, ok := shutoffStops[libvirt.DomainShutoffReason(reason)]
	if !ok {
		s.reason = polyvisor.StopUnrecognised
	}
	return &polyvisor.Stop{Reason: s.reason, Detail: s.detail}
}

// eventStop gives the end of a run as a lifecycle event tells it. A run that had
// begun and failed is one whose process has died, which libvirt calls a crash in
// the domain's state.
func eventStop(detail int32, ran bool) polyvisor.Stop {
	d := libvirt.DomainEventStoppedDetailType(detail)
	if d == libvirt.DomainEventStoppedFailed && ran {
		d = libvirt.DomainEventStoppedCrashed
	}
	s, ok := eventStops[d]
	if !ok {
		s.reason = polyvisor.StopUnrecognised
	}
	return polyvisor.Stop{Reason: s.reason, Detail: s.detail}
}

// stateOf gives the state of a domain as libvirt tells it. cleared says that the
// crash it tells of was seen and done with.
func stateOf(state libvirt.DomainState, reason int32, cleared bool) polyvisor.State {
	s, ok := states[state]
	if !ok {
		return polyvisor.NoState
	}
	if s == polyvisor.Shutoff && !cleared {
		if last := lastStop(state, reason); last != nil {
			return last.Reason.State()
		}
	}
	return s
}
