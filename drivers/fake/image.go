package fake

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/polyvisor/polyvisor"
)

const sectorSize = 512

// image is the open image of a disk.
type image struct {
	target string
	file   *os.File
	id     imageID
	size   int64
	raw    bool
	write  bool // the guest may
	force  bool // others may write too
	held   bool // counted in Hypervisor.images
	stats  polyvisor.DiskStats
}

// openImage opens the image of a disk, for writing too if the guest may.
func openImage(d *polyvisor.Disk) (img *image, err error) {
	flag := os.O_RDONLY
	if d.Mode.Writable() {
		flag = os.O_RDWR
	}
	f, err := open(d.Source, flag)
	if err != nil {
		return nil, fmt.Errorf("disk %s: %w", d.Target, err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			img, err = nil, fmt.Errorf("disk %s: image %s: %w", d.Target, d.Source, err)
		}
	}()
	if d.Source.Open != nil && !accessible(f, d.Mode.Writable()) {
		return nil, fmt.Errorf("%w: it was not opened for what mode %s needs", polyvisor.ErrInvalidConfig, d.Mode)
	}
	st, err := f.Stat()
	if err != nil {
		return nil, classify(err)
	}
	if !st.Mode().IsRegular() && st.Mode()&os.ModeDevice == 0 {
		return nil, fmt.Errorf("%w: neither a file nor a device", polyvisor.ErrInvalidConfig)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, classify(err)
	}
	img = &image{
		target: d.Target, file: f, id: identify(st, d.Source.Path), size: size, raw: d.Format != polyvisor.FormatQCOW2,
		write: d.Mode.Writable(), force: d.Mode == polyvisor.DeviceReadWriteForce,
		stats: polyvisor.DiskStats{Target: d.Target},
	}
	if !img.raw {
		img.size, err = qcow2Size(f)
	}
	return img, err
}

// qcow2Size reads the size that the guest sees out of the header of an image.
func qcow2Size(r io.ReaderAt) (int64, error) {
	var head [32]byte
	if _, err := r.ReadAt(head[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return 0, classify(err)
	}
	size := binary.BigEndian.Uint64(head[24:])
	if string(head[:4]) != "QFI\xfb" || size > 1<<62 {
		return 0, fmt.Errorf("%w: not in the format qcow2", polyvisor.ErrInvalidConfig)
	}
	return int64(size), nil
}

// lockImagesLocked makes sure that no two guests write to one image, unless
// both are forced to it.
func (h *Hypervisor) lockImagesLocked(f *files) error {
	if f == nil {
		return nil
	}
	for _, img := range f.disks {
		if err := h.lockImageLocked(img); err != nil {
			h.unlockImagesLocked(f)
			return err
		}
	}
	return nil
}

func (h *Hypervisor) lockImageLocked(img *image) error {
	if !img.write {
		return nil
	}
	if h.images[img.id] > 0 && !img.force {
		return fmt.Errorf("%w: disk %s: another guest writes to image %s; stop it, or use mode %s", polyvisor.ErrBusy, img.target, img.file.Name(), polyvisor.DeviceReadOnly)
	}
	h.images[img.id]++
	img.held = true
	return nil
}

func (h *Hypervisor) unlockImagesLocked(f *files) {
	if f == nil {
		return
	}
	for _, img := range f.disks {
		h.unlockImageLocked(img)
	}
}

func (h *Hypervisor) unlockImageLocked(img *image) {
	if !img.held {
		return
	}
	img.held = false
	if h.images[img.id]--; h.images[img.id] == 0 {
		delete(h.images, img.id)
	}
}

var (
	errQCOW2    = errors.New("the fake guest reads and writes raw images only")
	errSector   = errors.New("no such sector")
	errReadOnly = errors.New("the disk is read-only")
)

func (img *image) check(sector uint64) error {
	switch {
	case !img.raw:
		return errQCOW2
	case sector >= uint64(img.size)/sectorSize:
		return errSector
	}
	return nil
}

// readSector reads one sector, and counts.
func (img *image) readSector(sector uint64, p []byte) error {
	err := img.check(sector)
	if err == nil {
		_, err = img.file.ReadAt(p[:sectorSize], int64(sector)*sectorSize)
	}
	img.stats.ReadRequests++
	if err != nil {
		img.stats.Errors++
		return err
	}
	img.stats.ReadBytes += sectorSize
	return nil
}

func (img *image) writeSector(sector uint64, p []byte) error {
	err := img.check(sector)
	if err == nil && !img.write {
		err = errReadOnly
	}
	if err == nil {
		_, err = img.file.WriteAt(p[:sectorSize], int64(sector)*sectorSize)
	}
	img.stats.WriteRequests++
	if err != nil {
		img.stats.Errors++
		return err
	}
	img.stats.WriteBytes += sectorSize
	return nil
}

func (img *image) flush() error {
	img.stats.FlushRequests++
	if err := img.file.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) {
		img.stats.Errors++
		return err
	}
	return nil
}

func isBadDescriptor(err error) bool { return errors.Is(err, syscall.EBADF) }
