package virtiopci

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/pci"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/rng"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq/virtqtest"
	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

type bell struct {
	rings chan struct{}
	done  chan struct{}
}

func (b *bell) Ring() {
	select {
	case b.rings <- struct{}{}:
	default:
	}
}

func (b *bell) Wait() error {
	select {
	case <-b.rings:
		return nil
	case <-b.done:
		return errors.New("closed")
	}
}

// guest is a guest that finds a device on a bus by its registers alone.
type guest struct {
	t   testing.TB
	mem *guestmem.Memory
	bus *pci.Bus
	tr  *Transport
	mu  sync.Mutex
	irq []uint32
	bar uint64 // where it answers, 0 for nowhere
}

func newGuest(t testing.TB, dev virtio.Device) *guest {
	g := &guest{t: t, mem: virtqtest.Memory(t, 2<<20), bus: pci.NewBus()}
	var bells []virtio.Doorbell
	var closers []*bell
	for range dev.QueueSizes() {
		b := &bell{make(chan struct{}, 1), make(chan struct{})}
		bells, closers = append(bells, b), append(closers, b)
	}
	var err error
	g.tr, err = New(Config{Device: dev, Memory: g.mem, Doorbells: bells, BAR: 0xc0000000,
		Enable:  func(base uint64) error { g.bar = base; return nil },
		Disable: func(uint64) { g.bar = 0 },
		Send: func(_ uint64, data uint32) {
			g.mu.Lock()
			g.irq = append(g.irq, data)
			g.mu.Unlock()
		}})
	require.NoError(t, err)
	_, err = g.bus.Add(g.tr.Function())
	require.NoError(t, err)
	t.Cleanup(func() {
		g.tr.Close()
		for _, b := range closers {
			close(b.done)
		}
	})
	return g
}

const slot1 = 8 * pci.ConfigSize

func (g *guest) config(reg, n int) uint32 {
	var b [4]byte
	g.bus.Read(slot1+uint64(reg), b[:n])
	return binary.LittleEndian.Uint32(b[:])
}

func (g *guest) setConfig(reg int, v uint32, n int) {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], v)
	g.bus.Write(slot1+uint64(reg), b[:n])
}

func (g *guest) read(off uint64, n int) uint64 {
	var b [8]byte
	g.tr.Read(off, b[:n])
	return binary.LittleEndian.Uint64(b[:])
}

func (g *guest) write(off, v uint64, n int) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	g.tr.Write(off, b[:n])
}

// structures finds the vendor capabilities: kind to offset in the BAR, and the place of each in configuration space.
func (g *guest) structures() (at map[byte]uint64, caps map[byte]int, msix int) {
	at, caps = map[byte]uint64{}, map[byte]int{}
	for c := int(g.config(0x34, 1)); c != 0; c = int(g.config(c+1, 1)) {
		switch g.config(c, 1) {
		case capVendor:
			kind := byte(g.config(c+3, 1))
			at[kind], caps[kind] = uint64(g.config(c+8, 4)), c
		case 0x11:
			msix = c
		}
	}
	return at, caps, msix
}

