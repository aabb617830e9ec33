package virtiopci

import (
	"encoding/binary"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
)

// Read answers an access to the BAR (bus.Device).
func (t *Transport) Read(off uint64, p []byte) {
	clear(p)
	switch {
	case off < commonAt+commonSize:
		t.readCommon(off, p)
	case off == isrAt:
		// Reading clears it (section 4.1.4.5).
		t.mu.Lock()
		p[0], t.isr = t.isr, 0
		t.mu.Unlock()
	case off >= deviceAt && off < deviceAt+deviceSize:
		t.core.ReadConfig(int(off-deviceAt), p)
	case off >= tableAt && off < pendingAt:
		t.msix.ReadTable(off-tableAt, p)
	case off >= pendingAt:
		t.msix.ReadPending(off-pendingAt, p)
	}
}

// Write does the same for writes. Kicks come here only where they are not caught before.
func (t *Transport) Write(off uint64, p []byte) {
	switch {
	case off < commonAt+commonSize:
		t.writeCommon(off, p)
	case off >= deviceAt && off < deviceAt+deviceSize:
		t.core.WriteConfig(int(off-deviceAt), p)
	case off >= notifyAt && off < notifyAt+notifySize && off%notifyStep == 0:
		t.core.Kick(int((off - notifyAt) / notifyStep))
	case off >= tableAt && off < pendingAt:
		t.msix.WriteTable(off-tableAt, p)
	}
}

// The common configuration structure (section 4.1.4.3).
const (
	deviceFeatureSelect = 0x00
	deviceFeature       = 0x04
	driverFeatureSelect = 0x08
	driverFeature       = 0x0c
	configVector        = 0x10
	numQueues           = 0x12
	deviceStatus        = 0x14
	configGeneration    = 0x15
	queueSelect         = 0x16
	queueSize           = 0x18
	queueVector         = 0x1a
	queueEnable         = 0x1c
	queueNotifyOff      = 0x1e
	queueDesc           = 0x20
	queueDriver         = 0x28
	queueDevice         = 0x30
)

// readCommon gives the structure's bytes, whatever the width of the access.
func (t *Transport) readCommon(off uint64, p []byte) {
	var b [commonSize]byte
	le := binary.LittleEndian
	t.mu.Lock()
	le.PutUint32(b[deviceFeatureSelect:], t.deviceSelect)
	le.PutUint32(b[driverFeatureSelect:], t.driverSelect)
	le.PutUint16(b[configVector:], t.configVector)
	q := int(t.queueSelect)
	le.PutUint16(b[queueSelect:], t.queueSelect)
	if q < len(t.vectors) {
		le.PutUint16(b[queueVector:], t.vectors[q])
		le.PutUint16(b[queueNotifyOff:], uint16(q))
	}
	le.PutUint32(b[deviceFeature:], half(t.core.Offered(), t.deviceSelect))
	le.PutUint32(b[driverFeature:], half(t.core.Features(), t.driverSelect))
	t.mu.Unlock()
	le.PutUint16(b[numQueues:], uint16(t.core.Queues()))
	le.PutUint16(b[queueSize:], uint16(t.core.Queue(q, virtio.QueueSize)))
	le.PutUint16(b[queueEnable:], uint16(t.core.Queue(q, virtio.QueueEnable)))
	le.PutUint64(b[queueDesc:], t.core.Queue(q, virtio.QueueDesc))
	le.PutUint64(b[queueDriver:], t.core.Queue(q, virtio.QueueDriver))
	le.PutUint64(b[queueDevice:], t.core.Queue(q, virtio.QueueDevice))
	b[deviceStatus] = t.core.Status()
	if off <= configGeneration && configGeneration < off+uint64(len(p)) {
		b[configGeneration] = t.core.Generation()
	}
	copy(p, b[off:])
}

// half gives the low or the high 32 bits; there are no more.
func half(v uint64, which uint32) uint32 {
	switch which {
	case 0:
		return uint32(v)
	case 1:
		return uint32(v >> 32)
	}
	return 0
}

