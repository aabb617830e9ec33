package libvirt

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/domainxml"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/remote"
)

// maxQueued is how many events wait to be told before the rest counts as a gap.
const maxQueued = 4096

// hub gives the events of a connection to its subscribers. The reader of the
// connection only queues them: telling of a device needs a question back.
type hub struct {
	d *driver
	// listens says that the daemon tells of the lives of domains. It is set before
	// anything else is called.
	listens bool

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	wake   chan struct{}

	// subscribing is held by who registers for more events, so that a second subscriber
	// does not return before they come.
	subscribing sync.Mutex

	mu     sync.Mutex // guards the following
	wanted bool       // someone has subscribed: all kinds are registered
	queue  []item
	lost   uint64 // events that did not fit into the queue
	states map[libvirt.UUID]polyvisor.State
	// rebooted is when the reboot of an active domain was told last.
	rebooted map[libvirt.UUID]time.Time
	subs     []*subscriber

	// telling is held while the sinks are called.
	telling sync.Mutex
}

// item is an entry of the queue: an event, or a subscriber that begins there.
type item struct {
	event polyvisor.Event
	// alias is the hypervisor's name of the event's device.
	alias string
	begin *subscriber
}

// resetPair is within what time two resets are one reboot: no guest boots as quickly.
const resetPair = time.Second

type subscriber struct {
	sink  func(polyvisor.Event)
	ended bool // guarded by hub.telling
}

func newHub(d *driver) *hub {
	h := &hub{d: d, wake: make(chan struct{}, 1)}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.wg.Go(h.run)
	return h
}

func (h *hub) close() {
	h.cancel()
	h.wg.Wait()
}

// listen registers for the events that are needed on a new session: for what Wait
// needs always, for the rest if someone has subscribed.
func (h *hub) listen(ctx context.Context, s *session) error {
	if _, err := s.Register(ctx, libvirt.DomainEventIDLifecycle); err != nil {
		return err
	}
	h.mu.Lock()
	wanted := h.wanted
	h.mu.Unlock()
	if !wanted {
		return nil
	}
	return h.listenToAll(ctx, s)
}

// listenToAll registers for the further kinds of events, and asks for the states
// that the events to come change. A kind that the daemon does not know is left out.
func (h *hub) listenToAll(ctx context.Context, s *session) error {
	for _, id := range remote.Events() {
		if id == libvirt.DomainEventIDLifecycle {
			continue
		}
		if _, err := s.Register(ctx, id); err != nil && number(err) == 0 {
			return err
		}
	}
	states := make(map[libvirt.UUID]polyvisor.State)
	for _, q := range []struct {
		flags libvirt.ConnectListAllDomainsFlags
		state polyvisor.State
	}{
		{libvirt.ConnectListDomainsActive, polyvisor.Running}, {libvirt.ConnectListDomainsPaused, polyvisor.Paused},
	} {
		list, err := s.List(ctx, q.flags)
		if err != nil {
			return err
		}
		for _, dom := range list {
			states[dom.UUID] = q.state
		}
	}
	h.mu.Lock()
	h.states = states
	h.mu.Unlock()
	return nil
}

// Subscribe begins to tell events.
func (d *driver) Subscribe(ctx context.Context, sink func(polyvisor.Event)) (func(), error) {
	h := d.hub
	s, err := d.link.session()
	if err != nil {
		return nil, err
	}
	h.subscribing.Lock()
	defer h.subscribing.Unlock()
	h.mu.Lock()
	wanted := h.wanted
	h.wanted = true
	h.mu.Unlock()
	if !wanted {
		err = h.listenToAll(ctx, s)
	} else {
		// The events of what was done before are ahead of this reply.
		_, err = s.LibVersion(ctx)
	}
	if err != nil {
		if !wanted {
			h.mu.Lock()
			h.wanted = false
			h.mu.Unlock()
		}
		return nil, s.failed(err)
	}
	sub := &subscriber{sink: sink}
	h.push(item{begin: sub})
	return func() {
		h.telling.Lock()
		defer h.telling.Unlock()
		sub.ended = true
		h.mu.Lock()
		defer h.mu.Unlock()
		h.subs = slices.DeleteFunc(h.subs, func(s *subscriber) bool { return s == sub })
	}, nil
}

