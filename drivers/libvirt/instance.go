package libvirt

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/domainxml"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/classed"
)

// instance is a reference to a domain. libvirt finds a domain by its UUID; the name
// in dom is that of the lookup.
type instance struct {
	d   *driver
	dom libvirt.Domain
	// renamed is the name that Rename has given, if it has.
	renamed atomic.Pointer[string]
	rec     atomic.Pointer[record]
}

// instance refers to a domain. That of an active one has its record from the start:
// if it is transient, nothing else will tell of its end.
func (d *driver) instance(dom libvirt.Domain) *instance {
	i := &instance{d: d, dom: dom}
	if dom.ID > 0 {
		i.record().begun()
	}
	return i
}

// begun notes that the domain was seen active.
func (r *record) begun() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ran = true
}

// record gives what is known of the domain.
func (i *instance) record() *record {
	if rec := i.rec.Load(); rec != nil {
		return rec
	}
	i.rec.CompareAndSwap(nil, i.d.records.of(i.dom.UUID))
	return i.rec.Load()
}

func (i *instance) UUID() uuid.UUID { return uuid.UUID(i.dom.UUID) }

func (i *instance) Name() string {
	if name := i.renamed.Load(); name != nil {
		return *name
	}
	return i.dom.Name
}

// State asks the hypervisor.
func (i *instance) State(ctx context.Context) (polyvisor.State, error) {
	s, err := i.d.link.session()
	if err != nil {
		return 0, err
	}
	state, reason, err := s.State(ctx, &i.dom)
	if err != nil {
		return 0, s.failed(err)
	}
	return i.stateOf(state, reason), nil
}

func (i *instance) stateOf(state libvirt.DomainState, reason int32) polyvisor.State {
	cleared := false
	if state == libvirt.DomainShutoff && libvirt.DomainShutoffReason(reason) == libvirt.DomainShutoffCrashed {
		cleared = i.record().isCleared()
	}
	return stateOf(state, reason, cleared)
}

// Info tells the figures of the domain.
func (i *instance) Info(ctx context.Context) (polyvisor.Info, error) {
	s, err := i.d.link.session()
	if err != nil {
		return polyvisor.Info{}, err
	}
	in, err := s.Info(ctx, &i.dom)
	if err != nil {
		return polyvisor.Info{}, s.failed(err)
	}
	info := polyvisor.Info{
		ID: -1, MaxMemory: polyvisor.Bytes(in.MaxMem) * polyvisor.KiB, Memory: polyvisor.Bytes(in.Memory) * polyvisor.KiB,
		VCPUs: int(in.NrVirtCPU),
	}
	state, reason := libvirt.DomainState(in.State), int32(0)
	if state == libvirt.DomainShutoff || state == libvirt.DomainCrashed {
		if state, reason, err = s.State(ctx, &i.dom); err != nil {
			return polyvisor.Info{}, s.failed(err)
		}
	}
	info.State = i.stateOf(state, reason)
	id, persistent, err := i.figures(ctx, s)
	if err != nil {
		return polyvisor.Info{}, s.failed(err)
	}
	info.Persistent = persistent
	if active(state) {
		info.ID = id
		info.CPUTime = time.Duration(in.CPUTime)
	}
	if !info.State.Active() {
		info.LastStop = lastStop(state, reason)
	}
	return info, nil
}

// active says whether libvirt counts a domain in the state as active.
func active(state libvirt.DomainState) bool {
	return state != libvirt.DomainShutoff && state != libvirt.DomainNostate
}

// figures tells ID and persistence. They change with events only, so that they are
// asked for once.
func (i *instance) figures(ctx context.Context, s *session) (id int, persistent bool, err error) {
	rec := i.record()
	if id, persistent, known := rec.figures(); known && i.d.hub.listens {
		return id, persistent, nil
	}
	before := i.d.records.count()
	dom, err := s.LookupByUUID(ctx, i.dom.UUID)
	if err != nil {
		return 0, false, err
	}
	if persistent, err = s.IsPersistent(ctx, &i.dom); err != nil {
		return 0, false, err
	}
	id = int(dom.ID)
	if id < 1 {
		id = -1
	}
	i.d.records.learn(rec, before, id, persistent)
	return id, persistent, nil
}

// Config gives what of the definition a Config can say: of an active domain, of the
// run. The rest is in its XML.
func (i *instance) Config(ctx context.Context) (*polyvisor.Config, error) {
	s, err := i.d.link.session()
	if err != nil {
		return nil, err
	}
	c, _, err := i.read(ctx, s, 0)
	if err != nil {
		return nil, s.failed(err)
	}
	if i.d.caps.Has(polyvisor.FeatureAutostart) {
		if c.Autostart, err = s.Autostart(ctx, &i.dom); err != nil {
			return nil, s.failed(err)
		}
	}
	memory := c.Memory
	c = c.WithDefaults()
	c.Memory = memory
	return c, nil
}

// read gives the domain's Config, as far as it goes, and its XML.
func (i *instance) read(ctx context.Context, s *session, flags libvirt.DomainXMLFlags) (*polyvisor.Config, string, error) {
	xml, err := s.XML(ctx, &i.dom, flags)
	if err != nil {
		return nil, "", err
	}
	c, leftOut, err := domainxml.ParseLoose(xml)
	if err != nil {
		return nil, "", fmt.Errorf("the daemon's XML of the domain: %w", err)
	}
	if len(leftOut) > 0 {
		i.d.log.Debug("a Config cannot say all of the domain", "domain", i.Name(), "left out", leftOut)
	}
	return c, xml, nil
}

// stateTrouble classes what the hypervisor in memory tells of an operation that is not
// legal in a domain's state as an internal error of its own.
func stateTrouble(err error) error {
	if from(err) == fromTest {
		return classed.As(polyvisor.ErrInvalidState, err)
	}
	return err
}

