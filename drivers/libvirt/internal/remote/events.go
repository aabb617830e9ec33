package remote

import (
	"context"

	"github.com/digitalocean/go-libvirt"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/xdr"
)

// Register is REMOTE_PROC_CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY for all domains.
func (c Conn) Register(ctx context.Context, event libvirt.DomainEventID) (callback int32, err error) {
	return c.intOf(ctx, 316, func(w *xdr.Writer) {
		w.Int32(int32(event))
		w.Bool(false)
	})
}

// Event is a message about a domain. The fields beyond the first two are of some
// kinds only.
type Event struct {
	ID     libvirt.DomainEventID
	Domain libvirt.Domain
	// Type and Detail are of a lifecycle event.
	Type   libvirt.DomainEventType
	Detail int32
	// Alias is the hypervisor's name of a device that was added or removed, or that
	// failed.
	Alias string
	// Source is the image of the device that failed, Action what the hypervisor does
	// then, and Reason its word for what happened, where it has one ("enospc").
	Source string
	Action libvirt.DomainEventIOErrorAction
	Reason string
	// Actual is the memory after a change of the balloon, in KiB.
	Actual uint64
	// URI is the namespace of metadata that has changed, and Metadata its kind.
	URI      string
	Metadata libvirt.DomainMetadataType
}

// messages are the procedures of events, and what follows the domain in them.
var messages = map[uint32]struct {
	id   libvirt.DomainEventID
	rest func(r *xdr.Reader, e *Event)
}{
	318: {libvirt.DomainEventIDLifecycle, func(r *xdr.Reader, e *Event) {
		e.Type = libvirt.DomainEventType(r.Int32())
		e.Detail = r.Int32()
	}},
	319: {libvirt.DomainEventIDReboot, nil},
	324: {libvirt.DomainEventIDIoErrorReason, func(r *xdr.Reader, e *Event) {
		e.Source, e.Alias = r.String(), r.String()
		e.Action = libvirt.DomainEventIOErrorAction(r.Int32())
		e.Reason = r.String()
	}},
	331: {libvirt.DomainEventIDBalloonChange, func(r *xdr.Reader, e *Event) { e.Actual = r.Uint64() }},
	333: {libvirt.DomainEventIDDeviceRemoved, func(r *xdr.Reader, e *Event) { e.Alias = r.String() }},
	354: {libvirt.DomainEventIDDeviceAdded, func(r *xdr.Reader, e *Event) { e.Alias = r.String() }},
	379: {libvirt.DomainEventIDMetadataChange, func(r *xdr.Reader, e *Event) {
		e.Metadata = libvirt.DomainMetadataType(r.Int32())
		if r.Bool() {
			e.URI = r.String()
		}
	}},
}

// Events are the events that ReadEvent reads.
func Events() []libvirt.DomainEventID {
	return []libvirt.DomainEventID{libvirt.DomainEventIDLifecycle, libvirt.DomainEventIDReboot, libvirt.DomainEventIDIoErrorReason,
		libvirt.DomainEventIDBalloonChange, libvirt.DomainEventIDDeviceAdded, libvirt.DomainEventIDDeviceRemoved, libvirt.DomainEventIDMetadataChange}
}

// ReadEvent reads a message of the remote program. It says false for those that are
// not about domains or not of a kind that is read, and an error for one that is
// damaged.
func ReadEvent(proc uint32, payload []byte) (e Event, ok bool, err error) {
	m, ok := messages[proc]
	if !ok {
		return e, false, nil
	}
	r := xdr.NewReader(payload)
	r.Int32() // the callback
	e.ID = m.id
	readDomain(r, &e.Domain)
	if m.rest != nil {
		m.rest(r, &e)
	}
	return e, r.Err() == nil, r.Err()
}
