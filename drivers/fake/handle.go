package fake

import (
	"fmt"
	"strings"

	"github.com/polyvisor/polyvisor"
)

// Guest is a handle with which a test acts as the guest of an active domain.
// It belongs to one run: afterwards its methods fail with ErrInvalidState.
type Guest struct{ r *run }

// Guest gives the guest of an active domain.
//
// Errors: ErrNotFound, ErrInvalidState.
func (h *Hypervisor) Guest(domain string) (*Guest, error) {
	h.mu.Lock()
	defer h.unlock()
	d := h.byName[domain]
	switch {
	case d == nil:
		return nil, fmt.Errorf("%w: no domain is named %q", polyvisor.ErrNotFound, domain)
	case d.run == nil:
		return nil, fmt.Errorf("%w: domain %q is %s", polyvisor.ErrInvalidState, domain, d.stateLocked())
	}
	return &Guest{d.run}, nil
}

// act does something in the guest.
func (g *Guest) act(f func(*guest)) error {
	h := g.r.d.h
	h.mu.Lock()
	defer h.unlock()
	if g.r.d.run != g.r || g.r.ended != nil {
		return fmt.Errorf("%w: the guest has ended", polyvisor.ErrInvalidState)
	}
	f(g.r.guestLocked())
	return nil
}

// Run has the guest obey commands of its console, parted by semicolons, though
// nobody types them, and gives what they print. ErrInvalidState also if the
// guest cannot run, because it is suspended or stuck.
func (g *Guest) Run(commands string) (output string, err error) {
	stuck := false
	err = g.act(func(gu *guest) {
		if stuck = !g.r.canRunLocked() || gu.stuck || gu.hold; stuck {
			return
		}
		from := gu.out.end()
		for c := range strings.SplitSeq(commands, ";") {
			if g.r.canRunLocked() && !gu.stuck {
				gu.execute(c)
			}
		}
		gu.pumpLocked()
		at := max(from, gu.out.base) - gu.out.base
		output = strings.ReplaceAll(string(gu.out.data[at:]), "\r\n", "\n")
	})
	if err == nil && stuck {
		err = fmt.Errorf("%w: the guest does not run", polyvisor.ErrInvalidState)
	}
	return output, err
}

// Output gives what the console keeps of what the guest printed, also after
// the end.
func (g *Guest) Output() string {
	h := g.r.d.h
	h.mu.Lock()
	defer h.unlock()
	if g.r.guest == nil && g.r.d.run != g.r {
		return ""
	}
	return string(g.r.guestLocked().out.data)
}

// PowerOff powers the guest off, as its own command does.
func (g *Guest) PowerOff() error {
	return g.act(func(gu *guest) { gu.off(buttonOff) })
}

// Reboot resets the guest.
func (g *Guest) Reboot() error {
	return g.act(func(*guest) { g.r.guestEndLocked(polyvisor.StopReboot, "") })
}

// Crash crashes the guest; detail goes into its Stop.
func (g *Guest) Crash(detail string) error {
	return g.act(func(*guest) { g.r.guestEndLocked(polyvisor.StopCrash, detail) })
}

// Hang makes the guest spin: it reads neither its console nor the power button
// any more.
func (g *Guest) Hang() error {
	return g.act(func(gu *guest) { gu.stuck = true })
}

// End ends the run for a reason, as the hypervisor tells it of guests that a
// watchdog found hanging or that their firmware refused to run: for those that
// the guest itself is behind, Config says what follows.
//
// Errors: ErrInvalidConfig for a reason that a run does not end for.
func (g *Guest) End(reason polyvisor.StopReason, detail string) error {
	switch reason {
	case polyvisor.StopShutdown, polyvisor.StopReboot, polyvisor.StopCrash, polyvisor.StopHangup:
		return g.act(func(*guest) { g.r.guestEndLocked(reason, detail) })
	case polyvisor.StopStartFailed:
		return fmt.Errorf("%w: no run ends for the reason %s", polyvisor.ErrInvalidConfig, reason)
	}
	if reason < 0 || int(reason) >= len(polyvisor.StopReasons()) {
		return fmt.Errorf("%w: there is no %s", polyvisor.ErrInvalidConfig, reason)
	}
	return g.act(func(*guest) { g.r.d.endLocked(polyvisor.Stop{Reason: reason, Detail: detail}) })
}

// Kill ends the run as if the process of the virtual machine had died.
func (g *Guest) Kill() error {
	return g.act(func(*guest) {
		g.r.d.endLocked(polyvisor.Stop{Reason: polyvisor.StopServiceDied, Detail: "killed by signal 9"})
	})
}

// stalled are the calls that need the answer of what runs a domain.
var stalled = []operation{
	opSuspend, opResume, opShutdown, opReboot, opConsole, opDialVsock, opListenVsock, opWaitReady, opExec, opSave, opCoreDump, opSetMemory, opSetVCPUs, opPinVCPU,
	opConfigureVCPU, opAttachDevice, opDetachDevice, opUpdateDevice,
}

// Stall stops what runs the domain from answering, until release is called: the
// calls that need its answer wait until their contexts end. What the hypervisor
// itself knows it tells, and it can destroy the domain.
//
// Errors: ErrNotFound.
func (h *Hypervisor) Stall(domain string) (release func(), err error) {
	h.mu.Lock()
	_, there := h.byName[domain]
	h.unlock()
	if !there {
		return nil, fmt.Errorf("%w: no domain is named %q", polyvisor.ErrNotFound, domain)
	}
	var removes []func()
	for _, op := range stalled {
		removes = append(removes, h.faults.add(Fault{Op: operations[op], Domain: domain, Hang: true}))
	}
	return func() {
		for _, remove := range removes {
			remove()
		}
	}, nil
}
