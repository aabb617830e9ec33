// Package virtiopci is the PCI transport of virtio devices, of the modern kind alone (virtio 1.2, section 4.1): one BAR
// with the registers, the doorbells and the MSI-X table. A guest without MSI-X has no interrupts.
//
// It knows no KVM: whoever makes a Transport says how the BAR comes to lie somewhere, how a doorbell is rung and how an
// interrupt is sent.
package virtiopci

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/pci"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq"
)

// The BAR.
const (
	// BARSize is its size in bytes; it lies at a multiple of it.
	BARSize = 0x10000

	commonAt   = 0x0000
	commonSize = 0x38
	isrAt      = 0x1000
	deviceAt   = 0x2000
	deviceSize = 0x1000
	notifyAt   = 0x3000
	notifyStep = 4
	notifySize = 0x1000
	tableAt    = 0x8000
	pendingAt  = 0xe000

	// maxQueues is bounded by the doorbells' page and the vectors, of which the configuration has one more.
	maxQueues = notifySize / notifyStep
)

// noVector is VIRTIO_MSI_NO_VECTOR.
const noVector = 0xffff

// Config is what a Transport is made of.
type Config struct {
	Device virtio.Device
	Memory virtq.Memory
	// Doorbells has one for each queue; they stay the caller's.
	Doorbells []virtio.Doorbell
	// BAR is where the BAR is to lie at first.
	BAR uint32
	// Enable is called when the guest wants the BAR at an address: accesses to it go to Read and Write, and a write to
	// Doorbell(queue) of it rings the doorbell of that queue. Disable undoes it.
	Enable  func(base uint64) error
	Disable func(base uint64)
	// Send sends a message-signalled interrupt. It must not block.
	Send func(addr uint64, data uint32)
	// OnFail is told why the device cannot go on; nil is nobody.
	OnFail func(error)
}

// Transport is a virtio device as a PCI function.
type Transport struct {
	core     *virtio.Core
	function *pci.Function
	msix     *pci.MSIX
	window   window

	mu           sync.Mutex // guards the following
	isr          byte
	deviceSelect uint32
	driverSelect uint32
	queueSelect  uint16
	configVector uint16
	vectors      []uint16 // of the queues
}

// New makes the function of a device.
func New(cfg Config) (*Transport, error) {
	t := &Transport{configVector: noVector}
	n := len(cfg.Device.QueueSizes())
	if n > maxQueues || cfg.Device.ConfigSize() > deviceSize {
		return nil, fmt.Errorf("virtio device %d: %d queues and %d bytes of configuration do not fit its BAR", cfg.Device.ID(), n, cfg.Device.ConfigSize())
	}
	t.vectors = make([]uint16, n)
	t.clearVectors()
	var err error
	t.core, err = virtio.New(virtio.Config{Device: cfg.Device, Memory: cfg.Memory, Transport: t, Doorbells: cfg.Doorbells, OnFail: cfg.OnFail})
	if err != nil {
		return nil, err
	}
	id := cfg.Device.ID()
	t.function = pci.NewFunction(pci.ID{Vendor: 0x1af4, Device: 0x1040 + id, SubVendor: 0x1af4, SubDevice: 0x1100, Revision: 1, Class: classOf(id)})
	t.function.SetBAR(cfg.BAR, BARSize, cfg.Enable, cfg.Disable)
	t.addCapabilities(cfg.Device)
	t.msix = t.function.AddMSIX(n+1, tableAt, pendingAt, cfg.Send)
	return t, nil
}

func classOf(id uint16) uint32 {
	switch id {
	case virtio.IDNet:
		return pci.ClassNetwork
	case virtio.IDBlock:
		return pci.ClassStorage
	case virtio.IDConsole:
		return pci.ClassSerial
	}
	return pci.ClassOther
}

// Kinds of structures (section 4.1.4).
const (
	kindCommon = 1
	kindNotify = 2
	kindISR    = 3
	kindDevice = 4
	kindWindow = 5
)

const capVendor = 0x09

// addCapabilities says where in the BAR the structures are.
func (t *Transport) addCapabilities(d virtio.Device) {
	structure := func(kind byte, at, size uint32, more ...byte) []byte {
		b := []byte{byte(16 + len(more)), kind, 0, 0, 0, 0}
		b = binary.LittleEndian.AppendUint32(b, at)
		b = binary.LittleEndian.AppendUint32(b, size)
		return append(b, more...)
	}
	t.function.AddCapability(capVendor, structure(kindCommon, commonAt, commonSize), nil, nil)
	t.function.AddCapability(capVendor, structure(kindNotify, notifyAt, notifySize, notifyStep, 0, 0, 0), nil, nil)
	t.function.AddCapability(capVendor, structure(kindISR, isrAt, 1), nil, nil)
	if n := d.ConfigSize(); n > 0 {
		t.function.AddCapability(capVendor, structure(kindDevice, deviceAt, uint32(n)), nil, nil)
	}
	body := structure(kindWindow, 0, 0, 0, 0, 0, 0)
	t.window = window{t: t, body: body}
	t.function.AddCapability(capVendor, body, nil, &t.window)
}

// Function is what goes onto the PCI bus.
func (t *Transport) Function() *pci.Function { return t.function }

// Core is the device's state.
func (t *Transport) Core() *virtio.Core { return t.core }

// Doorbell is the address of a queue's doorbell, for a BAR at base.
func Doorbell(base uint64, queue int) uint64 { return base + notifyAt + notifyStep*uint64(queue) }

// Close ends the device; see virtio.Core.Close.
func (t *Transport) Close() { t.core.Close() }

// QueueInterrupt implements virtio.Transport.
func (t *Transport) QueueInterrupt(queue int) {
	t.mu.Lock()
	t.isr |= 1
	v := t.vectors[queue]
	t.mu.Unlock()
	t.msix.Signal(int(v))
}

// ConfigInterrupt implements virtio.Transport.
func (t *Transport) ConfigInterrupt() {
	t.mu.Lock()
	t.isr |= 2
	v := t.configVector
	t.mu.Unlock()
	t.msix.Signal(int(v))
}

func (t *Transport) clearVectors() {
	t.configVector = noVector
	for i := range t.vectors {
		t.vectors[i] = noVector
	}
}
