package vmmproc

import (
	"fmt"
	"sync"
	"time"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
)

// errorPause is the least time between two events about the same device: a guest
// can make errors as fast as it likes. Shorter in tests.
var errorPause = time.Second

// deviceErrors tells the errors of devices.
type deviceErrors struct {
	mu   sync.Mutex
	last map[string]*toldError
}

// toldError is what was told about a device.
type toldError struct {
	at      time.Time
	skipped int // errors since then
}

// due says whether an error of the device is to be told now, and how many were
// not before it.
func (d *deviceErrors) due(device string, now time.Time) (skipped int, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last == nil {
		d.last = make(map[string]*toldError)
	}
	t := d.last[device]
	switch {
	case t == nil:
		t = &toldError{}
		d.last[device] = t
	case now.Sub(t.at) < errorPause:
		t.skipped++
		return 0, false
	}
	skipped = t.skipped
	t.at, t.skipped = now, 0
	return skipped, true
}

// deviceError is Env.DeviceError.
func (s *Server) deviceError(device, detail string) {
	skipped, ok := s.deviceErrors.due(device, time.Now())
	if !ok {
		return
	}
	if skipped > 0 {
		detail += fmt.Sprintf(" (and %d more errors before)", skipped)
	}
	s.log.Warn("a device failed", "device", device, "detail", detail)
	if err := s.run.AnnounceDeviceError(device, detail); err != nil {
		s.log.Warn("an event could not be told", "event", store.EventDeviceError, "err", err)
	}
}
