package libvirt

import (
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"libvirt.org/go/libvirtxml"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/classed"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/remote"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc"
)

func TestEveryStateAndReasonIsMapped(t *testing.T) {
	for s := libvirt.DomainNostate; s <= libvirt.DomainPmsuspended; s++ {
		assert.Contains(t, states, s)
	}
	for r := libvirt.DomainShutoffShutdown; r <= libvirt.DomainShutoffDaemon; r++ {
		assert.Contains(t, shutoffStops, r)
	}
	for d := libvirt.DomainEventStoppedShutdown; d <= libvirt.DomainEventStoppedRecreated; d++ {
		assert.Contains(t, eventStops, d)
	}
	for _, tt := range []struct {
		state   libvirt.DomainState
		reason  int32
		cleared bool
		want    polyvisor.State
		stop    *polyvisor.Stop
	}{
		{libvirt.DomainShutoff, 0, false, polyvisor.Shutoff, nil},
		{libvirt.DomainShutoff, 2, false, polyvisor.Shutoff, &polyvisor.Stop{Reason: polyvisor.StopKilled}},
		{libvirt.DomainShutoff, 3, false, polyvisor.Crashed, &polyvisor.Stop{Reason: polyvisor.StopCrash}},
		{libvirt.DomainShutoff, 3, true, polyvisor.Shutoff, &polyvisor.Stop{Reason: polyvisor.StopCrash}},
		{libvirt.DomainShutoff, 99, false, polyvisor.Shutoff, &polyvisor.Stop{Reason: polyvisor.StopUnrecognised}},
		{libvirt.DomainCrashed, 1, false, polyvisor.Crashed, &polyvisor.Stop{Reason: polyvisor.StopCrash}},
		{libvirt.DomainPmsuspended, 0, false, polyvisor.Paused, nil},
		{libvirt.DomainState(42), 0, false, polyvisor.NoState, nil},
	} {
		assert.Equal(t, tt.want, stateOf(tt.state, tt.reason, tt.cleared), "%d/%d", tt.state, tt.reason)
		assert.Equal(t, tt.stop, lastStop(tt.state, tt.reason), "%d/%d", tt.state, tt.reason)
	}
	failed := int32(libvirt.DomainEventStoppedFailed)
	assert.Equal(t, polyvisor.StopStartFailed, eventStop(failed, false).Reason)
	assert.Equal(t, polyvisor.StopCrash, eventStop(failed, true).Reason, "the process of a run has died")
	assert.Equal(t, polyvisor.StopUnrecognised, eventStop(77, true).Reason)
}

func TestClassesOfErrors(t *testing.T) {
	for _, tt := range []struct {
		err  *rpc.Error
		want error
	}{
		{&rpc.Error{Code: libvirt.ErrNoDomain}, polyvisor.ErrNotFound},
		{&rpc.Error{Code: libvirt.ErrOperationInvalid}, polyvisor.ErrInvalidState},
		{&rpc.Error{Code: libvirt.ErrNoSupport}, polyvisor.ErrUnsupported},
		{&rpc.Error{Code: libvirt.ErrOperationDenied}, polyvisor.ErrReadOnly},
		{&rpc.Error{Code: libvirt.ErrAccessDenied}, polyvisor.ErrPermission},
		{&rpc.Error{Code: libvirt.ErrInvalidConn}, polyvisor.ErrConnLost},
		{&rpc.Error{Code: libvirt.ErrSystemError, Int1: int32(syscall.ENOENT)}, polyvisor.ErrNotFound},
		{&rpc.Error{Code: libvirt.ErrSystemError, Int1: int32(syscall.ENOSPC)}, polyvisor.ErrNoResource},
		{&rpc.Error{Code: libvirt.ErrSystemError}, nil},
		{&rpc.Error{Code: libvirt.ErrSystemError, Int1: int32(syscall.ECONNRESET)}, nil}, // of the daemon's own
		{&rpc.Error{Code: libvirt.ErrInternalError}, nil},
	} {
		tt.err.Message = "what the daemon says"
		err := classify(tt.err)
		assert.Equal(t, "what the daemon says", err.Error(), "the text is kept")
		assert.Equal(t, tt.err.Code, number(err), "the number can be found")
		if tt.want == nil {
			assert.Equal(t, polyvisor.CodeUnknown, polyvisor.CodeOf(err))
			continue
		}
		assert.ErrorIs(t, err, tt.want)
		other := classed.As(polyvisor.ErrBusy, err)
		assert.Equal(t, polyvisor.CodeBusy, polyvisor.CodeOf(classify(other)), "a class is given once")
	}
}

