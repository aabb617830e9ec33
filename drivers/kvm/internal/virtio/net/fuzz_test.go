//go:build linux

package net

import (
	"bytes"
	"encoding/binary"
	"errors"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq/virtqtest"
)

// desc is a descriptor of the fuzzers' seeds.
type desc struct {
	addr        uint64
	n           uint32
	flags, next uint16
}

const (
	descNext  = 1
	descWrite = 2
)

// rings is a descriptor table of a split queue, and an available ring that offers the given heads.
func rings(table []desc, heads ...uint16) []byte {
	b := make([]byte, 16*dataQueueSize+4+2*len(heads))
	for i, d := range table {
		virtqtest.Put(b[16*i:], d.addr, d.n, d.flags, d.next)
	}
	avail := b[16*dataQueueSize:]
	binary.LittleEndian.PutUint16(avail[2:], uint16(len(heads)))
	for i, h := range heads {
		binary.LittleEndian.PutUint16(avail[4+2*i:], h)
	}
	return b
}

// setUp puts what the fuzzer says into the guest's memory: its side of the rings, and data for buffers.
func (b *bare) setUp(ring, data []byte) {
	copy(b.drv.Bytes(bareQueue, bareData-bareQueue), ring)
	copy(b.drv.Bytes(bareData, bareMemory-bareData), data)
	b.drv.WantInterrupts(false) // there is nobody to take them
	w := b.drv.Watch()
	b.check = w.Check
}

// ringOrStop says whether an error is one that ends a worker rightly.
func ringOrStop(err error) bool {
	return errors.Is(err, virtio.ErrStopped) || virtio.IsBadChain(err) == nil
}

func FuzzNetTX(f *testing.F) {
	one := rings([]desc{{bareData, 112, 0, 0}}, 0)
	two := rings([]desc{{bareData, hdrLen, descNext, 1}, {bareData + hdrLen, 9000, 0, 0}}, 0, 0, 0)
	f.Add(one, join(noHeader, frame(100, 1)), uint64(0), true, false)
	f.Add(one, join(noHeader, frame(100, 1)), uint64(0), false, false)
	f.Add(two, join(header(1, 1, 54, 1448, 34, 16, 0), frame(9000, 1)), uint64(offloads), true, false)
	f.Add(two, join(header(1, 4, 74, 1428, 54, 16, 0), frame(9000, 1)), uint64(offloads), true, false)
	f.Add(two, join(header(1, 1, 54, 0, 34, 16, 0), frame(9000, 1)), uint64(offloads), true, false)
	f.Add(one, join(header(1, 0, 0, 0, 98, 0, 0), frame(100, 1)), uint64(offloads), true, false)
	f.Add(one, join(header(1, 0, 0, 0, 0xffff, 0xffff, 0), frame(100, 1)), uint64(offloads), true, false)
	f.Add(one, join(header(1, 0x81, 0xffff, 0xffff, 34, 16, 0), frame(100, 1)), uint64(offloads), true, false)
	f.Add(rings([]desc{{bareData, 5, descNext, 0}}, 0), noHeader, uint64(0), true, false)
	f.Add(rings([]desc{{bareMemory - 8, 64, 0, 0}}, 0, 0xffff), noHeader, uint64(0), true, false)
	f.Add(rings([]desc{{bareData, 200000, 0, 0}}, 0), noHeader, uint64(0), true, true)
	f.Fuzz(func(t *testing.T, ring, data []byte, features uint64, vnet, packed bool) {
		b := newBare(t, Config{Backend: Backend{VNetHdr: vnet, Offloads: vnet}}, virtqtest.Options{Packed: packed, Indirect: true})
		b.setUp(ring, data)
		features = effective(features & b.d.Features())
		var messages uint64
		b.d.pairs[0].conn = &drained{b, t, make([]byte, 1<<17), func(m []byte) {
			messages++
			if vnet {
				h := [hdrLen]byte(m)
				m = m[hdrLen:]
				if err := checkTx(&h, uint64(len(m)), features); err != nil || h[hdrFlags]&^flagNeedsCsum != 0 {
					t.Fatalf("header % x with %d bytes: %v", h, len(m), err)
				}
			}
			if len(m) < ethLen || len(m) > maxFrame {
				t.Fatalf("frame of %d bytes", len(m))
			}
		}}
		w := newTx(b.d, b.d.pairs[0], b.q, features)
		for range 4 {
			done, err := w.Step()
			if err != nil && !ringOrStop(err) {
				t.Fatal(err)
			}
			if done || err != nil {
				break
			}
		}
		if s := b.d.Stats(); s.TxPackets != messages || s.TxPackets+s.TxErrors+s.TxDrops > 4*batch || b.q.InFlight() != 0 || b.d.lost.Load() {
			t.Fatalf("%+v, %d messages, %d in flight", s, messages, b.q.InFlight())
		}
		b.check()
	})
}

