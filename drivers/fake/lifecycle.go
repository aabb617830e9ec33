package fake

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
)

// start runs an inactive domain. half fails it when its files are open.
func (d *domain) start(half error, o polyvisor.StartOptions) error {
	d.h.mu.Lock()
	config, err := d.def, d.startableLocked()
	if err == nil && !hasFiles(config) && half == nil {
		defer d.h.unlock()
		return d.startedLocked(d.runLocked(config, o, nil, nil))
	}
	d.h.unlock()
	if err != nil {
		return err
	}
	// Files are opened without the lock, since a file can be slow.
	f, err := openFiles(config)
	d.h.mu.Lock()
	defer d.h.unlock()
	if e := d.startableLocked(); e != nil {
		f.close()
		return e
	}
	if err == nil {
		err = half
	}
	if err == nil {
		err = d.runLocked(config, o, f, nil)
	}
	if err != nil {
		f.close()
	}
	return d.startedLocked(err)
}

func (d *domain) startableLocked() error {
	if d.gone {
		return fmt.Errorf("%w: domain %q is gone", polyvisor.ErrNotFound, d.name)
	}
	return d.demandLocked(polyvisor.OpStart)
}

// startedLocked notes a start that failed.
func (d *domain) startedLocked(err error) error {
	if err != nil {
		d.crashed, d.ran = false, true
		d.last = polyvisor.Stop{Reason: polyvisor.StopStartFailed, Detail: err.Error(), Time: time.Now()}
	}
	return err
}

// runLocked begins a run, which owns the files if it succeeds. from is what a
// saved run continues with, nil for a fresh start.
func (d *domain) runLocked(config *polyvisor.Config, o polyvisor.StartOptions, f *files, from *savedRun) error {
	if config.Memory == 0 {
		return fmt.Errorf("%w: the domain has no memory; give it some with SetMemory", polyvisor.ErrNoResource)
	}
	if err := d.h.lockImagesLocked(f); err != nil {
		return err
	}
	r := &run{d: d, config: config, fresh: true, files: f}
	if err := r.takeCIDLocked(); err != nil {
		d.h.unlockImagesLocked(f)
		return err
	}
	r.id = d.h.nextIDLocked()
	d.run, d.crashed, d.waiters = r, false, nil
	d.h.byID[r.id] = d
	if from != nil {
		r.continueLocked(from)
	}
	state := polyvisor.Paused
	if !o.Paused {
		state = r.awakeLocked()
	}
	r.setStateLocked(state)
	if r.logged() {
		r.logLocked("started as number %d", r.id)
	}
	d.h.tellLocked(d, polyvisor.Event{Type: polyvisor.EventStarted})
	if f.needGuest() || config.Boot.CommandLine != "" {
		r.guestLocked()
		r.files.readInput(r)
	}
	r.wakeLocked()
	return nil
}

// takeCIDLocked gives the guest its vsock address.
func (r *run) takeCIDLocked() error {
	v := r.config.Vsock
	if v == nil {
		return nil
	}
	h := r.d.h
	cid := v.CID
	if _, taken := h.cids[cid]; taken {
		return fmt.Errorf("%w: vsock CID %d is another domain's", polyvisor.ErrBusy, cid)
	}
	for n := uint32(3); cid == 0; n++ {
		if _, taken := h.cids[n]; !taken {
			cid = n
		}
	}
	h.cids[cid] = struct{}{}
	if cid != v.CID {
		edit(&r.config, func(c *polyvisor.Config) { c.Vsock.CID = cid })
	}
	return nil
}

// destroyLocked pulls the plug, or forgets a crash.
func (d *domain) destroyLocked() {
	switch {
	case d.run == nil:
		d.crashed = false
	case d.run.ended != nil:
		d.endLocked(*d.run.ended)
		d.crashed = false
	default:
		d.endLocked(polyvisor.Stop{Reason: polyvisor.StopKilled})
	}
}

