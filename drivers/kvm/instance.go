//go:build linux && amd64

package kvm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vmmproc"
)

// instance is a reference to a domain: its identity, and for a transient one
// what will tell of its end.
type instance struct {
	d    *driver
	name string
	uuid store.UUID
	// renamed is the name that Rename has given, if it has.
	renamed atomic.Pointer[string]
	// end is nil as long as the domain has a definition, which remembers how the
	// last run ended.
	end atomic.Pointer[watcher]
}

func (d *driver) instance(name string, u store.UUID) *instance {
	return &instance{d: d, name: name, uuid: u}
}

// activeInstance refers to an active domain without a definition.
func (d *driver) activeInstance(a store.Active) *instance {
	i := d.instance(a.Name, a.UUID)
	i.end.Store(d.watchers.watch(a))
	return i
}

func (i *instance) UUID() uuid.UUID { return uuid.UUID(i.uuid) }

func (i *instance) Name() string {
	if name := i.renamed.Load(); name != nil {
		return *name
	}
	return i.name
}

// view is a domain at one moment.
type view struct {
	state polyvisor.State
	run   *store.Active     // nil if inactive
	def   *store.Definition // nil if transient
	stop  *polyvisor.Stop   // the end of the last run, if inactive, or of a guest that is kept
	// status is the VM process's own word; nil while it is being started.
	status *vmmproc.Status
}

// lookPatience is how long a VM process may take to say how it is, before the
// domain counts as blocked. It answers within a millisecond; the rest is for a
// host under load.
var lookPatience = 5 * time.Second

// errMoving says that the domain was started or stopped while it was looked at.
var errMoving = errors.New("the domain is being started or stopped")