// receive takes a message from the reader of the connection.
func (h *hub) receive(program, proc uint32, payload []byte) {
	if program != remote.Program {
		return
	}
	e, ok, err := remote.ReadEvent(proc, payload)
	if err != nil {
		h.d.log.Warn("an event of libvirt cannot be read", "procedure", proc, "error", err)
		return
	}
	if !ok {
		return
	}
	ran := false
	if e.ID == libvirt.DomainEventIDLifecycle {
		ran = h.d.records.note(&e.Domain, e.Type, e.Detail)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.wanted {
		return
	}
	out, alias, tell := h.translate(&e, ran)
	if !tell {
		return
	}
	out.Time, out.Name, out.UUID = time.Now(), e.Domain.Name, uuid.UUID(e.Domain.UUID)
	h.pushLocked(item{event: out, alias: alias})
}

// translate says what a message means, and keeps the states. h.mu is held.
func (h *hub) translate(e *remote.Event, ran bool) (out polyvisor.Event, alias string, tell bool) {
	id := e.Domain.UUID
	if h.states == nil {
		h.states = make(map[libvirt.UUID]polyvisor.State)
	}
	was, activeBefore := h.states[id]
	if !activeBefore {
		was = polyvisor.Shutoff
	}
	out.State = was
	switch e.ID {
	case libvirt.DomainEventIDReboot:
		// A PC's firmware answers a soft reset with a hard one, and QEMU tells of both.
		last, now := h.rebooted[id], time.Now()
		if !activeBefore || now.Sub(last) < resetPair {
			return out, "", false
		}
		if h.rebooted == nil {
			h.rebooted = make(map[libvirt.UUID]time.Time)
		}
		h.rebooted[id] = now
		out.Type = polyvisor.EventRebooted
	case libvirt.DomainEventIDDeviceAdded:
		out.Type, alias = polyvisor.EventDeviceAdded, e.Alias
	case libvirt.DomainEventIDDeviceRemoved:
		out.Type, alias = polyvisor.EventDeviceRemoved, e.Alias
	case libvirt.DomainEventIDIoErrorReason:
		out.Type, out.Detail, alias = polyvisor.EventDeviceError, ioError(e), e.Alias
	case libvirt.DomainEventIDBalloonChange:
		out.Type = polyvisor.EventMemory
		return out, "", !h.d.records.of(id).ballooned(e.Actual)
	case libvirt.DomainEventIDMetadataChange:
		out.Type = polyvisor.EventLabels
		if e.Metadata == libvirt.DomainMetadataElement && e.URI == domainxml.Namespace {
			return out, "", !h.d.records.of(id).silenced()
		}
		return out, "", e.Metadata == libvirt.DomainMetadataTitle
	case libvirt.DomainEventIDLifecycle:
		return h.lifecycle(e, out, ran, activeBefore)
	default:
		return out, "", false
	}
	return out, alias, true
}

// ioError says for people what a disk's error was.
func ioError(e *remote.Event) string {
	reason := "I/O error"
	switch e.Reason {
	case "":
	case "enospc":
		reason = "no space left on device"
	default:
		reason += " (" + e.Reason + ")"
	}
	text := fmt.Sprintf("%s: %s", e.Source, reason)
	if e.Action == libvirt.DomainEventIoErrorPause {
		text += "; the hypervisor has suspended the domain: mend the cause and resume it"
	}
	return text
}

// lifecycle says what a lifecycle event means. The details of some are no change of
// state: a shutdown that has begun, a crash that is told again as a stop.
func (h *hub) lifecycle(e *remote.Event, out polyvisor.Event, ran, activeBefore bool) (_ polyvisor.Event, alias string, tell bool) {
	id := e.Domain.UUID
	set := func(t polyvisor.EventType, s polyvisor.State) {
		out.Type, out.State = t, s
		h.states[id] = s
	}
	switch e.Type {
	case libvirt.DomainEventDefined:
		out.Type = polyvisor.EventDefined
		if libvirt.DomainEventDefinedDetailType(e.Detail) == libvirt.DomainEventDefinedRenamed {
			out.Type = polyvisor.EventRenamed
		}
	case libvirt.DomainEventUndefined:
		if libvirt.DomainEventUndefinedDetailType(e.Detail) == libvirt.DomainEventUndefinedRenamed {
			return out, "", false // the definition under the new name is told
		}
		out.Type = polyvisor.EventUndefined
	case libvirt.DomainEventStarted:
		set(polyvisor.EventStarted, polyvisor.Running)
	case libvirt.DomainEventSuspended, libvirt.DomainEventPmsuspended:
		if !activeBefore {
			return out, "", false // as below
		}
		set(polyvisor.EventSuspended, polyvisor.Paused)
	case libvirt.DomainEventResumed:
		if !activeBefore {
			return out, "", false // the vCPUs of a start, which is told next
		}
		set(polyvisor.EventResumed, polyvisor.Running)
	case libvirt.DomainEventStopped:
		stop := eventStop(e.Detail, ran || activeBefore)
		out.Type, out.Stop, out.State = polyvisor.EventStopped, &stop, stop.Reason.State()
		delete(h.states, id)
		delete(h.rebooted, id)
	default:
		return out, "", false
	}
	return out, "", true
}

// tell gives the subscribers an event that libvirt has none for: a change that this
// connection has made.
func (h *hub) tell(i *instance, t polyvisor.EventType, device string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.wanted {
		return
	}
	state, ok := h.states[i.dom.UUID]
	if !ok {
		state = polyvisor.Shutoff
	}
	h.pushLocked(item{event: polyvisor.Event{Type: t, Time: time.Now(), Name: i.Name(), UUID: i.UUID(), State: state, Device: device}})
}

// resync tells that the connection was lost and is back.
func (h *hub) resync() {
	h.push(item{event: polyvisor.Event{Type: polyvisor.EventResync, Time: time.Now()}})
}

func (h *hub) push(it item) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pushLocked(it)
}

