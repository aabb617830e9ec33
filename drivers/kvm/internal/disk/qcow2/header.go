package qcow2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"
)

const (
	magic       = 0x514649fb // "QFI\xfb"
	headerV2    = 72
	headerV3    = 104
	maxHeader   = 64 << 10 // bytes of header, extensions and backing name that are looked at
	maxNameLen  = 1023
	maxL1Bytes  = 32 << 20
	maxRefBytes = 8 << 20
	maxOffset   = 1 << 56 // offsets in tables have 56 bits

	minClusterBits = 9
	maxClusterBits = 21
)

// Bits of incompatible features.
const (
	featureDirty = 1 << iota
	featureCorrupt
	featureDataFile
	featureCompression
	featureExtendedL2
)

const (
	autoclearBitmaps = 1

	extEnd           = 0
	extBackingFormat = 0xe2792aca
	extFeatureNames  = 0x6803f857
	extDataFile      = 0x44415441
)

// header is what an image's first cluster says.
type header struct {
	version                             uint32
	backing, backingFormat              string
	clusterBits                         uint32
	size                                uint64
	crypt                               uint32
	l1Size                              uint32
	l1Offset, refOffset                 uint64
	refClusters                         uint32
	snapshots                           uint32
	incompatible, compatible, autoclear uint64
	refOrder                            uint32
	length                              uint32
	compression                         uint8
	featureNames                        map[[2]byte]string // by type and bit
}

func (h *header) clusterSize() int64 { return 1 << h.clusterBits }

// parseHeader reads the header from the beginning of a file of size bytes.
func parseHeader(b []byte, size int64) (*header, error) {
	be := binary.BigEndian
	if len(b) < headerV2 {
		return nil, corrupt("the file of %d bytes is shorter than a header", size)
	}
	if be.Uint32(b) != magic {
		return nil, fmt.Errorf("not a qcow2 image: state the format that it has (qemu-img info tells)")
	}
	h := &header{
		version: be.Uint32(b[4:]), clusterBits: be.Uint32(b[20:]), size: be.Uint64(b[24:]), crypt: be.Uint32(b[32:]),
		l1Size: be.Uint32(b[36:]), l1Offset: be.Uint64(b[40:]), refOffset: be.Uint64(b[48:]), refClusters: be.Uint32(b[56:]),
		snapshots: be.Uint32(b[60:]), refOrder: 4, length: headerV2,
	}
	switch h.version {
	case 2:
	case 3:
		if len(b) < headerV3 {
			return nil, corrupt("the file of %d bytes is shorter than a header", size)
		}
		h.incompatible, h.compatible, h.autoclear = be.Uint64(b[72:]), be.Uint64(b[80:]), be.Uint64(b[88:])
		h.refOrder, h.length = be.Uint32(b[96:]), be.Uint32(b[100:])
	default:
		return nil, fmt.Errorf("qcow2 version %d is not known, only 2 and 3 are: qemu-img convert -O qcow2 makes a copy that is", h.version)
	}
	if h.clusterBits < minClusterBits || h.clusterBits > maxClusterBits {
		return nil, corrupt("clusters of 2^%d bytes; from 2^%d to 2^%d are possible", h.clusterBits, minClusterBits, maxClusterBits)
	}
	if h.version == 3 && (h.length < headerV3 || h.length%8 != 0 || int64(h.length) > min(h.clusterSize(), int64(len(b)))) {
		return nil, corrupt("a header of %d bytes", h.length)
	}
	if h.length > headerV3 {
		h.compression = b[104]
	}
	if err := h.parseBacking(b); err != nil {
		return nil, err
	}
	if err := h.parseExtensions(b); err != nil {
		return nil, err
	}
	return h, h.validate(size)
}

func (h *header) parseBacking(b []byte) error {
	off, n := binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint32(b[16:])
	if off == 0 {
		return nil
	}
	if n == 0 || n > maxNameLen || off > uint64(h.clusterSize()) || off+uint64(n) > uint64(min(h.clusterSize(), int64(len(b)))) {
		return corrupt("the name of the backing file, %d bytes at %d, is not in the first cluster", n, off)
	}
	h.backing = string(b[off : off+uint64(n)])
	if strings.ContainsRune(h.backing, 0) {
		return corrupt("the name of the backing file contains a zero byte")
	}
	return nil
}

