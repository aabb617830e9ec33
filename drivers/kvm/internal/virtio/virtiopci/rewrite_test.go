package virtiopci

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/rng"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq/virtqtest"
)

// setUp starts the device with a queue of eight entries, as a driver does that has read the specification.
func (g *guest) setUp() *virtqtest.Driver {
	d := virtqtest.New(g.t, g.mem, 0x10000, 0x10000, 8, virtqtest.Options{})
	g.write(deviceStatus, 3, 1)
	g.write(driverFeatureSelect, 1, 4)
	g.write(driverFeature, 1, 4)
	g.write(deviceStatus, 11, 1)
	g.write(queueSelect, 0, 2)
	g.write(queueSize, 8, 2)
	g.write(queueDesc, d.Config().Desc, 8)
	g.write(queueDriver, d.Config().Driver, 8)
	g.write(queueDevice, d.Config().Device, 8)
	g.write(queueEnable, 1, 2)
	g.write(deviceStatus, 15, 1)
	return d
}

// served fails unless the device fills a buffer.
func (g *guest) served(d *virtqtest.Driver) {
	g.t.Helper()
	d.Add(nil, 5)
	g.write(notifyAt, 0, 2)
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Microsecond) {
		if _, n, ok := d.Used(); ok {
			require.EqualValues(g.t, 5, n)
			return
		}
		if time.Now().After(limit) {
			g.t.Fatal("the device does not serve the queue that it was given")
		}
	}
}

// Firecracker's CVE-2026-5747 and Cloud Hypervisor's #7918: a driver that rewrites a queue's size and addresses, its
// features and its interrupts while the device works, by any register of the BAR or by the window in configuration space, of queues
// that there are and of those that there are not. The device goes on with the rings that it was given at
// DRIVER_OK and writes nowhere else; only a reset changes that.
func FuzzRewrittenRings(f *testing.F) {
	op := func(off uint16, n byte, v uint64) []byte {
		b := append(binary.LittleEndian.AppendUint16(nil, off), n)
		return binary.LittleEndian.AppendUint64(b, v)
	}
	seed := func(ops ...[]byte) {
		var all []byte
		for _, o := range ops {
			all = append(all, o...)
		}
		f.Add(all)
	}
	seed(op(queueSize, 2, 0), op(queueSize, 2, 0x8000), op(queueSize, 2, 0xffff), op(queueEnable, 2, 0), op(queueSize, 2, 64), op(queueEnable, 2, 1))
	seed(op(queueDesc, 8, 0x20000), op(queueDriver, 4, 0x20000), op(queueDevice+4, 4, 1), op(queueDevice, 8, ^uint64(0)), op(deviceStatus, 1, 15))
	seed(op(queueSelect, 2, 1), op(queueSize, 2, 4), op(queueVector, 2, 1), op(queueSelect, 2, 0xffff), op(queueEnable, 2, 1), op(queueDesc, 8, 1))
	seed(op(driverFeatureSelect, 4, 0), op(driverFeature, 4, 1<<29), op(deviceStatus, 1, 11), op(deviceStatus, 1, 4), op(deviceStatus, 1, 128))
	seed(op(notifyAt, 4, 0xffffffff), op(notifyAt+4, 4, 1), op(notifyAt+0xffc, 2, 1), op(notifyAt+1, 2, 0), op(tableAt, 8, 0), op(pendingAt, 8, 1))
	f.Fuzz(func(t *testing.T, script []byte) {
		g := newGuest(t, rng.New(rng.Config{Source: zeroes{}}))
		g.setConfig(4, 6, 2)
		d := g.setUp()
		g.served(d)
		for steps := 0; len(script) >= 11 && steps < 24; steps++ {
			off, n, v := uint64(binary.LittleEndian.Uint16(script)), 1+int(script[2]+7)%8, binary.LittleEndian.Uint64(script[3:])
			config := script[2]&0x80 != 0
			script = script[11:]
			g.write(deviceFeatureSelect, 7, 4)
			w := d.Watch()
			var b [8]byte
			binary.LittleEndian.PutUint64(b[:], v)
			if config {
				g.bus.Write(slot1+off%0x100, b[:n])
			} else {
				g.tr.Write(off, b[:n])
			}
			if g.read(deviceFeatureSelect, 4) == 0 {
				return // it was a reset
			}
			w.Check()
			g.served(d)
			require.EqualValues(t, 8, g.tr.Core().Queue(0, 0), "the size of the queue")
		}
	})
}
