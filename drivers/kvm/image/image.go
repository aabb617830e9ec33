// Package image makes, describes, converts, resizes and checks images of disks for the kvm driver, as the command
// "polyvisor image" does.
//
// All functions lock the files that they use, so that they do not meet a virtual machine, and end early with the
// context's error.
package image

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk/qcow2"
)

// Format is a format of images.
type Format string

// The formats. An empty Format stands for that which the file has by its looks; it is meant for people, since a guest can make
// its raw disk look like anything.
const (
	Raw   Format = "raw"
	QCOW2 Format = "qcow2"
)

// Progress is told how many bytes of the disk are done. It is called from one goroutine.
type Progress func(done, total int64)

// ErrInUse is in the error of an image that a virtual machine or another program has open.
var ErrInUse = disk.ErrLocked

// ErrCorrupt is in the error of an image that is damaged.
var ErrCorrupt = qcow2.ErrCorrupt

// maxDepth bounds chains of backing files.
const maxDepth = 16

// foreign are the signatures of formats that no maintained library in Go reads.
var foreign = []struct {
	name string
	at   int64
	text string
}{
	{"vmdk", 0, "KDMV"}, {"vmdk", 0, "COWD"}, {"vmdk", 0, "# Disk DescriptorFile"}, {"vhdx", 0, "vhdxfile"},
	{"vdi", 64, "\x7f\x10\xda\xbe"}, {"vpc", 0, "conectix"}, {"qed", 0, "QED\x00"}, {"parallels", 0, "WithoutFreeSpace"}, {"parallels", 0, "WithouFreSpacExt"},
}

// settle gives the format that a file has, if it is not stated.
func (f Format) settle(r io.ReaderAt, path string) (Format, error) {
	switch f {
	case Raw, QCOW2:
		return f, nil
	case "":
	default:
		return "", fmt.Errorf("format %q is not supported, only raw and qcow2 are: convert with qemu-img convert -f %s -O qcow2", string(f), string(f))
	}
	head := make([]byte, 512)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	head = head[:n]
	if bytes.HasPrefix(head, []byte("QFI\xfb")) {
		return QCOW2, nil
	}
	for _, s := range foreign {
		if int64(len(head)) > s.at && bytes.HasPrefix(head[s.at:], []byte(s.text)) {
			return "", fmt.Errorf("%s looks like an image of the format %s, which is not supported: qemu-img convert -f %s -O qcow2 makes one that is; if it is raw, state that", path, s.name, s.name)
		}
	}
	return Raw, nil
}

// source is an image that is read.
type source interface {
	io.ReaderAt
	Size() int64
	// Zero says how many of the n bytes at off are known to be zero, or are not.
	Zero(off, n int64) (bool, int64, error)
	Close() error
}

// openFile opens and locks a file; shared for reading.
func openFile(path string, write bool) (*os.File, error) {
	flags := os.O_RDONLY
	if write {
		flags = os.O_RDWR
	}
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() && fi.Mode().Type() != os.ModeDevice {
		return nil, fmt.Errorf("%s is neither a regular file nor a block device", path)
	}
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return nil, err
	}
	if err := disk.Lock(f, !write); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// chain opens images and, where it is allowed, what they are based on.
type chain struct {
	allowed bool
	files   []os.FileInfo
}

func (c *chain) open(path string, format Format) (source, error) {
	f, err := openFile(path, false)
	if err != nil {
		return nil, err
	}
	s, err := c.of(f, path, format)
	if err != nil {
		f.Close()
	}
	return s, err
}

func (c *chain) of(f *os.File, path string, format Format) (source, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	for _, other := range c.files {
		if os.SameFile(fi, other) {
			return nil, fmt.Errorf("%s is based on itself", path)
		}
	}
	if c.files = append(c.files, fi); len(c.files) > maxDepth {
		return nil, fmt.Errorf("%s: more than %d images are based on each other: merge some with qemu-img rebase", path, maxDepth)
	}
	if format, err = format.settle(f, path); err != nil {
		return nil, err
	}
	if format == Raw {
		return rawOf(f)
	}
	o := qcow2.Options{ReadOnly: true, Zstd: unzstd}
	if c.allowed {
		o.Backing = func(name, format string) (qcow2.Backing, error) {
			return c.open(relative(path, name), Format(format))
		}
	}
	im, err := qcow2.Open(f, o)
	if err != nil {
		return nil, err
	}
	return im, nil
}

// relative gives the path of a backing file, whose name counts from the directory of the image at path.
func relative(path, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(path), name)
}

// unzstd decompresses one cluster. What follows it in the last sector is not looked at.
func unzstd(dst, src []byte) error {
	d, err := zstd.NewReader(bytes.NewReader(src), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(8<<20), zstd.WithDecoderLowmem(true))
	if err != nil {
		return err
	}
	defer d.Close()
	_, err = io.ReadFull(d, dst)
	return err
}
