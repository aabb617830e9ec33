package qcow2

import (
	"errors"
	"io"
	"os"
)

// storage is what an image asks of the file that it lies in; tests put faults and power cuts into it.
type storage interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	// Extend makes a file at least size bytes long; what comes in is zero.
	Extend(size int64) error
	// Punch gives space back, after which it reads as zeroes or as before.
	Punch(off, n int64)
	Size() (int64, error)
	Close() error
}

// osFile is storage in a file or block device of the host.
type osFile struct {
	*os.File
	noPunch bool
}

func (f *osFile) Size() (int64, error) {
	if fi, err := f.Stat(); err == nil && fi.Mode().IsRegular() {
		return fi.Size(), nil
	}
	return f.Seek(0, io.SeekEnd) // block devices; nothing here uses the position
}

// Extend does nothing for block devices. Only who has meta makes the file longer, or writes within the new size.
func (f *osFile) Extend(size int64) error {
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() || fi.Size() >= size {
		return err
	}
	return f.Truncate(size)
}

var zeroes [64 << 10]byte

func writeZeroes(w io.WriterAt, off, n int64) error {
	for n > 0 {
		part := zeroes[:min(n, int64(len(zeroes)))]
		if _, err := w.WriteAt(part, off); err != nil {
			return err
		}
		off, n = off+int64(len(part)), n-int64(len(part))
	}
	return nil
}

// readPadded reads as if zeroes followed the end: the last cluster of a file need not be whole.
func readPadded(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n < len(p) && !errors.Is(err, io.EOF) {
		return err
	}
	clear(p[n:])
	return nil
}
