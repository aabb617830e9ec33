package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk/qcow2"
)

// ConvertOptions say how an image is copied.
type ConvertOptions struct {
	From, To    Format // To empty is QCOW2
	ClusterSize int64  // bytes, of QCOW2; 0 is 64 KiB
	Backing     bool   // what the source is based on is read too; else such a source is refused
	Force       bool   // replace a file that is there
	Progress    Progress
}

// chunk is what is copied at a time; unit is how much of it must be zero not to be written.
const (
	chunk = 1 << 20
	unit  = 4096
)

// Convert copies an image to a new one, without what is zero. The destination is there when it is complete and on stable storage; after
// an error nothing of it is left.
func Convert(ctx context.Context, from, to string, o ConvertOptions) (err error) {
	switch o.To {
	case Raw, QCOW2, "":
	default:
		return fmt.Errorf("images of the format %q are not made, only raw and qcow2", string(o.To))
	}
	if o.To == Raw && o.ClusterSize != 0 {
		return fmt.Errorf("a raw image has no clusters")
	}
	c := chain{allowed: o.Backing}
	src, err := c.open(from, o.From)
	if err != nil {
		return err
	}
	defer src.Close()
	out, err := newOutput(to, o.Force)
	if err != nil {
		return err
	}
	if err := out.Chmod(0o644); err != nil {
		return out.finish(err)
	}
	size := (src.Size() + 511) &^ 511
	if o.To == Raw {
		if err = out.Truncate(size); err == nil {
			err = copyData(ctx, out, src, o.Progress)
		}
		return out.finish(err)
	}
	return out.finish(toQCOW2(ctx, out, src, size, o))
}

func toQCOW2(ctx context.Context, out *output, src source, size int64, o ConvertOptions) error {
	if err := qcow2.Create(out, size, qcow2.CreateOptions{ClusterSize: o.ClusterSize}); err != nil {
		return err
	}
	// The image closes its descriptor, the output its own.
	fd, err := os.OpenFile(out.Name(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	im, err := qcow2.Open(fd, qcow2.Options{CacheBytes: 16 << 20})
	if err != nil {
		fd.Close()
		return err
	}
	err = copyData(ctx, im, src, o.Progress)
	if again := im.Close(); err == nil {
		err = again
	}
	return err
}

var zeroUnit [unit]byte

// copyData writes what is not zero; the destination is all zeroes.
func copyData(ctx context.Context, dst io.WriterAt, src source, progress Progress) error {
	buf := make([]byte, chunk)
	size := src.Size()
	for off := int64(0); off < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		zero, n, err := src.Zero(off, size-off)
		if err != nil {
			return err
		}
		if !zero {
			n = min(n, chunk-off%chunk)
			p := buf[:n]
			if _, err := src.ReadAt(p, off); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if err := writeData(dst, p, off); err != nil {
				return err
			}
		}
		off += n
		if progress != nil {
			progress(off, size)
		}
	}
	return nil
}

// writeData writes the runs of p that are not zero.
func writeData(dst io.WriterAt, p []byte, off int64) error {
	isZero := func(at int) bool {
		end := min(at+unit, len(p))
		return bytes.Equal(p[at:end], zeroUnit[:end-at])
	}
	for at := 0; at < len(p); {
		if isZero(at) {
			at += unit
			continue
		}
		end := at
		for end < len(p) && !isZero(end) {
			end += unit
		}
		end = min(end, len(p))
		if _, err := dst.WriteAt(p[at:end], off+int64(at)); err != nil {
			if errors.Is(err, syscall.ENOSPC) {
				return fmt.Errorf("%w: make room, or put the new image elsewhere", err)
			}
			return err
		}
		at = end
	}
	return nil
}
