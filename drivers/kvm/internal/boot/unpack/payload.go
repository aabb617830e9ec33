package unpack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/linux"
)

// Reasons for failing that package linux has no name for.
var (
	// ErrCorrupt says that the compressed data are damaged.
	ErrCorrupt = errors.New("compressed kernel is corrupt")
	// ErrTooLarge says that the payload unpacks to more than it may.
	ErrTooLarge = errors.New("compressed kernel unpacks to too much data")
	// ErrStorage says that the unpacked kernel could not be written anywhere.
	ErrStorage = errors.New("cannot store the unpacked kernel")
)

// MaxUnpacked is the size in bytes that no unpacked kernel may exceed.
const MaxUnpacked = 1 << 30

const (
	remedyCopy  = "get a fresh copy of the file"
	remedyGuest = "start with decompress=guest to let the kernel unpack itself"
)

// Compression is the format of a payload.
type Compression int

// The formats that x86 kernels use. None is a payload that is an ELF file.
const (
	None Compression = iota
	Gzip
	Bzip2
	LZMA
	XZ
	LZO
	LZ4
	Zstd
)

var compressions = [...]struct{ name, magic string }{
	None:  {"none", "\x7fELF"},
	Gzip:  {"gzip", "\x1f\x8b"},
	Bzip2: {"bzip2", "BZh"},
	LZMA:  {"lzma", "\x5d\x00\x00"},
	XZ:    {"xz", "\xfd7zXZ\x00"},
	LZO:   {"lzo", lzopMagic},
	LZ4:   {"lz4", "\x02\x21\x4c\x18"},
	Zstd:  {"zstd", "\x28\xb5\x2f\xfd"},
}

func (c Compression) String() string {
	if c >= 0 && int(c) < len(compressions) {
		return compressions[c].name
	}
	return fmt.Sprintf("Compression(%d)", int(c))
}

// Payload is the compressed kernel inside a bzImage.
type Payload struct {
	Offset, Length int64 // the compressed stream in the file, bytes
	Unpacked       int64 // what it promises to become, bytes
	Compression    Compression
}

// Find locates the payload of a bzImage and checks its bounds.
func Find(img linux.Image) (Payload, error) {
	h, err := linux.ParseSetupHeader(img)
	if err != nil {
		return Payload{}, err
	}
	fail := func(off int64, err error, reason, remedy string) (Payload, error) {
		return Payload{}, &linux.Error{File: img.Name, Part: "payload", Offset: off, Err: err, Reason: reason, Remedy: remedy}
	}
	if h.PayloadOffset == 0 || h.PayloadLength == 0 {
		return fail(-1, linux.ErrUnsupported, fmt.Sprintf(
			"the setup header names none (boot protocol %d.%02d)", h.Version>>8, h.Version&0xff), remedyGuest)
	}
	// All terms are below 2^33.
	p := Payload{Offset: h.KernelOffset + int64(h.PayloadOffset), Length: int64(h.PayloadLength)}
	if end := int64(h.PayloadOffset) + p.Length; end > h.KernelSize {
		return fail(p.Offset, linux.ErrBounds, fmt.Sprintf(
			"it ends at %#x of the protected-mode code, which has %#x bytes", end, h.KernelSize), remedyCopy)
	}
	if p.Length < 16 {
		return fail(p.Offset, ErrCorrupt, fmt.Sprintf("only %d bytes", p.Length), remedyCopy)
	}
	var head, tail [16]byte
	if err := readAt(img, head[:], p.Offset); err != nil {
		return Payload{}, err
	}
	if err := readAt(img, tail[:], p.Offset+p.Length-16); err != nil {
		return Payload{}, err
	}
	var known bool
	for c, v := range compressions {
		if strings.HasPrefix(string(head[:]), v.magic) {
			p.Compression, known = Compression(c), true
		}
	}
	if !known {
		return fail(p.Offset, linux.ErrUnsupported,
			fmt.Sprintf("unknown compression (starts with % x)", head[:6]), remedyGuest)
	}
	p.Unpacked = int64(binary.LittleEndian.Uint32(tail[12:]))
	switch p.Compression {
	case None:
		p.Unpacked = p.Length
	case Gzip: // the length is the end of the stream itself
	default:
		p.Length -= 4
	}
	limit := int64(MaxUnpacked)
	if h.InitSize != 0 {
		limit = min(limit, int64(h.InitSize))
	}
	if p.Unpacked > limit {
		return fail(p.Offset, ErrTooLarge, fmt.Sprintf(
			"%s data promising %d bytes, at most %d are allowed", p.Compression, p.Unpacked, limit), remedyCopy)
	}
	return p, nil
}

func readAt(img linux.Image, b []byte, off int64) error {
	if n, err := img.R.ReadAt(b, off); n < len(b) {
		return &linux.Error{File: img.Name, Part: "payload", Offset: off,
			Err: fmt.Errorf("%w: %w", linux.ErrRead, err)}
	}
	return nil
}
