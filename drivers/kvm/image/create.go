package image

import (
	"fmt"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk/qcow2"
)

// CreateOptions say what a new image is like.
type CreateOptions struct {
	Format      Format // empty is QCOW2
	ClusterSize int64  // bytes; 0 is 64 KiB. For QCOW2
	// Backing is the file that the new image is based on, and BackingFormat its format, which must be stated. For QCOW2
	Backing       string
	BackingFormat Format
	Force         bool // replace a file that is there
}

// Create makes an image of a disk of size bytes at path, or nothing if there is an error. A size of 0 is that of the
// backing file.
func Create(path string, size int64, o CreateOptions) error {
	switch o.Format {
	case Raw, QCOW2, "":
	default:
		return fmt.Errorf("images of the format %q are not made, only raw and qcow2", string(o.Format))
	}
	if o.Format == Raw && (o.Backing != "" || o.ClusterSize != 0) {
		return fmt.Errorf("a raw image has no backing file and no clusters")
	}
	if o.Backing != "" {
		if o.BackingFormat == "" {
			return fmt.Errorf("the format of the backing file %s is not stated", o.Backing)
		}
		c := chain{allowed: true}
		b, err := c.open(relative(path, o.Backing), o.BackingFormat)
		if err != nil {
			return fmt.Errorf("backing file: %w", err)
		}
		if size == 0 {
			size = (b.Size() + 511) &^ 511
		}
		if err := b.Close(); err != nil {
			return err
		}
	}
	if size <= 0 || size%512 != 0 {
		return fmt.Errorf("a disk of %d bytes is not possible: the size is a positive multiple of 512", size)
	}
	out, err := newOutput(path, o.Force)
	if err != nil {
		return err
	}
	if err := out.Chmod(0o644); err != nil {
		return out.finish(err)
	}
	if o.Format == Raw {
		return out.finish(out.Truncate(size))
	}
	return out.finish(qcow2.Create(out, size, qcow2.CreateOptions{ClusterSize: o.ClusterSize, Backing: o.Backing, BackingFormat: string(o.BackingFormat)}))
}
