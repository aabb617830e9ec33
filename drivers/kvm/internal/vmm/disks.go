//go:build linux && amd64

package vmm

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk/qcow2"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk/raw"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/blk"
)

// formats are the image formats by name.
var formats = map[string]disk.Opener{
	"raw":   raw.Open,
	"qcow2": qcow2.Opener(qcow2.Options{}),
}

// MaxDiskQueues bounds Disk.Queues.
const MaxDiskQueues = blk.MaxQueues

// blockDevice is a disk of the machine.
type blockDevice struct {
	name string
	*blk.Device
}

// newDisk opens the image of a disk and makes the device, whose image is closed by the machine's undo list.
func (m *Machine) newDisk(s Disk, opts Options, failed func(error)) (*blockDevice, error) {
	wrong := func(err error) error { return fmt.Errorf("disk %s: %w", s.Name, err) }
	open, ok := formats[s.Format]
	if !ok {
		return nil, wrong(fmt.Errorf("%w: unknown format %q", ErrSpec, s.Format))
	}
	cache, err := disk.ParseCache(s.Cache)
	if err != nil {
		return nil, wrong(fmt.Errorf("%w: %w", ErrSpec, err))
	}
	f, err := duplicate(opts.Files[s.File])
	if err != nil {
		return nil, wrong(err)
	}
	// The lock was taken by whoever opened the file, and belongs to all its duplicates.
	image, err := disk.FromFile(f, disk.Options{ReadOnly: s.ReadOnly, Direct: cache == disk.None, NoLock: true}, open)
	if err != nil {
		return nil, wrong(err)
	}
	m.undo.add(image.Close)
	if s.Queues == 0 {
		s.Queues = blk.DefaultQueues(m.spec.VCPUs)
	}
	d, err := blk.New(blk.Config{
		Name: s.Name, Image: image, ReadOnly: s.ReadOnly, Cache: cache, Serial: s.Serial, Queues: s.Queues,
		OnFailure: func(f blk.Failure) { failed(errors.New(f.String())) },
	})
	if err != nil {
		return nil, wrong(err)
	}
	return &blockDevice{s.Name, d}, nil
}

// duplicate gives a file of the caller's under a descriptor of our own: it serves the next boot too.
func duplicate(f *os.File) (*os.File, error) {
	if f == nil {
		return nil, fmt.Errorf("%w: its file is not open", ErrSpec)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	if cerr := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil {
		return nil, cerr
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// DiskInfo is what a disk has counted.
type DiskInfo struct {
	Name string
	blk.Stats
}

// diskInfo reads the counters of all disks.
func (d *devices) diskInfo() []DiskInfo {
	var list []DiskInfo
	for _, b := range d.disks {
		list = append(list, DiskInfo{b.name, b.Stats()})
	}
	return list
}