func FuzzNetRX(f *testing.F) {
	var table []desc
	var heads []uint16
	for i := range uint16(20) {
		table = append(table, desc{bareData + 1526*uint64(i), 1526, descWrite, 0})
		heads = append(heads, i)
	}
	large := rings(table, heads...)
	f.Add(large, frame(1514, 1), uint16(1), false, uint64(0), false)
	f.Add(large, frame(20000, 1), uint16(3), false, uint64(MrgRxbuf), false)
	f.Add(large, join(header(1, 1, 54, 1448, 34, 16, 9), frame(20000, 1)), uint16(2), true, uint64(MrgRxbuf|offloads), false)
	f.Add(large, join(header(1, 0x83, 54, 1448, 34, 16, 9), frame(2000, 1)), uint16(2), true, uint64(MrgRxbuf|offloads), false)
	f.Add(large, []byte{1, 2, 3}, uint16(2), true, uint64(0), false)
	f.Add(rings([]desc{{bareData, 11, descWrite, 0}, {bareData, 0, descWrite | descNext, 2}, {bareData, 100, descWrite, 0}}, 0, 1, 0), frame(60, 1), uint16(4), false, uint64(MrgRxbuf), false)
	f.Add(rings([]desc{{bareMemory - 8, 64, descWrite, 0}}, 0, 0, 0), frame(60, 1), uint16(4), false, uint64(MrgRxbuf), false)
	f.Add(rings([]desc{{bareQueue, 1 << 16, descWrite, 0}}, 0, 0, 0), frame(60, 1), uint16(4), false, uint64(MrgRxbuf), false)
	f.Add(rings([]desc{{bareData, 64, descWrite, 0}}, 0), frame(60, 1), uint16(4), false, uint64(MrgRxbuf), true)
	f.Fuzz(func(t *testing.T, ring, message []byte, count uint16, vnet bool, features uint64, packed bool) {
		b := newBare(t, Config{MTU: 9000, Backend: Backend{VNetHdr: vnet, Offloads: vnet}}, virtqtest.Options{Packed: packed, Indirect: true})
		b.setUp(ring, nil)
		features = effective(features & b.d.Features())
		b.d.offloads.Store(features & guestOffloads)
		w := newRx(b.d, b.d.pairs[0], 0, b.q, features)
		waits := 0
		w.wait = func() error { // for buffers that never come
			waits++
			return virtio.ErrStopped
		}
		message = message[:min(len(message), 1<<17)]
		if len(message) == 0 {
			return
		}
		for range count % 16 {
			if err := w.hold(1); err != nil {
				if !ringOrStop(err) {
					t.Fatal(err)
				}
				break
			}
			if _, err := unix.Write(b.peer, message); err != nil {
				t.Fatal(err)
			}
			// What the back end sends is dropped in receive, which would wait for more, or delivered.
			n, ok := w.once(t)
			if !ok {
				continue
			}
			if err := w.deliver(n); err != nil {
				if !ringOrStop(err) {
					t.Fatal(err)
				}
				break
			}
		}
		if s := b.d.Stats(); w.n > len(w.held) || b.q.InFlight() != w.n || s.RxPackets+s.RxDrops > 16 || waits > 1 {
			t.Fatalf("%+v, %d held, %d in flight, %d waits", s, w.n, b.q.InFlight(), waits)
		}
		b.check()
	})
}

