package unpack

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// The .xz container (The .xz File Format 1.2.1), as far as kernels use it: one
// stream, blocks of LZMA2, with or without the x86 filter. The xz package has
// LZMA2 but none of the filters, hence this reader.
const (
	xzHeaderLen   = 12
	xzFilterX86   = 0x04
	xzFilterLZMA2 = 0x21
	xzMaxBlocks   = 1 << 16
)

var errXZChecksum = errors.New("checksum mismatch")

// counter counts what the decoders take from the stream.
type counter struct {
	r *bufio.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *counter) ReadByte() (byte, error) {
	b, err := c.r.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

// take reads exactly n bytes.
func (c *counter) take(n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(c, b)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}

type xzRecord struct{ unpadded, unpacked int64 }

type xzReader struct {
	in      *counter
	w       io.Writer
	want    int64
	check   byte
	records []xzRecord
}

func unxz(r *bufio.Reader, w io.Writer, want int64) error {
	x := &xzReader{in: &counter{r: r}, w: w, want: want}
	head, err := x.in.take(xzHeaderLen)
	if err != nil {
		return err
	}
	// The magic number has been seen already.
	if crc32.ChecksumIEEE(head[6:8]) != binary.LittleEndian.Uint32(head[8:]) {
		return fmt.Errorf("stream header: %w", errXZChecksum)
	}
	x.check = head[7]
	if _, ok := xzChecks[x.check]; !ok || head[6] != 0 {
		return unsupported("xz stream flags % x", head[6:8])
	}
	for {
		size, err := x.in.ReadByte()
		if err != nil {
			return noEOF(err)
		}
		if size == 0 {
			return x.tail(head[6:8])
		}
		if len(x.records) == xzMaxBlocks {
			return fmt.Errorf("more than %d blocks", xzMaxBlocks)
		}
		if err := x.block(size); err != nil {
			return fmt.Errorf("block %d: %w", len(x.records), err)
		}
	}
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// xzChecks makes the integrity check of a stream's blocks.
var xzChecks = map[byte]func() hash.Hash{
	0:  nil,
	1:  func() hash.Hash { return crc32.NewIEEE() },
	4:  func() hash.Hash { return crc64.New(crc64.MakeTable(crc64.ECMA)) },
	10: sha256.New,
}

// xzBlock is a parsed block header. Sizes are -1 when the header has none.
type xzBlock struct {
	packed, unpacked int64
	x86              bool
	x86Start         uint32
	dict             int64
}

func parseBlockHeader(b []byte) (xzBlock, error) {
	blk := xzBlock{packed: -1, unpacked: -1}
	flags := b[1]
	if flags&0x3c != 0 {
		return blk, unsupported("xz block flags %#x", flags)
	}
	r := bytes.NewReader(b[2:])
	var err error
	if flags&0x40 != 0 {
		if blk.packed, err = readVLI(r); err != nil {
			return blk, err
		}
	}
	if flags&0x80 != 0 {
		if blk.unpacked, err = readVLI(r); err != nil {
			return blk, err
		}
	}
	filters := int(flags&3) + 1
	for i := range filters {
		if err := blk.addFilter(r, i == filters-1); err != nil {
			return blk, err
		}
	}
	for r.Len() > 0 {
		if c, _ := r.ReadByte(); c != 0 {
			return blk, errors.New("header padding is not zero")
		}
	}
	return blk, nil
}

func (blk *xzBlock) addFilter(r *bytes.Reader, last bool) error {
	id, err := readVLI(r)
	if err != nil {
		return err
	}
	n, err := readVLI(r)
	if err != nil {
		return err
	}
	if n > int64(r.Len()) {
		return io.ErrUnexpectedEOF
	}
	props := make([]byte, n)
	if _, err := io.ReadFull(r, props); err != nil {
		return err
	}
	switch {
	case id == xzFilterX86 && !last && !blk.x86 && (n == 0 || n == 4):
		blk.x86 = true
		if n == 4 {
			blk.x86Start = binary.LittleEndian.Uint32(props)
		}
	case id == xzFilterLZMA2 && last && n == 1 && props[0] <= 40:
		// Two bits of mantissa, the rest exponent; 40 stands for 4 GiB - 1.
		blk.dict = int64(2|props[0]&1) << (props[0]/2 + 11)
	default:
		return unsupported("xz filter %#x", id)
	}
	return nil
}

// readVLI reads the variable-length integers of the format, 63 bits at most.
func readVLI(r io.ByteReader) (int64, error) {
	var v int64
	for i := range 9 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, noEOF(err)
		}
		v |= int64(b&0x7f) << (7 * i)
		if b&0x80 == 0 {
			if b == 0 && i > 0 {
				break
			}
			return v, nil
		}
	}
	return 0, errors.New("malformed integer")
}

// blockOutput is the end of a block's decoding chain.
type blockOutput struct {
	w    io.Writer
	hash hash.Hash
	n    int64
}

