package unpack

import (
	"bytes"
	"hash"
	"hash/crc32"
	"os"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sparseFile writes a stream to a file, leaves holes for pages of zeros (a
// fifth of vmlinux, among it the bss, which then costs a guest no memory), and
// computes the checksum of the whole.
type sparseFile struct {
	f    *os.File
	size int64
	sum  hash.Hash32
}

const holeSize = 4096

var zeroPage [holeSize]byte

func newSparseFile(f *os.File) *sparseFile {
	return &sparseFile{f: f, sum: crc32.New(castagnoli)}
}

func (s *sparseFile) Write(p []byte) (int, error) {
	s.sum.Write(p)
	total := len(p)
	for len(p) > 0 {
		data := s.dataLen(p)
		if data > 0 {
			if _, err := s.f.WriteAt(p[:data], s.size); err != nil {
				return total - len(p), err
			}
			s.size, p = s.size+int64(data), p[data:]
		}
		for s.size%holeSize == 0 && len(p) >= holeSize && bytes.Equal(p[:holeSize], zeroPage[:]) {
			s.size, p = s.size+holeSize, p[holeSize:]
		}
	}
	return total, nil
}

// dataLen is how much of p comes before the next page of zeros.
func (s *sparseFile) dataLen(p []byte) int {
	n := int(-s.size & (holeSize - 1)) // up to the next page of the file
	for n+holeSize <= len(p) && !bytes.Equal(p[n:n+holeSize], zeroPage[:]) {
		n += holeSize
	}
	if n+holeSize > len(p) {
		return len(p)
	}
	return n
}

// finish gives the file its size, in case it ends in a hole.
func (s *sparseFile) finish() error { return s.f.Truncate(s.size) }
