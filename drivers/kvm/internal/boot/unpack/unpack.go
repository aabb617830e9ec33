package unpack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/linux"
)

// decoders turn a compressed stream into at most want bytes written to w. They
// stop at the first error of w and need not check how much they write.
var decoders = map[Compression]func(r *bufio.Reader, w io.Writer, want int64) error{
	None:  func(r *bufio.Reader, w io.Writer, _ int64) error { _, err := io.Copy(w, r); return err },
	Gzip:  gunzip,
	Bzip2: bunzip2,
	LZMA:  unlzma,
	XZ:    unxz,
	LZO:   unlzo,
	LZ4:   unlz4,
	Zstd:  unzstd,
}

// Unpack writes the vmlinux inside a bzImage to w. It writes no more than the
// payload promises. It returns ctx.Err() soon after ctx ends, and an error of w
// as it is.
func Unpack(ctx context.Context, img linux.Image, w io.Writer) (Payload, error) {
	p, err := Find(img)
	if err != nil {
		return p, err
	}
	src := &source{ctx: ctx, r: io.NewSectionReader(img.R, p.Offset, p.Length)}
	dst := &sink{ctx: ctx, w: w, left: p.Unpacked}
	err = decode(p, src, dst)
	fail := func(sentinel error, reason string) (Payload, error) {
		return p, &linux.Error{File: img.Name, Part: p.Compression.String() + " payload", Offset: p.Offset,
			Err: sentinel, Reason: reason, Remedy: remedyCopy}
	}
	switch {
	case ctx.Err() != nil:
		return p, ctx.Err()
	case dst.err != nil:
		return p, dst.err
	case src.err != nil:
		return fail(fmt.Errorf("%w: %w", linux.ErrRead, src.err), "")
	case dst.over:
		return fail(ErrTooLarge, fmt.Sprintf("it unpacks to more than the %d bytes it promises", p.Unpacked))
	case errors.Is(err, linux.ErrUnsupported):
		return p, &linux.Error{File: img.Name, Part: p.Compression.String() + " payload", Offset: p.Offset,
			Err: err, Remedy: remedyGuest}
	case err != nil:
		return fail(fmt.Errorf("%w: %w", ErrCorrupt, err), "")
	case dst.left != 0:
		return fail(ErrCorrupt, fmt.Sprintf("it unpacks to %d bytes, %d are promised", p.Unpacked-dst.left, p.Unpacked))
	}
	return p, nil
}

// decode runs the decoder. A decoder that panics on damaged data has merely
// found the damage in its own way.
func decode(p Payload, src io.Reader, dst io.Writer) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%v decoder failed: %v", p.Compression, v)
		}
	}()
	return decoders[p.Compression](bufio.NewReaderSize(src, 256<<10), dst, p.Unpacked)
}

// source stops a decoder when ctx ends and remembers why the file failed.
type source struct {
	ctx context.Context
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

var errOver = errors.New("output limit reached")

// sink stops a decoder when ctx ends, when it produces too much, and when the
// output fails.
type sink struct {
	ctx  context.Context
	w    io.Writer
	left int64
	over bool
	err  error
}

func (s *sink) Write(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	if int64(len(p)) > s.left {
		s.over = true
		return 0, errOver
	}
	n, err := s.w.Write(p)
	s.left -= int64(n)
	if err != nil {
		s.err = err
	}
	return n, err
}