// A guest that knows nothing but the specification finds the device and uses it.
func TestDriverByRegisters(t *testing.T) {
	g := newGuest(t, rng.New(rng.Config{Source: zeroes{}}))
	require.EqualValues(t, 0x10441af4, g.config(0, 4))
	g.setConfig(4, 6, 2)
	require.EqualValues(t, 0xc0000000, g.bar)
	at, caps, msix := g.structures()
	require.Len(t, at, 4, "no configuration of the device's own")
	require.EqualValues(t, notifyStep, g.config(caps[kindNotify]+16, 4))
	g.setConfig(msix+2, 1<<15, 2)
	g.write(tableAt+16, 0xfee00000, 8)
	g.write(tableAt+24, 0x55, 8)

	common := at[kindCommon]
	status := func(v uint64) { g.write(common+deviceStatus, v, 1) }
	status(0)
	status(1)
	status(3)
	g.write(common+deviceFeatureSelect, 1, 4)
	require.NotZero(t, g.read(common+deviceFeature, 4)&1, "VERSION_1")
	g.write(common+deviceFeatureSelect, 2, 4)
	require.Zero(t, g.read(common+deviceFeature, 4))
	g.write(common+driverFeatureSelect, 1, 4)
	g.write(common+driverFeature, 1, 4)
	g.write(common+driverFeatureSelect, 5, 4)
	g.write(common+driverFeature, 1, 4)
	status(11)
	require.EqualValues(t, 11, g.read(common+deviceStatus, 1))
	require.EqualValues(t, 1, g.read(common+numQueues, 2))

	g.write(common+queueSelect, 1, 2)
	require.Zero(t, g.read(common+queueSize, 2), "there is no such queue")
	g.write(common+queueVector, 1, 2)
	g.write(common+queueSelect, 0, 2)
	require.EqualValues(t, noVector, g.read(common+queueVector, 2))
	g.write(common+queueVector, 9, 2)
	require.EqualValues(t, noVector, g.read(common+queueVector, 2), "there is no such vector")
	g.write(common+queueVector, 1, 2)
	require.EqualValues(t, 1, g.read(common+queueVector, 2))
	g.write(common+queueSize, 8, 2)
	d := virtqtest.New(t, g.mem, 1<<20, 1<<20, 8, virtqtest.Options{})
	for reg, v := range map[uint64]uint64{queueDesc: d.Config().Desc, queueDriver: d.Config().Driver, queueDevice: d.Config().Device} {
		g.write(common+reg, v&0xffffffff, 4) // as a guest of 32 bits does
		g.write(common+reg+4, v>>32, 4)
		require.Equal(t, v, g.read(common+reg, 8))
	}
	g.write(common+queueEnable, 1, 2)
	status(15)
	id := d.Add(nil, 5)
	g.write(at[kindNotify]+notifyStep*g.read(common+queueNotifyOff, 2), 0, 2)
	require.Eventually(t, func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.irq) > 0
	}, 10*time.Second, time.Millisecond)
	got, n, ok := d.Used()
	require.True(t, ok)
	require.Equal(t, id, got)
	require.EqualValues(t, 5, n)
	require.Equal(t, []uint32{0x55}, g.irq)
	require.EqualValues(t, 1, g.read(at[kindISR], 1))
	require.Zero(t, g.read(at[kindISR], 1), "reading clears it")

	status(0)
	require.Eventually(t, func() bool { return g.read(common+deviceStatus, 1) == 0 }, 10*time.Second, time.Millisecond)
	require.EqualValues(t, noVector, g.read(common+queueVector, 2))
	require.EqualValues(t, 64, g.read(common+queueSize, 2))
}

// zeroes is a source of numbers that are not random.
type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// The window in configuration space leads to the same registers.
func TestWindow(t *testing.T) {
	g := newGuest(t, rng.New(rng.Config{Source: zeroes{}}))
	_, caps, _ := g.structures()
	c := caps[kindWindow]
	g.setConfig(c+8, commonAt+queueSize, 4)
	g.setConfig(c+12, 2, 4)
	require.EqualValues(t, 64, g.config(c+16, 2))
	g.setConfig(c+16, 16, 2)
	require.EqualValues(t, 16, g.read(commonAt+queueSize, 2))
	for _, bad := range []struct{ off, n uint32 }{{1, 2}, {0, 3}, {0, 0}, {BARSize, 4}, {0xffffffff, 1}, {0, 0xffffffff}} {
		g.setConfig(c+8, bad.off, 4)
		g.setConfig(c+12, bad.n, 4)
		require.Zero(t, g.config(c+16, 4), "%v", bad)
	}
}

func TestTooLarge(t *testing.T) {
	_, err := New(Config{Device: giant{}})
	require.ErrorContains(t, err, "do not fit its BAR")
}

type giant struct{ *rng.Device }

func (giant) ID() uint16      { return 99 }
func (giant) ConfigSize() int { return deviceSize + 1 }
func (giant) QueueSizes() []uint16 {
	return []uint16{2}
}

func TestInterruptsDoNotAllocate(t *testing.T) {
	g := newGuest(t, rng.New(rng.Config{Source: zeroes{}}))
	g.irq = make([]uint32, 0, 1024)
	_, _, msix := g.structures()
	g.setConfig(msix+2, 1<<15, 2)
	g.write(tableAt+16, 0xfee00000, 8)
	g.write(tableAt+24, 0x55, 8)
	g.write(commonAt+queueVector, 1, 2)
	g.write(commonAt+configVector, 1, 2)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		g.tr.QueueInterrupt(0)
		g.tr.ConfigInterrupt()
	}))
	require.NotEmpty(t, g.irq)
}