// endLocked ends the run.
func (d *domain) endLocked(stop polyvisor.Stop) {
	r := d.run
	preserved := r.ended != nil
	stop.Time = time.Now()
	if preserved {
		stop.Time = r.ended.Time
	}
	if r.logged() {
		r.logLocked("stopped: %s", stop)
	}
	r.releaseLocked()
	if r.guest != nil {
		r.guest.endLocked()
	}
	delete(d.h.byID, r.id)
	d.run, d.last, d.ran = nil, stop, true
	d.crashed = stop.Reason.State() == polyvisor.Crashed && !preserved
	if d.waiters != nil {
		d.waiters.stop = stop
		close(d.waiters.done)
		d.waiters = nil
	}
	if d.def == nil {
		d.h.forgetLocked(d)
	}
	if len(d.h.subs) > 0 {
		d.h.tellLocked(d, polyvisor.Event{Type: polyvisor.EventStopped, Stop: new(stop)})
	}
}

// releaseLocked gives back what a guest that has ended holds of the host.
func (r *run) releaseLocked() {
	h := r.d.h
	h.unlockImagesLocked(r.files)
	r.files.close()
	r.files = nil
	if r.config.Vsock != nil && r.ended == nil {
		delete(h.cids, r.config.Vsock.CID)
	}
}

// guestEndLocked does what the policy says when the guest ends by itself.
func (r *run) guestEndLocked(reason polyvisor.StopReason, detail string) {
	stop := polyvisor.Stop{Reason: reason, Detail: detail, Time: time.Now()}
	action := r.config.OnPoweroff
	switch reason {
	case polyvisor.StopReboot:
		action = r.config.OnReboot
	case polyvisor.StopCrash, polyvisor.StopHangup:
		action = r.config.OnCrash
	}
	switch action {
	case polyvisor.ActionRestart:
		r.rebootLocked()
	case polyvisor.ActionPreserve:
		r.preserveLocked(stop)
	case polyvisor.ActionRenameRestart:
		r.preserveLocked(stop)
		r.renamedLocked()
	default:
		r.d.endLocked(stop)
	}
}

// rebootLocked starts the guest afresh in place.
func (r *run) rebootLocked() {
	r.setStateLocked(polyvisor.Running)
	r.logLocked("rebooted")
	r.d.h.tellLocked(r.d, polyvisor.Event{Type: polyvisor.EventRebooted})
	r.guestLocked().resetLocked()
}

// preserveLocked keeps a guest that has ended. It lets go of its images, which
// nothing writes to any more.
func (r *run) preserveLocked(stop polyvisor.Stop) {
	r.logLocked("kept for inspection: %s", stop)
	state := polyvisor.Paused
	if stop.Reason.State() == polyvisor.Crashed {
		state = polyvisor.Crashed
	}
	r.setStateLocked(state)
	r.releaseLocked()
	r.ended = &stop
	if r.guest != nil {
		r.guest.stopTimersLocked()
		r.guest.sockets.closeAllLocked()
	}
	r.d.h.tellLocked(r.d, polyvisor.Event{Type: polyvisor.EventSuspended, Stop: &stop})
}

// renamedLocked starts a guest afresh beside the one that was preserved.
func (r *run) renamedLocked() {
	h := r.d.h
	config := r.config.Clone()
	config.UUID = uuid.New()
	if config.Vsock != nil {
		config.Vsock.CID = 0
	}
	for n := 1; ; n++ {
		config.Name = fmt.Sprintf("%s-%d", r.d.name, n)
		if _, taken := h.byName[config.Name]; !taken {
			break
		}
	}
	f, err := openFiles(config)
	if err == nil {
		// As after a reboot, the guest takes a while: it may crash at once again.
		if _, err = h.createLocked(config, polyvisor.StartOptions{}, f, &savedRun{hold: true}, nil); err != nil {
			f.close()
		}
	}
	if err != nil {
		h.log.Warn("starting afresh under a new name", "domain", r.d.name, "new", config.Name, "error", err)
	}
}

func (d *domain) undefineLocked() {
	if d.run != nil {
		d.def = nil
	} else {
		d.h.forgetLocked(d)
	}
	d.h.tellLocked(d, polyvisor.Event{Type: polyvisor.EventUndefined})
}
