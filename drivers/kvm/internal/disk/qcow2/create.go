package qcow2

import (
	"encoding/binary"
	"fmt"
	"io"
)

// CreateOptions say what a new image is like. The zero value gives clusters of 64 KiB and no backing file.
type CreateOptions struct {
	ClusterSize            int64
	Backing, BackingFormat string // the file that the image is based on, both or neither
}

// Create writes a new, empty image of size bytes to f, which is empty. It does not sync.
func Create(f io.WriterAt, size int64, o CreateOptions) error {
	l, err := o.plan(size)
	if err != nil {
		return err
	}
	b := l.header(o)
	if _, err := f.WriteAt(b, 0); err != nil {
		return err
	}
	table := make([]byte, l.refClusters*l.cs)
	for i := range l.blocks {
		binary.BigEndian.PutUint64(table[i*8:], uint64((1+l.refClusters+i)*l.cs))
	}
	if _, err := f.WriteAt(table, l.cs); err != nil {
		return err
	}
	counts := make([]byte, l.blocks*l.cs)
	for i := range l.total {
		binary.BigEndian.PutUint16(counts[i*2:], 1)
	}
	if _, err := f.WriteAt(counts, (1+l.refClusters)*l.cs); err != nil {
		return err
	}
	return writeZeroes(f, l.l1At(), l.l1Clusters*l.cs)
}

// layout is how the first clusters of a new image are used: header, refcount table, refcount blocks, L1 table.
type layout struct {
	bits                            uint32
	cs, size                        int64
	l1Size                          int64 // entries
	refClusters, blocks, l1Clusters int64
	total                           int64
}

func (l *layout) l1At() int64 { return (1 + l.refClusters + l.blocks) * l.cs }

func ceil(a, b int64) int64 { return (a + b - 1) / b }

func (o *CreateOptions) plan(size int64) (*layout, error) {
	l := &layout{cs: o.ClusterSize, size: size}
	if l.cs == 0 {
		l.cs = 64 << 10
	}
	for l.bits = minClusterBits; l.bits < maxClusterBits && 1<<l.bits < l.cs; l.bits++ {
	}
	switch {
	case 1<<l.bits != l.cs:
		return nil, fmt.Errorf("clusters of %d bytes are not possible: state a power of two from 512 to 2097152", l.cs)
	case size <= 0 || size%512 != 0:
		return nil, fmt.Errorf("a disk of %d bytes is not possible: the size is a positive multiple of 512", size)
	case (o.Backing == "") != (o.BackingFormat == ""):
		return nil, fmt.Errorf("a backing file and its format are stated together")
	case len(o.Backing) > maxNameLen || headerV3+8+8+24+int64(len(o.Backing)) > l.cs:
		return nil, fmt.Errorf("the name of the backing file is too long")
	case o.Backing != "" && o.BackingFormat != "raw" && o.BackingFormat != "qcow2":
		return nil, fmt.Errorf("a backing file of the format %q is not supported: raw and qcow2 are", o.BackingFormat)
	}
	l.l1Size = ceil(ceil(size, l.cs), l.cs/8)
	l.l1Clusters = ceil(l.l1Size*8, l.cs)
	// The refcount table is made long enough for a disk that is full.
	perBlock := l.cs / 2
	data := ceil(size, l.cs) + l.l1Size + l.l1Clusters
	blocks := ceil(data+data/perBlock+2*ceil(data, perBlock*perBlock)+8, perBlock)
	l.refClusters = ceil(blocks*8, l.cs)
	if l.l1Size*8 > maxL1Bytes || l.refClusters > max(maxRefBytes/l.cs, 1) {
		return nil, fmt.Errorf("a disk of %d bytes is too large for clusters of %d bytes: state larger ones", size, l.cs)
	}
	for l.blocks = 1; ; l.blocks++ {
		l.total = 1 + l.refClusters + l.blocks + l.l1Clusters
		if l.total <= l.blocks*perBlock {
			return l, nil
		}
	}
}

func (l *layout) header(o CreateOptions) []byte {
	be := binary.BigEndian
	b := make([]byte, l.cs)
	be.PutUint32(b, magic)
	be.PutUint32(b[4:], 3)
	be.PutUint32(b[20:], l.bits)
	be.PutUint64(b[24:], uint64(l.size))
	be.PutUint32(b[36:], uint32(l.l1Size))
	be.PutUint64(b[40:], uint64(l.l1At()))
	be.PutUint64(b[48:], uint64(l.cs))
	be.PutUint32(b[56:], uint32(l.refClusters))
	be.PutUint32(b[96:], 4)
	be.PutUint32(b[100:], headerV3)
	if o.Backing != "" {
		ext := b[headerV3:]
		be.PutUint32(ext, extBackingFormat)
		be.PutUint32(ext[4:], uint32(len(o.BackingFormat)))
		copy(ext[8:], o.BackingFormat)
		at := headerV3 + 8 + 8 + 8 // format, padded, and the end of the extensions
		be.PutUint64(b[8:], uint64(at))
		be.PutUint32(b[16:], uint32(len(o.Backing)))
		copy(b[at:], o.Backing)
	}
	return b
}
