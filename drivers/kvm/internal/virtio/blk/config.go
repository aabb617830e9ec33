package blk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk"
)

// MaxQueues bounds the queues of a device.
const MaxQueues = 16

// DefaultQueues is the number of queues for a machine of so many vCPUs.
func DefaultQueues(vcpus int) int { return max(1, min(vcpus, 4)) }

// Config describes a block device.
type Config struct {
	// Name is the disk in errors and failures, for instance its target "vda".
	Name string
	// Image holds the data. It stays the caller's, who closes it when the device is stopped.
	Image    disk.Image
	ReadOnly bool
	Cache    disk.Cache
	// Serial is what the guest reads as the disk's serial number, at most 20 bytes.
	Serial string
	// Queues is the number of request queues, 1 if it is 0.
	Queues int
	// BlockSize is the guest's logical block, 512 (also for 0) or 4096 bytes. The image must be a multiple of it.
	BlockSize int
	// PhysicalBlockSize is what the storage likes to write at the least, in bytes; 4096 if it is 0.
	PhysicalBlockSize int
	// OnFailure, if not nil, is told of the storage's errors, on a goroutine of the device: it must not block, nor stop the device.
	OnFailure func(Failure)
}

func (c *Config) check() error {
	if c.Queues == 0 {
		c.Queues = 1
	}
	if c.BlockSize == 0 {
		c.BlockSize = disk.SectorSize
	}
	if c.PhysicalBlockSize == 0 {
		c.PhysicalBlockSize = 4096
	}
	switch {
	case c.Image == nil:
		return errors.New("no image")
	case c.Image.Size() <= 0 || c.Image.Size()%disk.SectorSize != 0:
		return fmt.Errorf("its size of %d bytes is not a positive multiple of %d", c.Image.Size(), disk.SectorSize)
	case c.Queues < 1 || c.Queues > MaxQueues:
		return fmt.Errorf("%d queues: use 1 to %d", c.Queues, MaxQueues)
	case len(c.Serial) > idSize:
		return fmt.Errorf("serial number %q has %d bytes: use at most %d", c.Serial, len(c.Serial), idSize)
	case c.BlockSize != 512 && c.BlockSize != 4096:
		return fmt.Errorf("logical block size %d: use 512 or 4096", c.BlockSize)
	case c.Image.Size()%int64(c.BlockSize) != 0:
		return fmt.Errorf("its size of %d bytes is not a multiple of its logical block size %d", c.Image.Size(), c.BlockSize)
	case c.PhysicalBlockSize < c.BlockSize || c.PhysicalBlockSize&(c.PhysicalBlockSize-1) != 0 || c.PhysicalBlockSize > 1<<20:
		return fmt.Errorf("physical block size %d: use a power of two from the logical one to 1 MiB", c.PhysicalBlockSize)
	case c.Cache < disk.Writeback || c.Cache > disk.Unsafe:
		return fmt.Errorf("cache mode %v is not known", c.Cache)
	}
	return nil
}

func (c *Config) features() uint64 {
	f := uint64(FeatureSegMax | FeatureBlockSize | FeatureTopology | FeatureMultiQueue)
	if c.ReadOnly {
		f |= FeatureReadOnly
	} else {
		f |= FeatureDiscard | FeatureWriteZeroes
	}
	if c.Cache != disk.Unsafe {
		f |= FeatureFlush | FeatureConfigWCE
	}
	return f
}

// space makes the configuration space, without the byte that changes.
func (c *Config) space() (s [configSize]byte) {
	le := binary.LittleEndian
	le.PutUint64(s[configCapacity:], uint64(c.Image.Size()/disk.SectorSize))
	le.PutUint32(s[configSegMax:], segMax)
	le.PutUint32(s[configBlockSize:], uint32(c.BlockSize))
	perPhysical := c.PhysicalBlockSize / c.BlockSize
	s[configPhysicalExp] = byte(bits.TrailingZeros(uint(perPhysical)))
	le.PutUint16(s[configMinIO:], uint16(perPhysical))
	le.PutUint16(s[configQueues:], uint16(c.Queues))
	if !c.ReadOnly {
		le.PutUint32(s[configMaxDiscard:], maxDiscard)
		le.PutUint32(s[configDiscardSegs:], maxRanges)
		le.PutUint32(s[configDiscardUnit:], discardUnit)
		le.PutUint32(s[configMaxZeroes:], maxZeroes)
		le.PutUint32(s[configZeroesSegs:], maxRanges)
		s[configZeroesUnmap] = 1
	}
	return s
}
