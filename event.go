package polyvisor

import (
	"time"

	"github.com/google/uuid"
)

// EventType says what happened.
type EventType string

// The types of events.
const (
	EventDefined   EventType = "defined"   // also: its definition was replaced
	EventUndefined EventType = "undefined" // an inactive domain is gone with it
	EventStarted   EventType = "started"   // also by Create and Restore
	EventSuspended EventType = "suspended"
	EventResumed   EventType = "resumed"
	EventRebooted  EventType = "rebooted" // the guest started afresh and stayed active
	// EventStopped: the domain is inactive, a transient one gone; Stop says why.
	EventStopped EventType = "stopped"
	EventRenamed EventType = "renamed" // Name is the new one
	// EventDeviceAdded and EventDeviceRemoved name the device in Device.
	EventDeviceAdded   EventType = "device-added"
	EventDeviceRemoved EventType = "device-removed"
	// EventDeviceError: what is behind a device failed, as on a full disk or when
	// the helper of a network ends. Device names it, Detail says what happened. The
	// guest has been told in the device's own way, and runs on.
	EventDeviceError EventType = "device-error"
	EventMemory      EventType = "memory" // the guest's memory changed
	EventLabels      EventType = "labels" // labels, title or autostart changed

	// EventGap stands for events that were lost because they came faster than
	// they were read: Lost says how many, if known. The state of every domain
	// may have changed.
	EventGap EventType = "gap"
	// EventResync says that the connection to the hypervisor was lost and is
	// back; what happened meanwhile was not told.
	EventResync EventType = "resync"
)

// Event is something that happened to a domain, or to the stream of events
// itself (EventGap, EventResync).
type Event struct {
	// Seq rises by one from event to event of a subscription; a gap counts as
	// one event.
	Seq  uint64    `json:"seq"`
	Type EventType `json:"type"`
	// Time is when it happened, as far as the driver knows.
	Time time.Time `json:"time"`
	Name string    `json:"name,omitempty"`
	UUID uuid.UUID `json:"uuid,omitzero"`
	// State is the domain's state after the event.
	State State `json:"state"`
	// Stop says why a domain stopped; nil for other events.
	Stop *Stop `json:"stop,omitempty"`
	// Device is the DeviceID of the device that an event is about.
	Device string `json:"device,omitempty"`
	// Detail says for people what went wrong (EventDeviceError).
	Detail string `json:"detail,omitempty"`
	// Lost is the number of events that an EventGap stands for; 0 if not known.
	Lost uint64 `json:"lost,omitempty"`
}