// look finds out how the domain is, and asks the VM process of an active one.
func (i *instance) look(ctx context.Context) (view, error) {
	patience, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		v, err := i.lookOnce(ctx, patience)
		switch {
		case err == nil:
			return v, nil
		case ctx.Err() != nil:
			return view{}, ended(ctx, classify(err))
		case patience.Err() != nil && v.run != nil:
			// Its locks are held, so its process is there, but it does not answer.
			v.state = polyvisor.Blocked
			return v, nil
		case patience.Err() != nil && v.def != nil && errors.Is(err, errMoving):
			// Its process is there, but what it is to be reached by is not.
			pid, err := i.d.store.Lost(ctx, i.uuid)
			if err != nil {
				return view{}, ended(ctx, classify(err))
			}
			if pid != 0 {
				v.state = polyvisor.Blocked
				return v, nil
			}
		case !errors.Is(err, vmmproc.ErrGone) && !errors.Is(err, vmmproc.ErrNotReady) && !errors.Is(err, errMoving):
			return view{}, classify(err)
		}
		// The VM process is about to be there, or about to be gone.
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return view{}, fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

func (i *instance) lookOnce(ctx, patience context.Context) (view, error) {
	def, err := i.d.store.Definition(i.uuid)
	v := view{def: &def}
	if errors.Is(err, store.ErrNotFound) {
		v.def, err = nil, nil
	}
	if err != nil {
		return view{}, err
	}
	run, err := i.d.store.ActiveByUUID(i.uuid)
	switch {
	case err == nil:
		v.run = &run
		v.state = polyvisor.Running
		if !run.Started {
			return v, nil
		}
		return v, v.ask(patience)
	case !errors.Is(err, store.ErrNotFound):
		return view{}, err
	}
	if err := i.clear(ctx); err != nil {
		return view{}, err
	}
	if v.def == nil {
		return view{}, fmt.Errorf("domain %q is gone: %w", i.Name(), polyvisor.ErrNotFound)
	}
	return v, i.lookInactive(&v)
}

// ask completes the view of an active domain.
func (v *view) ask(ctx context.Context) error {
	c, err := vmmproc.Dial(ctx, v.run.Dir)
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := c.Info(ctx)
	if err != nil {
		return err
	}
	v.status = &s
	switch s.State {
	case vmmproc.StatePaused, vmmproc.StateEnded:
		v.state = polyvisor.Paused
	case vmmproc.StateCrashed:
		v.state = polyvisor.Crashed
	}
	if s.Ended != nil {
		stop := stopFrom(*s.Ended)
		v.stop = &stop
	}
	return nil
}

// lookInactive completes the view of a domain that is defined and not active.
func (i *instance) lookInactive(v *view) error {
	rec, err := i.d.store.LastStop(i.uuid)
	switch {
	case err == nil:
		stop := stopOf(rec)
		v.stop, v.state = &stop, stop.Reason.State()
		if rec.Cleared {
			v.state = polyvisor.Shutoff
		}
		return nil
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	// It has never run, unless it runs again by now, which removes the record.
	if alive, err := i.d.store.Alive(i.uuid); err != nil || alive {
		return errors.Join(err, errMoving)
	}
	v.state = polyvisor.Shutoff
	return nil
}

// clear removes what a VM process that was killed has left, which for a defined
// domain also records how it ended.
func (i *instance) clear(ctx context.Context) error {
	if i.d.opts.ReadOnly {
		return nil
	}
	if _, err := os.Lstat(i.d.store.RunDir(i.uuid)); err != nil {
		return nil
	}
	done, err := i.d.store.TryReap(ctx, i.uuid)
	if err == nil && !done {
		err = errMoving
	}
	return err
}

func (i *instance) State(ctx context.Context) (polyvisor.State, error) {
	v, err := i.look(ctx)
	return v.state, err
}

func (i *instance) Info(ctx context.Context) (polyvisor.Info, error) {
	v, err := i.look(ctx)
	if err != nil {
		return polyvisor.Info{}, err
	}
	return v.info()
}

func (v *view) info() (polyvisor.Info, error) {
	info := polyvisor.Info{State: v.state, ID: -1, Persistent: v.def != nil, LastStop: v.stop}
	if v.run != nil {
		info.ID = v.run.ID
	}
	c, err := v.config()
	if err != nil {
		return info, err
	}
	info.Memory, info.MaxMemory, info.VCPUs = c.Memory, max(c.MaxMemory, c.Memory), c.VCPUs
	if s := v.status; s != nil {
		info.Memory, info.VCPUs, info.CPUTime = polyvisor.Bytes(s.Memory), s.VCPUs, s.CPUTime
	}
	return info, nil
}

// Config gives the configuration of the run if there is one, else that of the
// definition.
func (i *instance) Config(ctx context.Context) (*polyvisor.Config, error) {
	v, err := i.look(ctx)
	if err != nil {
		return nil, err
	}
	return v.config()
}

func (v *view) config() (*polyvisor.Config, error) {
	if v.run != nil {
		return parseConfig(v.run.Config)
	}
	return parseConfig(v.def.Config)
}

func parseConfig(text json.RawMessage) (*polyvisor.Config, error) {
	c, err := polyvisor.ParseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("stored definition: %w; define the domain again", err)
	}
	return c, nil
}

// stopOf gives the root package's words for a stop record.
func stopOf(r store.StopRecord) polyvisor.Stop {
	return polyvisor.Stop{Reason: reasonOf(vmmproc.Reason(r.Reason)), Detail: r.Detail, Time: r.Time}
}

func reasonOf(r vmmproc.Reason) polyvisor.StopReason {
	switch r {
	case vmmproc.ReasonShutdown:
		return polyvisor.StopShutdown
	case vmmproc.ReasonReboot:
		return polyvisor.StopReboot
	case vmmproc.ReasonCrash:
		return polyvisor.StopCrash
	case vmmproc.ReasonKilled:
		return polyvisor.StopKilled
	case vmmproc.ReasonStartFailed:
		return polyvisor.StopStartFailed
	case vmmproc.ReasonDied:
		return polyvisor.StopServiceDied
	}
	return polyvisor.StopUnrecognised
}

// Wait follows the domain's run to its end, or tells the end of the last one.
func (i *instance) Wait(ctx context.Context) (polyvisor.Stop, error) {
	for {
		v, err := i.look(ctx)
		end := i.end.Load()
		switch {
		case errors.Is(err, polyvisor.ErrNotFound) && end != nil:
			return end.wait(ctx)
		case err != nil:
			return polyvisor.Stop{}, err
		case v.run == nil && v.stop == nil:
			return polyvisor.Stop{}, fmt.Errorf("%w: the domain has never run; start it first", polyvisor.ErrInvalidState)
		case v.run == nil:
			return *v.stop, nil
		case v.def == nil:
			// Someone else may have undefined it.
			i.end.CompareAndSwap(nil, i.d.watchers.watch(*v.run))
			return i.end.Load().wait(ctx)
		}
		stop, _, err := waitRun(ctx, v.run.Dir, func() {})
		if err == nil {
			return stop, nil
		}
		if !errors.Is(err, vmmproc.ErrGone) && !errors.Is(err, vmmproc.ErrNotReady) {
			return polyvisor.Stop{}, ended(ctx, classify(err))
		}
		// Started by someone else at this moment, or just gone.
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return polyvisor.Stop{}, ctx.Err()
		}
	}
}

// waitRun waits for the end of a run at its VM process, and calls registered when
// that knows of it. reached says whether there was one.
func waitRun(ctx context.Context, dir string, registered func()) (stop polyvisor.Stop, reached bool, err error) {
	c, err := vmmproc.Dial(ctx, dir)
	if err != nil {
		return polyvisor.Stop{}, false, err
	}
	defer c.Close()
	s, err := c.Follow(ctx, registered)
	if err != nil {
		return polyvisor.Stop{}, true, err
	}
	return stopFrom(s), true, nil
}

func stopFrom(s vmmproc.Stop) polyvisor.Stop {
	return polyvisor.Stop{Reason: reasonOf(s.Reason), Detail: s.Detail, Time: s.Time}
}

var (
	_ polyvisor.Instance      = (*instance)(nil)
	_ polyvisor.Suspender     = (*instance)(nil)
	_ polyvisor.Shutdowner    = (*instance)(nil)
	_ polyvisor.Rebooter      = (*instance)(nil)
	_ polyvisor.ConsoleOpener = (*instance)(nil)
)