func (o *blockOutput) Write(p []byte) (int, error) {
	if o.hash != nil {
		o.hash.Write(p)
	}
	n, err := o.w.Write(p)
	o.n += int64(n)
	return n, err
}

// block decodes one block, whose first byte is given.
func (x *xzReader) block(size byte) error {
	begin := x.in.n - 1
	rest, err := x.in.take(int(size)*4 + 3)
	if err != nil {
		return err
	}
	head := append([]byte{size}, rest...)
	body, sum := head[:len(head)-4], head[len(head)-4:]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(sum) {
		return fmt.Errorf("header: %w", errXZChecksum)
	}
	blk, err := parseBlockHeader(body)
	if err != nil {
		return err
	}
	packedStart := x.in.n
	out := &blockOutput{w: x.w}
	if h := xzChecks[x.check]; h != nil {
		out.hash = h()
	}
	if err := x.lzma2(blk, out); err != nil {
		return err
	}
	packed := x.in.n - packedStart
	if blk.packed >= 0 && blk.packed != packed || blk.unpacked >= 0 && blk.unpacked != out.n {
		return fmt.Errorf("%d bytes became %d, the header says %d and %d", packed, out.n, blk.packed, blk.unpacked)
	}
	if err := x.padding(packed); err != nil {
		return err
	}
	var want []byte
	if out.hash != nil {
		// The CRCs are stored little-endian, which is not what Sum gives.
		switch h := out.hash.(type) {
		case hash.Hash32:
			want = binary.LittleEndian.AppendUint32(nil, h.Sum32())
		case hash.Hash64:
			want = binary.LittleEndian.AppendUint64(nil, h.Sum64())
		default:
			want = h.Sum(nil)
		}
	}
	got, err := x.in.take(len(want))
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errXZChecksum
	}
	padded := (packed + 3) &^ 3
	x.records = append(x.records, xzRecord{x.in.n - begin - (padded - packed), out.n})
	return nil
}

// lzma2 decodes the data of a block.
func (x *xzReader) lzma2(blk xzBlock, out *blockOutput) error {
	// A dictionary never needs to be larger than all of the output.
	dict := min(blk.dict, max(x.want, lzma.MinDictCap))
	if dict > maxDictionary {
		return unsupported("xz dictionary of %d bytes", blk.dict)
	}
	z, err := lzma.Reader2Config{DictCap: int(dict)}.NewReader2(x.in)
	if err != nil {
		return err
	}
	if !blk.x86 {
		err = copyAll(out, z)
	} else {
		f := newX86Filter(out, blk.x86Start)
		if err = copyAll(f, z); err == nil {
			err = f.Flush()
		}
	}
	if err == nil && !z.EOS() {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// padding reads the zero bytes that follow n bytes up to a multiple of four.
func (x *xzReader) padding(n int64) error {
	b, err := x.in.take(int(-n & 3))
	if err != nil {
		return err
	}
	for _, v := range b {
		if v != 0 {
			return errors.New("padding is not zero")
		}
	}
	return nil
}

// teeByte hashes what is read byte by byte.
type teeByte struct {
	r io.ByteReader
	h hash.Hash32
}

func (t teeByte) ReadByte() (byte, error) {
	b, err := t.r.ReadByte()
	if err == nil {
		t.h.Write([]byte{b})
	}
	return b, err
}

// tail checks the index and the footer against the blocks seen. The first byte
// of the index has been read.
func (x *xzReader) tail(flags []byte) error {
	begin := x.in.n - 1
	sum := crc32.NewIEEE()
	sum.Write([]byte{0})
	r := teeByte{x.in, sum}
	n, err := readVLI(r)
	if err != nil {
		return err
	}
	if n != int64(len(x.records)) {
		return fmt.Errorf("the index has %d blocks, the stream %d", n, len(x.records))
	}
	for i, want := range x.records {
		var got xzRecord
		if got.unpadded, err = readVLI(r); err != nil {
			return err
		}
		if got.unpacked, err = readVLI(r); err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("index entry %d does not suit its block", i)
		}
	}
	for (x.in.n-begin)&3 != 0 {
		if b, err := r.ReadByte(); err != nil || b != 0 {
			return errors.New("index padding is damaged")
		}
	}
	tail, err := x.in.take(4 + 12)
	if err != nil {
		return err
	}
	size := x.in.n - begin - 12
	le := binary.LittleEndian
	if le.Uint32(tail) != sum.Sum32() {
		return fmt.Errorf("index: %w", errXZChecksum)
	}
	footer := tail[4:]
	if le.Uint32(footer) != crc32.ChecksumIEEE(footer[4:10]) || string(footer[10:]) != "YZ" ||
		!bytes.Equal(footer[8:10], flags) || (int64(le.Uint32(footer[4:]))+1)*4 != size {
		return errors.New("stream footer is damaged")
	}
	return nil
}