func (h *header) parseExtensions(b []byte) error {
	end := min(h.clusterSize(), int64(len(b)))
	if off := binary.BigEndian.Uint64(b[8:]); off != 0 {
		end = min(end, int64(off))
	}
	for off := int64(h.length); off+8 <= end; {
		typ, n := binary.BigEndian.Uint32(b[off:]), int64(binary.BigEndian.Uint32(b[off+4:]))
		off += 8
		if typ == extEnd {
			return nil
		}
		if n > end-off {
			return corrupt("the header's extension %#x of %d bytes is longer than the space for it", typ, n)
		}
		data := b[off : off+n]
		switch typ {
		case extBackingFormat:
			h.backingFormat = string(data)
		case extFeatureNames:
			h.featureNames = map[[2]byte]string{}
			for ; len(data) >= 48; data = data[48:] {
				name, _, _ := bytes.Cut(data[2:48], []byte{0})
				h.featureNames[[2]byte{data[0], data[1]}] = string(name)
			}
		case extDataFile:
			h.incompatible |= featureDataFile
		}
		off += (n + 7) &^ 7
	}
	return nil
}

// validate refuses what no use of the image allows.
func (h *header) validate(size int64) error {
	if h.crypt != 0 {
		return fmt.Errorf("the image is encrypted, which is not supported: qemu-img convert makes a copy that is not")
	}
	if h.incompatible&featureDataFile != 0 {
		return fmt.Errorf("the image keeps its data in another file, which is not supported: qemu-img convert makes a copy with its own data")
	}
	if h.incompatible&featureExtendedL2 != 0 {
		return fmt.Errorf("the image has extended L2 entries (subclusters), which are not supported: qemu-img convert -o extended_l2=off makes a copy without")
	}
	if unknown := h.incompatible &^ (featureDirty | featureCorrupt | featureCompression); unknown != 0 {
		bit := byte(bits.TrailingZeros64(unknown))
		name := h.featureNames[[2]byte{0, bit}]
		if name == "" {
			name = "without a name"
		}
		return fmt.Errorf("the image needs the feature of bit %d (%q), which is not supported: qemu-img convert makes a copy without", bit, name)
	}
	switch {
	case h.compression > 1:
		return fmt.Errorf("compression type %d is not known: qemu-img convert -o compression_type=zlib makes a copy that can be read", h.compression)
	case (h.compression != 0) != (h.incompatible&featureCompression != 0):
		return corrupt("compression type %d does not agree with the feature bits", h.compression)
	case h.refOrder > 6:
		return corrupt("refcounts of 2^%d bits", h.refOrder)
	}
	return h.validateTables(size)
}

func (h *header) validateTables(size int64) error {
	cs := uint64(h.clusterSize())
	perL1 := cs / 8 * cs // bytes of the disk for an entry in L1
	switch {
	case h.size == 0 || h.size > maxOffset*4:
		return corrupt("a disk of %d bytes", h.size)
	case h.size%512 != 0:
		return fmt.Errorf("the disk has %d bytes, which is not a multiple of 512: qemu-img resize makes it one", h.size)
	case uint64(h.l1Size)*8 > maxL1Bytes:
		return corrupt("an L1 table of %d entries", h.l1Size)
	case (h.size-1)/perL1 >= uint64(h.l1Size):
		return corrupt("an L1 table of %d entries, which is too small for a disk of %d bytes", h.l1Size, h.size)
	case h.l1Offset == 0 || h.l1Offset%cs != 0 || !within(h.l1Offset, uint64(h.l1Size)*8, size):
		return corrupt("an L1 table at %#x, which is not in the file or not at a cluster", h.l1Offset)
	case h.refClusters == 0 || uint64(h.refClusters) > max(maxRefBytes/cs, 1):
		return corrupt("a refcount table of %d clusters", h.refClusters)
	case h.refOffset == 0 || h.refOffset%cs != 0 || !within(h.refOffset, uint64(h.refClusters)*cs, size):
		return corrupt("a refcount table at %#x, which is not in the file or not at a cluster", h.refOffset)
	case overlap(h.l1Offset, uint64(h.l1Size)*8, h.refOffset, uint64(h.refClusters)*cs):
		return corrupt("the L1 table and the refcount table overlap")
	}
	return nil
}

func within(off, n uint64, size int64) bool {
	return off <= uint64(size) && n <= uint64(size)-off
}

func overlap(a, an, b, bn uint64) bool { return a < b+bn && b < a+an }
