package unpack

import (
	"bufio"
	"compress/bzip2"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz/lzma"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/linux"
)

// maxDictionary is the largest dictionary or window, in bytes, that a kernel
// build asks for (xz and zstd -22: 128 MiB). More is refused, not allocated.
const maxDictionary = 128 << 20

// copyBuffer is the granularity of decoding: large writes, prompt cancelling.
const copyBuffer = 1 << 20

// copyAll pumps a decoding reader into w.
func copyAll(w io.Writer, r io.Reader) error {
	buf := make([]byte, copyBuffer)
	for {
		var n, idle int
		var err error
		for n < len(buf) && err == nil {
			var k int
			k, err = r.Read(buf[n:])
			n += k
			if idle++; k > 0 {
				idle = 0
			} else if err == nil && idle == 100 {
				err = io.ErrNoProgress
			}
		}
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func gunzip(r *bufio.Reader, w io.Writer, _ int64) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	z.Multistream(false)
	return copyAll(w, z)
}

func bunzip2(r *bufio.Reader, w io.Writer, _ int64) error {
	return copyAll(w, bzip2.NewReader(r))
}

func unlzma(r *bufio.Reader, w io.Writer, _ int64) error {
	z, err := lzma.ReaderConfig{DictCap: maxDictionary}.NewReader(r)
	if err != nil {
		return err
	}
	return copyAll(w, z)
}

func unzstd(r *bufio.Reader, w io.Writer, want int64) error {
	z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxDictionary),
		zstd.WithDecoderMaxMemory(uint64(max(want, maxDictionary))), zstd.WithDecoderLowmem(true))
	if err != nil {
		return err
	}
	defer z.Close()
	return copyAll(w, z)
}

// The legacy LZ4 frame (lz4_Frame_format.md, "Legacy frame"): a magic number,
// then blocks of 8 MiB, each preceded by its packed length.
const (
	lz4BlockSize = 8 << 20
	lz4Magic     = 0x184c2102
)

func unlz4(r *bufio.Reader, w io.Writer, want int64) error {
	if _, err := r.Discard(4); err != nil {
		return err
	}
	out := make([]byte, min(lz4BlockSize, want))
	var in []byte
	for {
		var word [4]byte
		switch _, err := io.ReadFull(r, word[:]); {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		n := int(binary.LittleEndian.Uint32(word[:]))
		if n == lz4Magic { // a further frame
			continue
		}
		if n == 0 || n > lz4.CompressBlockBound(lz4BlockSize) {
			return fmt.Errorf("block of %d bytes", n)
		}
		if cap(in) < n {
			// A block that claims more than the file has left costs no more
			// memory than a good one.
			in = make([]byte, n)
		}
		if _, err := io.ReadFull(r, in[:n]); err != nil {
			return err
		}
		m, err := lz4.UncompressBlock(in[:n], out)
		if err != nil {
			return err
		}
		if _, err := w.Write(out[:m]); err != nil {
			return err
		}
	}
}

// unsupported makes Unpack point to unpacking in the guest.
func unsupported(format string, args ...any) error {
	return fmt.Errorf("%w: %s", linux.ErrUnsupported, fmt.Sprintf(format, args...))
}