// writeCommon takes writes of whole fields; of those of 64 bits also the halves (section 4.1.3.1). Others are ignored.
func (t *Transport) writeCommon(off uint64, p []byte) {
	var b [8]byte
	copy(b[:], p)
	v := binary.LittleEndian.Uint64(b[:])
	t.mu.Lock()
	q := int(t.queueSelect)
	t.mu.Unlock()
	switch {
	case off == deviceStatus && len(p) == 1:
		t.setStatus(uint8(v))
	case off == queueSize && len(p) == 2:
		t.core.SetQueue(q, virtio.QueueSize, v)
	case off == queueEnable && len(p) == 2:
		t.core.SetQueue(q, virtio.QueueEnable, v)
	case off >= queueDesc && off < commonSize && (len(p) == 8 && off%8 == 0 || len(p) == 4 && off%4 == 0):
		t.setAddress(q, off, v, len(p))
	case off == driverFeature && len(p) == 4:
		t.mu.Lock()
		which := t.driverSelect
		t.mu.Unlock()
		if which < 2 {
			t.core.SetFeatures(which == 1, uint32(v))
		}
	default:
		t.choose(off, uint32(v), len(p))
	}
}

// choose writes the registers that are the transport's own.
func (t *Transport) choose(off uint64, v uint32, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case off == deviceFeatureSelect && n == 4:
		t.deviceSelect = v
	case off == driverFeatureSelect && n == 4:
		t.driverSelect = v
	case off == queueSelect && n == 2:
		t.queueSelect = uint16(v)
	case off == configVector && n == 2:
		t.configVector = t.vector(v)
	case off == queueVector && n == 2 && int(t.queueSelect) < len(t.vectors):
		t.vectors[t.queueSelect] = t.vector(v)
	}
}

// vector is what a vector register holds after a write: none, if there is no such vector.
func (t *Transport) vector(v uint32) uint16 {
	if int(v) >= t.msix.Vectors() {
		return noVector
	}
	return uint16(v)
}

// setStatus writes the status; a reset takes the interrupts' vectors back too.
func (t *Transport) setStatus(s uint8) {
	if s == 0 {
		t.mu.Lock()
		t.isr, t.deviceSelect, t.driverSelect, t.queueSelect = 0, 0, 0, 0
		t.clearVectors()
		t.mu.Unlock()
	}
	t.core.SetStatus(s)
}

var addresses = map[uint64]virtio.QueueField{queueDesc: virtio.QueueDesc, queueDriver: virtio.QueueDriver, queueDevice: virtio.QueueDevice}

func (t *Transport) setAddress(q int, off, v uint64, n int) {
	f := addresses[off&^7]
	if n == 4 {
		before := t.core.Queue(q, f)
		if off%8 == 0 {
			v = before&^0xffffffff | v
		} else {
			v = before&0xffffffff | v<<32
		}
	}
	t.core.SetQueue(q, f, v)
}

// window is the capability by which a guest reaches the BAR through configuration space (section 4.1.4.9).
type window struct {
	t    *Transport
	body []byte // what follows the capability's header
}

const (
	windowOffset = 6 // in body
	windowLength = 10
	windowData   = 14
)

// target gives the place that the window is over, if it is a good one.
func (w *window) target() (off uint64, n int, ok bool) {
	off, n = uint64(binary.LittleEndian.Uint32(w.body[windowOffset:])), int(binary.LittleEndian.Uint32(w.body[windowLength:]))
	return off, n, (n == 1 || n == 2 || n == 4) && off%uint64(n) == 0 && off < BARSize
}

// ReadCapability implements pci.Hook.
func (w *window) ReadCapability(off int, p []byte) {
	w.t.mu.Lock()
	at, n, ok := w.target()
	var b [32]byte
	copy(b[:], w.body)
	w.t.mu.Unlock()
	if off < windowData+4 && off+len(p) > windowData {
		clear(b[windowData:])
		if ok {
			w.t.Read(at, b[windowData:windowData+n])
		}
	}
	copy(p, b[off:len(w.body)])
}

// WriteCapability implements pci.Hook.
func (w *window) WriteCapability(off int, p []byte) {
	w.t.mu.Lock()
	for i, b := range p {
		if at := off + i; at == 2 && b == 0 || at >= windowOffset && at < len(w.body) {
			w.body[at] = b
		}
	}
	at, n, ok := w.target()
	var data [4]byte
	copy(data[:], w.body[windowData:])
	w.t.mu.Unlock()
	if ok && off < windowData+4 && off+len(p) > windowData {
		w.t.Write(at, data[:n])
	}
}
