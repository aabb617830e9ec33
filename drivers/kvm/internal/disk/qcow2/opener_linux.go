package qcow2

import (
	"fmt"
	"os"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk"
)

// Opener opens qcow2 images with the options, of which ReadOnly is the disk's. Direct is refused: tables are read in
// units that are smaller than what O_DIRECT takes.
func Opener(o Options) disk.Opener {
	return func(f *os.File, d disk.Options) (disk.Image, error) {
		if d.Direct {
			return nil, fmt.Errorf("disk image %s: a qcow2 image cannot bypass the host's page cache: use the cache mode writeback, or a raw image", f.Name())
		}
		o.ReadOnly = d.ReadOnly
		return Open(f, o)
	}
}
