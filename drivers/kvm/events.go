//go:build linux && amd64

package kvm

import (
	"context"
	"errors"
	"math"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vmmproc"
)

// eventHub gives what is in the store's journal to the subscribers of a
// connection. Who does something to a domain, in whichever process, writes it
// there in the order in which it happens; only the death of a VM process has to be
// noticed, by following each run. There is a hub while there are subscribers.
type eventHub struct {
	d       *driver
	journal *store.Journal
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	mu   sync.Mutex // guards the following, and calls of the sinks
	subs []*subscriber
	runs map[store.UUID]*runState
}

// subscriber is a sink for what comes behind a place in the journal.
type subscriber struct {
	sink func(polyvisor.Event)
	from int64
}

// hubs is the hub of a connection.
type hubs struct {
	mu  sync.Mutex
	hub *eventHub // nil without subscribers
}

// runState is what is known of a run that has started and not stopped.
type runState struct {
	token  string
	paused bool
	told   bool // paused is from the journal
	// crashed says that the guest has crashed and is kept.
	crashed bool
	// asked is closed when its VM process has said whether it is paused, or
	// cannot.
	asked chan struct{}
}

// Subscribe begins to tell events.
func (d *driver) Subscribe(ctx context.Context, sink func(polyvisor.Event)) (func(), error) {
	d.hubs.mu.Lock()
	defer d.hubs.mu.Unlock()
	h := d.hubs.hub
	if h == nil {
		var err error
		if h, err = d.newHub(ctx); err != nil {
			return nil, ended(ctx, classify(err))
		}
		d.hubs.hub = h
	}
	from, err := h.journal.Size()
	if err != nil {
		d.dropHubLocked()
		return nil, classify(err)
	}
	sub := &subscriber{sink, from}
	h.mu.Lock()
	h.subs = append(h.subs, sub)
	h.mu.Unlock()
	return func() { d.unsubscribe(h, sub) }, nil
}

func (d *driver) unsubscribe(h *eventHub, sub *subscriber) {
	d.hubs.mu.Lock()
	defer d.hubs.mu.Unlock()
	h.mu.Lock()
	h.subs = slices.DeleteFunc(h.subs, func(s *subscriber) bool { return s == sub })
	h.mu.Unlock()
	d.dropHubLocked()
}

// dropHubLocked ends the hub if it has no subscribers.
func (d *driver) dropHubLocked() {
	h := d.hubs.hub
	if h == nil {
		return
	}
	h.mu.Lock()
	none := len(h.subs) == 0
	h.mu.Unlock()
	if none {
		h.close()
		d.hubs.hub = nil
	}
}

func (d *driver) newHub(ctx context.Context) (*eventHub, error) {
	j, err := d.store.OpenJournal()
	if err != nil {
		return nil, err
	}
	h := &eventHub{d: d, journal: j, runs: make(map[store.UUID]*runState)}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	if err := h.begin(ctx); err != nil {
		h.close()
		return nil, err
	}
	h.wg.Go(h.read)
	return h, nil
}

func (s *eventHub) close() {
	s.cancel()
	_ = s.journal.Close()
	s.wg.Wait()
}

// begin looks at what runs already. A VM process that does not answer counts as
// running.
func (s *eventHub) begin(ctx context.Context) error {
	patience, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	for _, r := range s.followActive() {
		select {
		case <-r.asked:
		case <-patience.Done():
		}
	}
	return ctx.Err()
}

// followActive follows the runs that are not followed yet.
func (s *eventHub) followActive() []*runState {
	active, err := s.d.store.Active()
	s.d.warnDamaged(err)
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*runState
	for _, a := range active {
		if r := s.runs[a.UUID]; a.Started && (r == nil || r.token != a.Token) {
			list = append(list, s.followLocked(a))
		}
	}
	return list
}

func (s *eventHub) followLocked(a store.Active) *runState {
	r := &runState{token: a.Token, asked: make(chan struct{})}
	s.runs[a.UUID] = r
	s.wg.Go(func() { s.follow(a, r) })
	return r
}

// read gives the journal to the sink until the subscription is closed.
func (s *eventHub) read() {
	for {
		events, err := s.journal.Next()
		if err != nil {
			if s.ctx.Err() == nil {
				s.d.log.Error("the journal of events cannot be read any more", "error", err)
				s.gap(time.Now(), math.MaxInt64)
			}
			return
		}
		for _, e := range events {
			if e.Type == store.EventGap {
				s.followActive()
				s.gap(e.Time, e.End)
				continue
			}
			s.tell(e)
		}
	}
}

// give calls the sinks. s.mu is held.
func (s *eventHub) give(e polyvisor.Event, end int64) {
	for _, sub := range s.subs {
		if end > sub.from {
			sub.sink(e)
		}
	}
}

