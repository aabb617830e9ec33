package linux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Image is an input file. The loader only calls R.ReadAt (and, for a sparse
// *os.File, Seek to find its holes, which moves the file position); it neither
// closes nor keeps R.
type Image struct {
	R    io.ReaderAt
	Size int64  // bytes
	Name string // for error messages, usually the path
}

// Open describes an open file. It fails on anything but a regular file.
func Open(f *os.File) (Image, error) {
	st, err := f.Stat()
	if err != nil {
		return Image{}, &Error{File: f.Name(), Offset: -1, Err: fmt.Errorf("%w: %w", ErrRead, err)}
	}
	if !st.Mode().IsRegular() {
		return Image{}, &Error{File: f.Name(), Offset: -1, Err: ErrRead,
			Reason: fmt.Sprintf("it is not a regular file (%v)", st.Mode().Type()), Remedy: "name a file"}
	}
	return Image{R: f, Size: st.Size(), Name: f.Name()}, nil
}

// OpenPath opens a file for loading; the caller closes it. Its errors are
// *Error values that name the path. A named pipe or a device is refused without
// waiting for it.
func OpenPath(path string) (*os.File, Image, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		e := &Error{File: path, Offset: -1, Err: fmt.Errorf("%w: %w", ErrRead, err)}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			e.Remedy = "check the path"
		case errors.Is(err, fs.ErrPermission):
			e.Remedy = "make the file readable for this user"
		}
		return nil, Image{}, e
	}
	img, err := Open(f)
	if err != nil {
		f.Close()
		return nil, Image{}, err
	}
	return f, img, nil
}

// Format tells kernel images apart.
type Format int

// The formats that [Detect] knows.
const (
	ELF Format = iota + 1
	BzImage
)

func (f Format) String() string {
	switch f {
	case ELF:
		return "ELF vmlinux"
	case BzImage:
		return "bzImage"
	}
	return fmt.Sprintf("Format(%d)", int(f))
}

// wrongMagic names files that are often mistaken for a kernel, and says what to do with them.
var wrongMagic = []struct{ magic, what, remedy string }{
	{"\x1f\x8b", "it is a gzip file", "unpack it with gunzip"},
	{"\xfd7zXZ\x00", "it is an xz file", "unpack it with xz -d"},
	{"\x28\xb5\x2f\xfd", "it is a zstd file", "unpack it with zstd -d"},
	{"BZh", "it is a bzip2 file", "unpack it with bzip2 -d"},
	{"070701", "it is a cpio archive", "is this the initrd? " + remedyKernel},
	{"QFI\xfb", "it is a qcow2 disk image", "give it as a disk, and " + remedyKernel},
	{"#!", "it is a script", remedyKernel},
	{"MZ", "it is an EFI program without a Linux setup header", remedyKernel},
}

// Detect says what kind of kernel an image is, from its magic numbers alone.
func Detect(img Image) (Format, error) {
	var head [0x206]byte
	n := min(max(img.Size, 0), int64(len(head)))
	if err := img.read(head[:n], 0, "first bytes"); err != nil {
		return 0, err
	}
	b := head[:n]
	switch {
	case n == 0:
		return 0, img.fail("", -1, ErrTruncated, "it is empty", remedyCopy)
	case bytes.HasPrefix(b, []byte(elfMagic)):
		return ELF, nil
	case n == int64(len(head)) && string(b[0x202:0x206]) == setupMagic:
		return BzImage, nil
	case n < int64(len(head)) && (bytes.HasPrefix(b, []byte("MZ")) ||
		bytes.HasPrefix([]byte("MZ"), b) || bytes.HasPrefix([]byte(elfMagic), b)):
		return 0, img.fail("first bytes", 0, ErrTruncated,
			fmt.Sprintf("only %d bytes", img.Size), remedyCopy)
	}
	for _, w := range wrongMagic {
		if bytes.HasPrefix(b, []byte(w.magic)) {
			return 0, img.fail("first bytes", 0, ErrBadMagic, w.what, w.remedy)
		}
	}
	return 0, img.fail("first bytes", 0, ErrBadMagic,
		"neither an ELF file nor a bzImage", remedyKernel)
}

func (img Image) fail(part string, off int64, err error, reason, remedy string) error {
	return &Error{File: img.Name, Part: part, Offset: off, Err: err, Reason: reason, Remedy: remedy}
}

// read fills p from the file at off.
func (img Image) read(p []byte, off int64, part string) error {
	if off < 0 || off > img.Size || int64(len(p)) > img.Size-off {
		return img.fail(part, off, ErrTruncated,
			fmt.Sprintf("%d bytes wanted, the file has %d", len(p), img.Size), remedyCopy)
	}
	if len(p) == 0 {
		return nil
	}
	n, err := img.R.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return img.fail(part, off+int64(n), ErrTruncated,
			"the file ended while it was read", "do not change the file during a start")
	default:
		return img.fail(part, off, fmt.Errorf("%w: %w", ErrRead, err), "", "")
	}
}

// readChunk bounds one pread, so that a cancelled load ends soon.
const readChunk = 4 << 20

// readInto reads the len(dst) bytes at off into guest memory. When fresh is
// set dst is known to be zero, and the holes of a sparse file are not copied.
func (img Image) readInto(ctx context.Context, dst []byte, off int64, part string, fresh bool) error {
	for len(dst) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := int64(len(dst))
		if fresh {
			skip, data := nextData(img.R, off, n)
			if dst, off, n = dst[skip:], off+skip, data; n == 0 {
				continue
			}
		}
		n = min(n, readChunk)
		if err := img.read(dst[:n], off, part); err != nil {
			return err
		}
		dst, off = dst[n:], off+n
	}
	return nil
}