// A daemon that lost a machine's monitor says so by a system error, and no other error is taken for that.
func TestMonitorGone(t *testing.T) {
	assert.True(t, monitorGone(&rpc.Error{Code: libvirt.ErrSystemError, Int1: int32(syscall.ECONNRESET)}))
	assert.True(t, monitorGone(&rpc.Error{Code: libvirt.ErrSystemError, Int1: int32(syscall.EPIPE)}))
	assert.False(t, monitorGone(&rpc.Error{Code: libvirt.ErrSystemError, Int1: int32(syscall.ENOENT)}))
	assert.False(t, monitorGone(&rpc.Error{Code: libvirt.ErrInternalError, Int1: int32(syscall.EPIPE)}))
	assert.False(t, monitorGone(nil))
}

func TestChoiceOfDomainType(t *testing.T) {
	caps := libvirtxml.Caps{Guests: []libvirtxml.CapsGuest{
		{OSType: "hvm", Arch: libvirtxml.CapsGuestArch{Name: "aarch64", Emulator: "/qemu-arm", Domains: []libvirtxml.CapsGuestDomain{{Type: "qemu"}}}},
		{OSType: "hvm", Arch: libvirtxml.CapsGuestArch{Name: "x86_64", Emulator: "/qemu", Machines: []libvirtxml.CapsGuestMachine{{Name: "q35"}, {Name: "pc"}},
			Domains: []libvirtxml.CapsGuestDomain{{Type: "qemu"}, {Type: "kvm", Emulator: "/qemu-kvm"}}}},
	}}
	caps.Host.CPU = &libvirtxml.CapsHostCPU{Arch: "x86_64"}
	for _, tt := range []struct{ want, domainType, emulator string }{{"", "kvm", "/qemu-kvm"}, {"qemu", "qemu", "/qemu"}, {"xen", "kvm", "/qemu-kvm"}} {
		h := &host{hypervisor: "QEMU"}
		assert.Equal(t, "x86_64", h.choose(&caps, tt.want))
		assert.Equal(t, host{hypervisor: "QEMU", arch: "amd64", osType: "hvm", domainType: tt.domainType, machine: "pc", emulator: tt.emulator, panicDevice: "isa"}, *h)
	}
	h := &host{hypervisor: "bhyve"}
	h.choose(&libvirtxml.Caps{}, "")
	assert.Equal(t, "bhyve", h.domainType)
}

// A record is there as long as someone has it, and what events tell of a domain is in
// it by then.
func TestRecords(t *testing.T) {
	var r records
	dom := libvirt.Domain{Name: "a", UUID: libvirt.UUID{1}, ID: 5}
	rec := r.of(dom.UUID)
	assert.Same(t, rec, r.of(dom.UUID))
	before := r.count()
	r.note(&dom, libvirt.DomainEventStarted, 0)
	r.learn(rec, before, -1, true) // an answer from before the event
	_, _, known := rec.figures()
	assert.False(t, known)
	r.learn(rec, r.count(), 5, true)
	id, persistent, known := rec.figures()
	assert.True(t, known && persistent && id == 5)
	changed := rec.watch()
	assert.True(t, r.note(&dom, libvirt.DomainEventStopped, int32(libvirt.DomainEventStoppedDestroyed)), "it was active")
	<-changed
	stop, ran := rec.ended()
	assert.True(t, ran)
	assert.Equal(t, polyvisor.StopKilled, stop.Reason)
	r.doubt()
	_, _, known = rec.figures()
	assert.False(t, known, "events were missed")
	runtime.KeepAlive(rec)
	rec = nil
	require.Eventually(t, func() bool {
		runtime.GC()
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.list) == 0
	}, 10*time.Second, time.Millisecond, "nobody has it any more")
}