func (s *eventHub) gap(t time.Time, end int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.give(polyvisor.Event{Type: polyvisor.EventGap, Time: t}, end)
}

// tell gives one event of the journal to the sink.
func (s *eventHub) tell(e store.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return
	}
	r := s.runs[e.UUID]
	known := r != nil && r.token == e.Run
	switch {
	case e.Run == "": // about the definition
	case e.Type == store.EventStopped:
		if known {
			delete(s.runs, e.UUID)
		} else if r == nil && s.d.opts.ReadOnly {
			return // tellDeath was quicker
		}
	default:
		if !known {
			r = s.followLocked(store.Active{UUID: e.UUID, Name: e.Name, Token: e.Run, Dir: s.d.store.RunDir(e.UUID)})
		}
		if e.Type != store.EventDeviceError { // which does not say whether it is paused
			r.paused, r.told = e.Paused, true
		}
	}
	out := polyvisor.Event{Type: polyvisor.EventType(e.Type), Time: e.Time, Name: e.Name, UUID: uuid.UUID(e.UUID), Device: e.Device, Detail: e.Detail}
	switch {
	case e.Type == store.EventStopped:
		stop := polyvisor.Stop{Time: e.Time}
		if e.Stop != nil {
			stop = stopOf(*e.Stop)
		}
		out.Stop, out.State = &stop, stop.Reason.State()
		if e.Stop != nil && e.Stop.Cleared {
			out.State = polyvisor.Shutoff // it was kept, and is known
		}
	case e.Type == store.EventPreserved && e.Stop != nil:
		stop := stopOf(*e.Stop)
		out.Type, out.Stop, out.State = polyvisor.EventSuspended, &stop, polyvisor.Paused
		if r.crashed = stop.Reason.State() == polyvisor.Crashed; r.crashed {
			out.State = polyvisor.Crashed
		}
	case r != nil && r.crashed:
		out.State = polyvisor.Crashed
	case r != nil && r.paused:
		out.State = polyvisor.Paused
	case r != nil:
		out.State = polyvisor.Running
	default:
		out.State = inactiveState(e)
	}
	s.give(out, e.End)
}

// inactiveState is the state of a domain that does not run, which its last stop
// decides.
func inactiveState(e store.Event) polyvisor.State {
	if e.Stop == nil || e.Stop.Cleared {
		return polyvisor.Shutoff
	}
	return stopOf(*e.Stop).Reason.State()
}

// follow notices the death of a VM process, which cannot write it down itself.
func (s *eventHub) follow(a store.Active, r *runState) {
	ended, err := s.wait(a, r)
	if ended || s.ctx.Err() != nil {
		return // it wrote it down
	}
	if !errors.Is(err, vmmproc.ErrGone) {
		s.d.log.Debug("following a run by its lock", "domain", a.Name, "error", err)
	}
	for wait := time.Millisecond; ; wait = min(2*wait, time.Second/2) {
		select {
		case <-time.After(wait):
		case <-s.ctx.Done():
			return
		}
		switch alive, err := s.d.store.Alive(a.UUID); {
		case err != nil:
			s.d.log.Warn("following a run", "domain", a.Name, "error", err)
			return
		case alive:
			now, err := s.d.store.ActiveByUUID(a.UUID)
			if err == nil && now.Token != a.Token {
				return // whoever started it again has cleared away
			}
		case s.d.opts.ReadOnly:
			s.tellDeath(a)
			return
		default:
			if done, err := s.d.store.TryReap(s.ctx, a.UUID); done || err != nil {
				return
			}
		}
	}
}

// wait waits for the end of a run at its VM process. It says false if the process
// cannot tell.
func (s *eventHub) wait(a store.Active, r *runState) (bool, error) {
	asked := sync.OnceFunc(func() { close(r.asked) })
	defer asked()
	c, err := vmmproc.Dial(s.ctx, a.Dir)
	if err != nil {
		return false, err
	}
	defer c.Close()
	status, err := c.Info(s.ctx)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	if !r.told {
		r.paused, r.crashed = status.State != vmmproc.StateRunning, status.State == vmmproc.StateCrashed
	}
	s.mu.Unlock()
	asked()
	_, err = c.Wait(s.ctx)
	return err == nil, err
}

// tellDeath is for read-only connections, which may not clear away, so that there
// may be nobody to write it down.
func (s *eventHub) tellDeath(a store.Active) {
	if _, err := os.Lstat(s.d.store.RunDir(a.UUID)); err != nil {
		return // someone has cleared away and written it down
	}
	rec, err := s.d.store.LastStop(a.UUID)
	if err != nil {
		return
	}
	rec.Time = time.Now()
	s.tell(store.Event{Type: store.EventStopped, Time: rec.Time, Name: a.Name, UUID: a.UUID, Run: a.Token, Stop: &rec, End: math.MaxInt64})
}

var _ polyvisor.EventSource = (*driver)(nil)
