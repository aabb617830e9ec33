package blk

import (
	"fmt"
	"syscall"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk"
)

// execute does what a request asks of the storage and puts its status in place. It blocks for as long as the storage does.
func (r *request) execute(d *Device) {
	if r.op == opNothing {
		return
	}
	if err := r.act(d); err != nil {
		d.failures.report(d.c.OnFailure, d.now(), Failure{Disk: d.c.Name, Op: r.kind.String(), Sector: uint64(r.off) / disk.SectorSize, Err: err})
		r.answer(statusIOErr)
		return
	}
	r.answer(statusOK)
}

func (r *request) act(d *Device) error {
	switch r.op {
	case opRead:
		return d.read(r.data, r.off)
	case opWrite:
		if d.writeThrough() {
			return d.writeDurable(r.data, r.off)
		}
		return d.write(r.data, r.off)
	case opFlush:
		return d.flush()
	case opDiscard, opZeroes:
		for _, s := range r.ranges {
			if err := r.clear(d, s); err != nil {
				return err
			}
		}
		if d.writeThrough() {
			return d.sync()
		}
	}
	return nil
}

func (r *request) clear(d *Device, s span) error {
	if s.n == 0 {
		return nil
	}
	if r.op == opDiscard {
		return d.image.Discard(s.off, s.n)
	}
	return d.image.WriteZeroes(s.off, s.n, s.unmap)
}

func (d *Device) read(p [][]byte, off int64) error {
	if d.vectored != nil {
		return d.vectored.ReadVec(p, off)
	}
	for _, b := range p {
		if _, err := d.image.ReadAt(b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

func (d *Device) write(p [][]byte, off int64) error {
	if d.vectored != nil {
		return d.vectored.WriteVec(p, off)
	}
	for _, b := range p {
		if _, err := d.image.WriteAt(b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

func (d *Device) writeDurable(p [][]byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	if d.durable == nil {
		if err := d.write(p, off); err != nil {
			return err
		}
		return d.sync()
	}
	d.syncing.RLock()
	defer d.syncing.RUnlock()
	err := d.durable.WriteDurable(p, off)
	if err != nil {
		// It also took away the error that a later flush would have got for other writes.
		d.lost.Store(true)
	}
	return err
}

// flush is the guest's.
func (d *Device) flush() error {
	if d.c.Cache == disk.Unsafe {
		return nil
	}
	return d.sync()
}

// sync makes all that was written durable, or fails for ever. One at a time, since the kernel tells of an error once: a second flush beside
// the one that fails would succeed. Those who wait share the next one that begins.
func (d *Device) sync() error {
	before := d.begun.Load()
	d.syncing.Lock()
	defer d.syncing.Unlock()
	switch {
	case d.lost.Load():
		return errLost
	case d.begun.Load() > before: // whoever began it after we came had the lock, so it is over, and well
		return nil
	}
	d.begun.Add(1)
	if err := d.image.Flush(); err != nil {
		d.lost.Store(true)
		return err
	}
	return nil
}

var errLost = fmt.Errorf("an earlier flush or durable write failed, so what the guest wrote may not be on disk: stop the machine, check the storage and the file system on the disk, and start it anew: %w", syscall.EIO)