func TestReplayIsBounded(t *testing.T) {
	var rec record
	chunk := make([]byte, 1000)
	for n := range 1000 {
		chunk[0] = byte(n)
		rec.keep(3, chunk)
		assert.LessOrEqual(t, len(rec.printed), 2*maxReplay+len(chunk))
	}
	kept := rec.kept(3)
	assert.Len(t, kept, maxReplay)
	assert.Equal(t, byte(999%256), kept[len(kept)-1000])
	assert.Nil(t, rec.kept(4), "of another run")
}

// A subscriber that is overrun finds a gap with the number that was lost, and events of
// one reboot, or of the start of vCPUs, are told once.
func TestHub(t *testing.T) {
	d := &driver{log: Options{}.complete().Logger}
	h := &hub{d: d, wake: make(chan struct{}, 1), wanted: true}
	for range maxQueued + 7 {
		h.push(item{event: polyvisor.Event{Type: polyvisor.EventMemory}})
	}
	assert.Len(t, h.queue, maxQueued)
	h.queue = nil
	h.push(item{event: polyvisor.Event{Type: polyvisor.EventLabels}})
	require.Len(t, h.queue, 2)
	assert.Equal(t, polyvisor.EventGap, h.queue[0].event.Type)
	assert.EqualValues(t, 7, h.queue[0].event.Lost)

	dom := libvirt.Domain{Name: "a", UUID: libvirt.UUID{1}, ID: 5}
	var got []polyvisor.EventType
	for _, e := range []remote.Event{
		{ID: libvirt.DomainEventIDReboot},
		{Type: libvirt.DomainEventResumed},
		{Type: libvirt.DomainEventStarted},
		{ID: libvirt.DomainEventIDReboot},
		{ID: libvirt.DomainEventIDReboot},
		{Type: libvirt.DomainEventSuspended},
		{Type: libvirt.DomainEventShutdown},
		{Type: libvirt.DomainEventCrashed},
		{Type: libvirt.DomainEventStopped, Detail: int32(libvirt.DomainEventStoppedCrashed)},
		{Type: libvirt.DomainEventUndefined, Detail: int32(libvirt.DomainEventUndefinedRenamed)},
		{Type: libvirt.DomainEventDefined, Detail: int32(libvirt.DomainEventDefinedRenamed)},
	} {
		e.Domain = dom
		if out, _, tell := h.translate(&e, false); tell {
			got = append(got, out.Type)
			if out.Type == polyvisor.EventStopped {
				assert.Equal(t, polyvisor.Crashed, out.State)
			}
		}
	}
	assert.Equal(t, []polyvisor.EventType{polyvisor.EventStarted, polyvisor.EventRebooted, polyvisor.EventSuspended, polyvisor.EventStopped, polyvisor.EventRenamed}, got)
}

// A disk's error says where, what, and what is to be done.
func TestIOErrorIsADeviceError(t *testing.T) {
	h := &hub{d: &driver{log: Options{}.complete().Logger}}
	for _, tt := range []struct {
		reason string
		action libvirt.DomainEventIOErrorAction
		want   string
	}{
		{"", libvirt.DomainEventIoErrorReport, "/i.img: I/O error"},
		{"eio", libvirt.DomainEventIoErrorReport, "/i.img: I/O error (eio)"},
		{"enospc", libvirt.DomainEventIoErrorPause, "/i.img: no space left on device; the hypervisor has suspended the domain: mend the cause and resume it"},
	} {
		e := remote.Event{ID: libvirt.DomainEventIDIoErrorReason, Source: "/i.img", Alias: "virtio-disk0", Reason: tt.reason, Action: tt.action}
		out, alias, tell := h.translate(&e, false)
		assert.True(t, tell)
		assert.Equal(t, polyvisor.EventDeviceError, out.Type)
		assert.Equal(t, "virtio-disk0", alias)
		assert.Equal(t, tt.want, out.Detail)
	}
}

func TestStartsKnowOfDestroys(t *testing.T) {
	id := libvirt.UUID{9}
	noteDestroy(id)
	first := beginStart(id)
	second := beginStart(id)
	assert.False(t, beginStart(id)())
	noteDestroy(libvirt.UUID{8})
	assert.False(t, first())
	noteDestroy(id)
	assert.True(t, second())
	assert.NotContains(t, starting.list, id)
}
