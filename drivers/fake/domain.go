package fake

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
)

// domain is one virtual machine. Its fields are under Hypervisor.mu. Configs
// are never changed in place: a change makes a new one, so that a run shares
// its domain's until it differs.
type domain struct {
	h    *Hypervisor
	id   uuid.UUID
	name string
	def  *polyvisor.Config // nil: transient
	run  *run              // nil: inactive
	gone bool

	crashed bool           // inactive, in state Crashed
	ran     bool           // last counts
	last    polyvisor.Stop // the end of the last run
	waiters *waiters       // of the present run; nil if nobody waits
}

// waiters are those who wait for the end of a run.
type waiters struct {
	done chan struct{} // closed at the end, when stop is there
	stop polyvisor.Stop
}

// run is the time from a start to its end.
type run struct {
	d          *domain
	id         int
	config     *polyvisor.Config
	state      polyvisor.State // Running, Blocked, Paused, ShuttingDown or, preserved, Crashed
	ended      *polyvisor.Stop // what was preserved, and why it ended
	fresh      bool            // no guest code has run
	frozen     bool            // while its state is written to a file
	files      *files          // nil if it has none
	guest      *guest          // nil as long as nobody has looked
	cols, rows uint16          // of the console's terminal
	balloon    *uint64         // size asked for while the guest could not answer

	began time.Time     // of the time that runs; zero while it stands
	ran   time.Duration // what ran before
	cpus  []cpuTime     // nil: all online from the start
}

// cpuTime is the time of a processor that came or went while others ran.
type cpuTime struct {
	ran   time.Duration // before it came last
	since time.Duration // running time at which it came; meaningless if offline
}

func (d *domain) stateLocked() polyvisor.State {
	switch {
	case d.run != nil:
		return d.run.state
	case d.crashed:
		return polyvisor.Crashed
	}
	return polyvisor.Shutoff
}

// configLocked is what the domain runs with, or its definition.
func (d *domain) configLocked() *polyvisor.Config {
	if d.run != nil {
		return d.run.config
	}
	return d.def
}

// demandLocked refuses an operation that the state does not allow: it may have
// changed since the root package asked.
func (d *domain) demandLocked(op polyvisor.Op) error {
	s := d.stateLocked()
	want := polyvisor.Transitions[op].From
	if d.run == nil && (op == polyvisor.OpConsole || op == polyvisor.OpCoreDump) && s == polyvisor.Crashed {
		want = activeStates
	} else if s.Allowed(op) {
		if d.run == nil || d.run.ended == nil || endedMay(op) {
			return nil
		}
		return fmt.Errorf("%w: the guest has ended (%s) and is kept for inspection; destroy it", polyvisor.ErrInvalidState, d.run.ended)
	}
	return &polyvisor.StateError{Op: op, State: s, Want: want}
}

var activeStates = []polyvisor.State{polyvisor.Running, polyvisor.Blocked, polyvisor.Paused, polyvisor.ShuttingDown}

// endedMay says what is allowed for a guest that has ended and is preserved.
func endedMay(op polyvisor.Op) bool {
	switch op {
	case polyvisor.OpDestroy, polyvisor.OpUndefine, polyvisor.OpConsole, polyvisor.OpCoreDump:
		return true
	}
	return false
}

// edit changes a copy of the configuration.
func edit(c **polyvisor.Config, change func(*polyvisor.Config)) {
	n := (*c).Clone()
	change(n)
	*c = n
}

// editAllLocked changes both the definition and the run, whichever there is.
func (d *domain) editAllLocked(change func(*polyvisor.Config)) {
	if d.run != nil && d.run.config == d.def {
		edit(&d.def, change)
		d.run.config = d.def
		return
	}
	if d.def != nil {
		edit(&d.def, change)
	}
	if d.run != nil {
		edit(&d.run.config, change)
	}
}

// editLocked changes what an operation on the domain changes: the run if it is
// active, else the definition.
func (d *domain) editLocked(change func(*polyvisor.Config)) {
	if d.run != nil {
		edit(&d.run.config, change)
		return
	}
	edit(&d.def, change)
}

// runningLocked is how long the guest has run.
func (r *run) runningLocked() time.Duration {
	if r.began.IsZero() {
		return r.ran
	}
	return r.ran + time.Since(r.began)
}

// setStateLocked changes the state, and stops or starts the clock.
func (r *run) setStateLocked(s polyvisor.State) {
	r.state = s
	runs := s == polyvisor.Running || s == polyvisor.Blocked || s == polyvisor.ShuttingDown
	switch {
	case runs && r.began.IsZero():
		r.began = time.Now()
	case !runs && !r.began.IsZero():
		r.ran += time.Since(r.began)
		r.began = time.Time{}
	}
}

// vcpuTimeLocked is the CPU time of a processor.
func (r *run) vcpuTimeLocked(n int, running time.Duration) time.Duration {
	online := n < r.config.VCPUs
	if r.cpus == nil {
		if online {
			return running
		}
		return 0
	}
	t := r.cpus[n].ran
	if online {
		t += running - r.cpus[n].since
	}
	return t
}

func (r *run) cpuTimeLocked() time.Duration {
	running := r.runningLocked()
	if r.cpus == nil {
		return running * time.Duration(r.config.VCPUs)
	}
	var sum time.Duration
	for n := range r.cpus {
		sum += r.vcpuTimeLocked(n, running)
	}
	return sum
}

func (d *domain) infoLocked() polyvisor.Info {
	c := d.configLocked()
	i := polyvisor.Info{
		State: d.stateLocked(), ID: -1, Persistent: d.def != nil,
		MaxMemory: c.MaxMemory, Memory: c.Memory, VCPUs: c.VCPUs,
	}
	switch {
	case d.run != nil:
		i.ID, i.CPUTime = d.run.id, d.run.cpuTimeLocked()
	case d.ran:
		i.LastStop = new(d.last)
	}
	return i
}