func (h *hub) pushLocked(it item) {
	if len(h.queue) >= maxQueued && it.begin == nil {
		h.lost++
		return
	}
	if h.lost > 0 {
		h.queue = append(h.queue, item{event: polyvisor.Event{Type: polyvisor.EventGap, Time: time.Now(), Lost: h.lost}})
		h.lost = 0
	}
	h.queue = append(h.queue, it)
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// run tells what is in the queue.
func (h *hub) run() {
	names := newDeviceNames(h.d.log)
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-h.wake:
		}
		h.mu.Lock()
		list := h.queue
		h.queue = nil
		h.mu.Unlock()
		for _, it := range list {
			if it.begin != nil {
				h.mu.Lock()
				h.subs = append(h.subs, it.begin)
				h.mu.Unlock()
				continue
			}
			if it.alias != "" {
				it.event.Device = names.find(h.ctx, h.d, it.event, it.alias)
			}
			if it.event.Type == polyvisor.EventStopped {
				names.forget(it.event.UUID)
			}
			h.give(it.event)
		}
		h.mu.Lock()
		if h.lost > 0 && len(h.queue) == 0 {
			h.queue = append(h.queue, item{event: polyvisor.Event{Type: polyvisor.EventGap, Time: time.Now(), Lost: h.lost}})
			h.lost = 0
			select {
			case h.wake <- struct{}{}:
			default:
			}
		}
		h.mu.Unlock()
	}
}

func (h *hub) give(e polyvisor.Event) {
	h.telling.Lock()
	defer h.telling.Unlock()
	h.mu.Lock()
	subs := slices.Clone(h.subs)
	h.mu.Unlock()
	for _, sub := range subs {
		if !sub.ended {
			sub.sink(e)
		}
	}
}

// deviceNames find the DeviceID for a hypervisor's name of a device. Those of a
// device that is gone are known from when it came, or from a look at another one of
// the domain.
type deviceNames struct {
	log  *slog.Logger
	list map[uuid.UUID]map[string]string
}

func newDeviceNames(log *slog.Logger) *deviceNames {
	return &deviceNames{log, make(map[uuid.UUID]map[string]string)}
}

// askPatience bounds the question for a domain's devices.
const askPatience = 5 * time.Second

func (n *deviceNames) find(ctx context.Context, d *driver, e polyvisor.Event, alias string) string {
	known := n.list[e.UUID]
	if id := known[alias]; id != "" && e.Type == polyvisor.EventDeviceRemoved {
		delete(known, alias)
		return id
	}
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	fresh, err := d.aliases(ctx, e.UUID)
	if err != nil {
		n.log.Debug("asking for the devices of a domain", "domain", e.Name, "error", err)
	}
	for a, id := range fresh {
		if known == nil {
			known = make(map[string]string)
			n.list[e.UUID] = known
		}
		known[a] = id
	}
	if id := known[alias]; id != "" {
		return id
	}
	return aliasID(alias)
}

func (n *deviceNames) forget(id uuid.UUID) { delete(n.list, id) }

// aliases asks for the hypervisor's names of a domain's devices.
func (d *driver) aliases(ctx context.Context, id uuid.UUID) (map[string]string, error) {
	s, err := d.link.session()
	if err != nil {
		return nil, err
	}
	xml, err := s.XML(ctx, &libvirt.Domain{UUID: libvirt.UUID(id), ID: -1}, 0)
	if err != nil {
		return nil, s.failed(err)
	}
	return domainxml.Aliases(xml)
}

var _ polyvisor.EventSource = (*driver)(nil)
