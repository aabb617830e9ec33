//go:build linux && amd64

package main

import (
	"encoding/binary"
	"errors"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq"
)

// A queue as the reference's: 256 entries of a split ring, requests of one buffer to write into.
const (
	entries   = 256
	ringMem   = 16 << 20
	descAddr  = 0x100000
	availAddr = 0x101000
	usedAddr  = 0x101240
	dataAddr  = 0x200000
)

// ring is a queue whose driver makes one request available again and again.
type ring struct {
	mem     *guestmem.Memory
	q       *virtq.Queue
	entries []uint16 // of the available ring
	index   *guestmem.Uint16
	offered uint16
	chain   virtq.Chain
}

func newRing() (*ring, error) {
	mem, err := guestmem.New(ringMem)
	if err != nil {
		return nil, err
	}
	r := &ring{mem: mem}
	if err := r.lay(); err != nil {
		return nil, errors.Join(err, mem.Close())
	}
	return r, nil
}

func (r *ring) lay() error {
	desc := make([]byte, 16)
	binary.LittleEndian.PutUint64(desc, dataAddr)
	binary.LittleEndian.PutUint32(desc[8:], 4096)
	binary.LittleEndian.PutUint16(desc[12:], 2) // for the device to write
	if err := r.mem.WriteAt(desc, descAddr); err != nil {
		return err
	}
	avail, err := r.mem.Slice(availAddr, 6+2*entries)
	if err != nil {
		return err
	}
	r.index = &guestmem.View[guestmem.Uint16](avail)[1]
	r.entries = guestmem.View[uint16](avail[4 : 4+2*entries])
	r.q, err = virtq.New(r.mem, virtq.Config{Size: entries, Desc: descAddr, Driver: availAddr, Device: usedAddr})
	return err
}

// do takes n requests and gives them back.
func (r *ring) do(n int) error {
	for range n {
		r.entries[r.offered%entries] = 0
		r.offered++
		r.index.Store(r.offered)
		ok, err := r.q.Pop(&r.chain)
		if err != nil {
			return err
		}
		if !ok {
			return errors.New("no request")
		}
		r.q.Push(&r.chain, 1)
	}
	return nil
}