// Start runs an inactive domain.
func (i *instance) Start(ctx context.Context, o polyvisor.StartOptions) error {
	s, err := i.d.link.session()
	if err != nil {
		return err
	}
	end := beginStart(i.dom.UUID)
	err = s.settle(ctx, nil, func(ctx context.Context) error {
		_, err := s.Start(ctx, &i.dom, startFlags(o))
		switch {
		case number(err) == libvirt.ErrNoSupport && !o.Paused:
			err = s.Create(ctx, &i.dom)
		case number(err) == libvirt.ErrInvalidArg && o.Paused && i.d.host.noGuests():
			if _, err = s.Start(ctx, &i.dom, 0); err == nil {
				err = s.Suspend(ctx, &i.dom)
			}
		}
		return stateTrouble(err)
	})
	destroyed := end()
	switch {
	case err == nil:
		i.record().begun()
		return nil
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		i.unstart(ctx, s)
		return err
	}
	err = i.diagnose(ctx, s, s.failed(err))
	if destroyed && polyvisor.CodeOf(err) == polyvisor.CodeUnknown {
		err = classed.As(polyvisor.ErrInvalidState, fmt.Errorf("the domain was destroyed meanwhile: %w", err))
	}
	return err
}

// unstart undoes a start that was given up and may still be under way, which is
// tried for a short while.
func (i *instance) unstart(ctx context.Context, s *session) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settlePatience)
	defer cancel()
	for {
		err := s.Destroy(ctx, &i.dom)
		if err == nil || number(err) != libvirt.ErrOperationInvalid {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Destroy stops the domain at once.
func (i *instance) Destroy(ctx context.Context) error {
	s, err := i.d.link.session()
	if err != nil {
		return err
	}
	noteDestroy(i.dom.UUID)
	err = s.settle(ctx, nil, func(ctx context.Context) error { return s.Destroy(ctx, &i.dom) })
	noteDestroy(i.dom.UUID)
	if number(err) == libvirt.ErrOperationInvalid {
		// The root package lets a crashed domain of which nothing is kept be destroyed.
		state, reason, serr := s.State(ctx, &i.dom)
		if serr == nil && stateOf(state, reason, i.record().isCleared()) == polyvisor.Crashed && !active(state) {
			i.record().clear()
			return nil
		}
	}
	return s.failed(err)
}

// Undefine removes the definition.
func (i *instance) Undefine(ctx context.Context) error {
	return i.change(ctx, func(ctx context.Context, s *session) error {
		switch persistent, err := s.IsPersistent(ctx, &i.dom); {
		case err != nil:
			return err
		case !persistent:
			return fmt.Errorf("%w: the domain is transient", polyvisor.ErrInvalidState)
		}
		err := s.Undefine(ctx, &i.dom, 0)
		if number(err) == libvirt.ErrNoSupport {
			err = s.UndefinePlain(ctx, &i.dom)
		}
		return err
	})
}

// change makes calls that change the domain.
func (i *instance) change(ctx context.Context, calls func(ctx context.Context, s *session) error) error {
	s, err := i.d.link.session()
	if err != nil {
		return err
	}
	err = s.settle(ctx, nil, func(ctx context.Context) error { return calls(ctx, s) })
	if monitorGone(err) {
		return classed.As(polyvisor.ErrInvalidState, err) // the run is over; there may be another by now
	}
	return s.failed(err)
}

// pollWithoutEvents is how often a domain is looked at whose hypervisor tells no
// events.
const pollWithoutEvents = 200 * time.Millisecond

// Wait returns when the domain is inactive.
func (i *instance) Wait(ctx context.Context) (polyvisor.Stop, error) {
	rec := i.record()
	for {
		changed := rec.watch()
		s, err := i.d.link.session()
		if err != nil {
			return polyvisor.Stop{}, err
		}
		state, reason, err := s.State(ctx, &i.dom)
		switch {
		case number(err) == libvirt.ErrNoDomain:
			return i.gone(ctx, s.failed(err))
		case err != nil:
			return polyvisor.Stop{}, s.failed(err)
		case !active(state):
			if last := lastStop(state, reason); last != nil {
				return *last, nil
			}
			if stop, _ := rec.ended(); stop != nil {
				return *stop, nil
			}
			return polyvisor.Stop{}, fmt.Errorf("%w: the domain has not run since its daemon was started", polyvisor.ErrInvalidState)
		}
		rec.begun()
		var poll <-chan time.Time
		if !i.d.hub.listens {
			poll = time.After(pollWithoutEvents)
		}
		select {
		case <-changed:
		case <-poll:
		case <-s.done():
			return polyvisor.Stop{}, lost(s.Client.Err())
		case <-ctx.Done():
			return polyvisor.Stop{}, ctx.Err()
		}
	}
}

// endPatience is how long what must follow the end of a run is waited for.
const endPatience = 2 * time.Second

// gone tells how a domain ended that is not there any more. A call that was under way
// when it ended may find it gone before the event of its end has come.
func (i *instance) gone(ctx context.Context, err error) (polyvisor.Stop, error) {
	rec := i.record()
	timer := time.NewTimer(endPatience)
	defer timer.Stop()
	for {
		changed := rec.watch()
		stop, ran := rec.ended()
		switch {
		case stop != nil:
			return *stop, nil
		case !ran:
			return polyvisor.Stop{}, err
		}
		unknown := polyvisor.Stop{Reason: polyvisor.StopUnknown, Detail: "the domain is gone, and its end was not seen"}
		if !i.d.hub.listens {
			return unknown, nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return unknown, nil
		case <-ctx.Done():
			return polyvisor.Stop{}, ctx.Err()
		}
	}
}