// Processors that write anything anywhere at the same time, and reset the device over and over, leave one that works.
func TestProcessorsAtOnce(t *testing.T) {
	g := newGuest(t, rng.New(rng.Config{Source: zeroes{}}))
	var cpus sync.WaitGroup
	for cpu := range uint64(4) {
		cpus.Go(func() {
			random := rand.New(rand.NewPCG(1, cpu))
			var b [8]byte
			for range 3000 {
				n := 1 << random.IntN(4)
				binary.LittleEndian.PutUint64(b[:], random.Uint64N(32))
				switch random.IntN(4) {
				case 0:
					off := slot1 + random.Uint64N(pci.ConfigSize/8)
					g.bus.Write(off, b[:n])
					g.bus.Read(off, b[:n])
				case 1:
					g.tr.Write(deviceStatus, b[:1])
				case 2:
					g.tr.Write(tableAt+4*random.Uint64N(8), b[:n])
					g.tr.QueueInterrupt(0)
				default:
					off := random.Uint64N(commonSize)
					g.tr.Write(off, b[:n])
					g.tr.Read(off, b[:n])
				}
			}
		})
	}
	cpus.Wait()
	g.write(deviceStatus, 0, 1)
	require.Eventually(t, func() bool { return g.read(deviceStatus, 1) == 0 }, 10*time.Second, time.Millisecond)
	d := virtqtest.New(t, g.mem, 1<<20, 1<<20, 8, virtqtest.Options{})
	g.write(driverFeatureSelect, 0, 4)
	g.write(driverFeature, 0, 4)
	g.write(driverFeatureSelect, 1, 4)
	g.write(driverFeature, 1, 4)
	g.write(deviceStatus, 11, 1)
	g.write(queueSize, 8, 2)
	g.write(queueDesc, d.Config().Desc, 8)
	g.write(queueDriver, d.Config().Driver, 8)
	g.write(queueDevice, d.Config().Device, 8)
	g.write(queueEnable, 1, 2)
	g.write(deviceStatus, 15, 1)
	d.Add(nil, 5)
	g.write(notifyAt, 0, 2)
	require.Eventually(t, func() bool { _, _, ok := d.Used(); return ok }, 10*time.Second, time.Millisecond)
}

// Any accesses of any width to any place of the BAR and of configuration space do no harm.
func FuzzRegisters(f *testing.F) {
	f.Add([]byte{0x14, 0, 1, 1, 0x14, 0, 1, 3, 0x14, 0, 1, 11, 0x1c, 0, 2, 1, 0, 0x14, 0, 1, 15, 0, 0x30, 2, 0, 0})
	f.Add([]byte{0x16, 0, 2, 0xff, 0xff, 0x18, 0, 2, 3, 0, 0x20, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8})
	// The window, at 0x74, over the size of a queue; then a write through it, reads across its ends, and MSI-X.
	f.Add([]byte{0x7c, 0, 0x84, 0x18, 0, 0, 0, 0x80, 0, 0x84, 2, 0, 0, 0, 0x84, 0, 0x82, 16, 0, 0x70, 0, 0x88, 0x84, 0, 0x88, 0x8a, 0, 0x82, 0, 0x80})
	f.Fuzz(func(t *testing.T, script []byte) {
		g := newGuest(t, rng.New(rng.Config{Source: zeroes{}}))
		g.setConfig(4, 6, 2)
		for len(script) >= 3 {
			off, n := uint64(binary.LittleEndian.Uint16(script)), 1+int(script[2]+7)%8
			config := script[2]&0x80 != 0
			script = script[3:]
			var b [8]byte
			copy(b[:n], script)
			script = script[min(n, len(script)):]
			if config {
				off = slot1 + off%pci.ConfigSize
				g.bus.Write(off, b[:n])
				g.bus.Read(off, b[:n])
				continue
			}
			g.tr.Write(off, b[:n])
			g.tr.Read(off, b[:n])
		}
		g.write(deviceStatus, 0, 1)
		require.Eventually(t, func() bool { return g.read(deviceStatus, 1) == 0 }, 10*time.Second, 100*time.Microsecond)
	})
}
