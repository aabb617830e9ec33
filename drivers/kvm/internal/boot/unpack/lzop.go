package unpack

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/adler32"
	"hash/crc32"
	"io"

	"github.com/anchore/go-lzo"
)

// The lzop container, which the kernel build uses for LZO. Numbers are
// big-endian. The decoder in the kernel takes blocks of up to 256 KiB.
const (
	lzopMagic     = "\x89LZO\x00\r\n\x1a\n"
	lzopBlockSize = 256 << 10

	lzopAdlerUnpacked = 0x001
	lzopAdlerPacked   = 0x002
	lzopExtraField    = 0x040
	lzopCRCUnpacked   = 0x100
	lzopCRCPacked     = 0x200
	lzopFilter        = 0x800
	lzopHeaderCRC     = 0x1000
)

type lzopReader struct {
	r   *bufio.Reader
	hdr []byte // the raw header, for its checksum
}

func unlzo(r *bufio.Reader, w io.Writer, _ int64) error {
	if _, err := r.Discard(len(lzopMagic)); err != nil {
		return err
	}
	z := &lzopReader{r: r}
	flags, err := z.header()
	if err != nil {
		return err
	}
	in, out := make([]byte, lzopBlockSize), make([]byte, lzopBlockSize)
	for {
		unpacked, err := z.uint32()
		if err != nil || unpacked == 0 {
			return err
		}
		packed, err := z.uint32()
		if err != nil {
			return err
		}
		if unpacked > lzopBlockSize || packed == 0 || packed > unpacked {
			return fmt.Errorf("block of %d bytes for %d", packed, unpacked)
		}
		var sums [4]uint32
		want := []uint32{lzopAdlerUnpacked, lzopCRCUnpacked, lzopAdlerPacked, lzopCRCPacked}
		for i, flag := range want {
			if flags&flag == 0 || i >= 2 && packed == unpacked {
				continue
			}
			if sums[i], err = z.uint32(); err != nil {
				return err
			}
		}
		if _, err := io.ReadFull(r, in[:packed]); err != nil {
			return err
		}
		block := in[:packed]
		if packed < unpacked {
			if err := checkSums(flags, lzopAdlerPacked, lzopCRCPacked, block, sums[2], sums[3]); err != nil {
				return err
			}
			n, err := lzo.Decompress(block, out[:unpacked])
			if err != nil {
				return err
			}
			if uint32(n) != unpacked {
				return fmt.Errorf("block of %d bytes instead of %d", n, unpacked)
			}
			block = out[:n]
		}
		if err := checkSums(flags, lzopAdlerUnpacked, lzopCRCUnpacked, block, sums[0], sums[1]); err != nil {
			return err
		}
		if _, err := w.Write(block); err != nil {
			return err
		}
	}
}

func checkSums(flags, adlerFlag, crcFlag uint32, block []byte, adler, crc uint32) error {
	if flags&adlerFlag != 0 && adler32.Checksum(block) != adler ||
		flags&crcFlag != 0 && crc32.ChecksumIEEE(block) != crc {
		return errors.New("checksum mismatch")
	}
	return nil
}

func (z *lzopReader) uint32() (uint32, error) {
	var b [4]byte
	_, err := io.ReadFull(z.r, b[:])
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return binary.BigEndian.Uint32(b[:]), err
}

// take reads n bytes of the header, keeping them for its checksum.
func (z *lzopReader) take(n int) ([]byte, error) {
	at := len(z.hdr)
	z.hdr = append(z.hdr, make([]byte, n)...)
	_, err := io.ReadFull(z.r, z.hdr[at:])
	return z.hdr[at:], err
}

// header reads everything in front of the first block and returns the flags.
func (z *lzopReader) header() (uint32, error) {
	b, err := z.take(4)
	if err != nil {
		return 0, err
	}
	version := binary.BigEndian.Uint16(b)
	rest := 1 + 4 // method, flags
	if version >= 0x940 {
		rest += 2 + 1 // version needed, level
	}
	if b, err = z.take(rest); err != nil {
		return 0, err
	}
	flags := binary.BigEndian.Uint32(b[len(b)-4:])
	if flags&(lzopFilter|lzopExtraField) != 0 {
		return 0, unsupported("lzop filter or extra field")
	}
	rest = 4 + 4 // mode, time
	if version >= 0x940 {
		rest += 4 // upper half of the time
	}
	if _, err = z.take(rest); err != nil {
		return 0, err
	}
	if b, err = z.take(1); err != nil { // length of the file name
		return 0, err
	}
	if _, err = z.take(int(b[0])); err != nil {
		return 0, err
	}
	want, err := z.uint32()
	if err != nil {
		return 0, err
	}
	have := adler32.Checksum(z.hdr)
	if flags&lzopHeaderCRC != 0 {
		have = crc32.ChecksumIEEE(z.hdr)
	}
	if have != want {
		return 0, errors.New("checksum mismatch in the header")
	}
	return flags, nil
}