// once is receive of a message that is there, for one that is dropped it is false.
func (w *rx) once(t *testing.T) (int, bool) {
	drops := w.p.rxDrops.Load()
	w.d.pairs[0].conn = &once{RawConn: w.p.conn, d: w.d}
	n, err := w.receive()
	w.d.pairs[0].conn = w.d.pairs[0].conn.(*once).RawConn
	w.d.stopping.Store(false)
	switch dropped := w.p.rxDrops.Load() - drops; {
	case err == nil && dropped == 0:
		return n, true
	case errors.Is(err, virtio.ErrStopped) && dropped == 1:
		return 0, false
	default:
		t.Fatalf("%v, %d dropped", err, dropped)
		return 0, false
	}
}

// once is a connection that is read once; then the device stops.
type once struct {
	syscall.RawConn
	d *Device
}

func (c *once) Read(f func(fd uintptr) bool) error {
	err := c.RawConn.Read(f)
	c.d.stopping.Store(true)
	return err
}

func FuzzNetCtrl(f *testing.F) {
	f.Add([]byte{4, 0, 2, 0}, uint8(4), uint64(MQ|CtrlVQ), []byte(nil))
	f.Add([]byte{4, 0, 0, 0}, uint8(1), uint64(MQ|CtrlVQ), []byte(nil))
	f.Add([]byte{5, 0, 0x82, 0, 0, 0, 0, 0, 0, 0}, uint8(2), uint64(offloads|CtrlGuestOffloads|CtrlVQ), []byte(nil))
	f.Add([]byte{0, 0, 1}, uint8(2), uint64(CtrlVQ), []byte(nil))
	f.Add(bytes.Repeat([]byte{4}, 300), uint8(9), uint64(MQ|CtrlVQ), []byte(nil))
	f.Add([]byte{}, uint8(0), uint64(CtrlVQ), rings([]desc{{bareMemory - 1, 2, 0, 0}}, 0))
	f.Add([]byte{}, uint8(0), uint64(CtrlVQ), rings([]desc{{bareData, 4, descNext, 1}, {bareData, 1, descWrite | descNext, 0}}, 0))
	f.Fuzz(func(t *testing.T, command []byte, cut uint8, features uint64, ring []byte) {
		b := newBare(t, Config{Backend: Backend{VNetHdr: true, Offloads: true}}, virtqtest.Options{Indirect: true})
		features = effective(features)
		b.d.c.SetPairs = func(n int) error {
			if n != 1 || features&MQ == 0 {
				t.Fatalf("%d pairs", n)
			}
			return nil
		}
		b.d.c.SetOffloads = func(o uint64) error {
			if o&^(features&guestOffloads) != 0 {
				t.Fatalf("offloads %#x", o)
			}
			return nil
		}
		if len(ring) > 0 {
			b.setUp(ring, command)
		} else {
			command = command[:min(len(command), 4096)]
			b.drv.Add(split(command, max(int(cut), len(command)/64+1)), 1)
			b.check = b.drv.Watch().Check
		}
		w := newCtrl(b.d, b.q, features)
		for range 4 {
			done, err := w.Step()
			if err != nil && !ringOrStop(err) {
				t.Fatal(err)
			}
			if done || err != nil {
				break
			}
		}
		if b.q.InFlight() != 0 {
			t.Fatalf("%d in flight", b.q.InFlight())
		}
		b.check()
	})
}
