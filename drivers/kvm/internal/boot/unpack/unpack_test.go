package unpack

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/linux"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/linux/imagetest"
)

var le = binary.LittleEndian

func unpack(t testing.TB, file []byte) ([]byte, error) {
	t.Helper()
	var out bytes.Buffer
	_, err := Unpack(context.Background(), image(file), &out)
	return out.Bytes(), err
}

// TestFixtures unpacks what the kernel build's own tools have packed. With
// POLYVISOR_WRITE_FIXTURES set it packs the fixtures anew.
func TestFixtures(t *testing.T) {
	want := vmlinux(fixtureSize)
	for name, f := range fixtures {
		t.Run(name, func(t *testing.T) {
			if os.Getenv("POLYVISOR_WRITE_FIXTURES") != "" {
				packed := packWith(t, want, f.tool...)
				require.NoError(t, os.WriteFile(filepath.Join("testdata", "vmlinux."+name), packed, 0o644))
			}
			var out bytes.Buffer
			p, err := Unpack(context.Background(), image(bzImage(fixture(t, name))), &out)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(want, out.Bytes()))
			assert.Equal(t, f.compression, p.Compression)
			assert.EqualValues(t, len(want), p.Unpacked)
			assert.NoError(t, linux.VerifyELF(image(out.Bytes())))
		})
	}
}

// TestTools does the same with as much data as takes several blocks.
func TestTools(t *testing.T) {
	for name, f := range fixtures {
		t.Run(name, func(t *testing.T) {
			want, tool := vmlinux(512<<10), f.tool
			if f.compression == LZ4 {
				want = vmlinux(lz4BlockSize + 100<<10)
			}
			if name == "zst" {
				tool = []string{"zstd", "-3", "-c"}
			}
			got, err := unpack(t, bzImage(asPayload(f.compression, packWith(t, want, tool...), len(want))))
			require.NoError(t, err)
			assert.True(t, bytes.Equal(want, got))
		})
	}
}

func TestLibraries(t *testing.T) {
	want := vmlinux(400 << 10)
	for _, c := range []Compression{None, Gzip, LZMA, XZ, LZ4, Zstd} {
		t.Run(c.String(), func(t *testing.T) {
			got, err := unpack(t, bzImage(asPayload(c, pack(t, c, want), len(want))))
			require.NoError(t, err)
			// The file pads an unpacked payload; its length is exact.
			assert.True(t, bytes.Equal(want, got))
		})
	}
}

func TestFindRefuses(t *testing.T) {
	edit := func(f func(b []byte)) []byte {
		return imagetest.BzImage{Payload: fixture(t, "lz4"), InitSize: 1 << 20, Patch: f}.Build()
	}
	for _, tt := range []struct {
		name string
		file []byte
		want error
		text string
	}{
		{"not a bzImage", make([]byte, 8192), linux.ErrBadMagic, ""},
		{"protocol 2.07", edit(func(b []byte) { le.PutUint16(b[0x206:], 0x207) }), linux.ErrUnsupported, "decompress=guest"},
		{"no payload", edit(func(b []byte) { le.PutUint32(b[0x24c:], 0) }), linux.ErrUnsupported, "decompress=guest"},
		{"payload beyond the file", edit(func(b []byte) { le.PutUint32(b[0x248:], 1<<30) }), linux.ErrBounds, "protected-mode"},
		{"payload offset at the end of numbers", edit(func(b []byte) { le.PutUint32(b[0x248:], 0xffffffff) }), linux.ErrBounds, ""},
		{"payload too long", edit(func(b []byte) { le.PutUint32(b[0x24c:], 1<<30) }), linux.ErrBounds, ""},
		{"payload too long by far", edit(func(b []byte) { le.PutUint32(b[0x24c:], 0xffffffff) }), linux.ErrBounds, ""},
		{"payload too short", edit(func(b []byte) { le.PutUint32(b[0x24c:], 15) }), ErrCorrupt, "15 bytes"},
		{"unknown compression", edit(func(b []byte) { b[8*512+imagetest.PayloadOffset] = 'X' }), linux.ErrUnsupported, "58 21 4c 18"},
		{"more than init_size", edit(func(b []byte) { le.PutUint32(b[0x260:], fixtureSize-1) }), ErrTooLarge, "at most 39999"},
		{"more than the hard limit", imagetest.BzImage{InitSize: 0xffffffff,
			Payload: imagetest.WithSize(pack(t, LZ4, vmlinux(100)), MaxUnpacked+1)}.Build(), ErrTooLarge, "at most 1073741824"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := unpack(t, tt.file)
			requireTyped(t, err, tt.want)
			assert.ErrorContains(t, err, tt.text)
		})
	}
}

// requireTyped checks that a failure is a typed error naming the file.
func requireTyped(t testing.TB, err error, sentinels ...error) {
	t.Helper()
	var typed *linux.Error
	require.ErrorAs(t, err, &typed)
	require.Equal(t, "test-kernel", typed.File)
	for _, s := range sentinels {
		if errors.Is(err, s) {
			return
		}
	}
	require.Failf(t, "wrong error", "%v is none of %v", err, sentinels)
}

// TestBombs unpacks to much more than promised; none of it may get out.
func TestBombs(t *testing.T) {
	zeros := append(vmlinux(100), make([]byte, 3<<20)...)
	const promised = 1 << 20
	for _, c := range []Compression{Gzip, LZMA, XZ, LZ4, Zstd} {
		t.Run(c.String(), func(t *testing.T) {
			packed := pack(t, c, zeros)
			if c == Gzip {
				le.PutUint32(packed[len(packed)-4:], promised)
			}
			got, err := unpack(t, bzImage(asPayload(c, packed, promised)))
			requireTyped(t, err, ErrTooLarge, ErrCorrupt)
			assert.LessOrEqual(t, len(got), promised)
		})
	}
	for _, name := range []string{"bz2", "lzo", "x86.xz"} {
		t.Run(name, func(t *testing.T) {
			b := fixture(t, name)
			got, err := unpack(t, bzImage(imagetest.WithSize(b[:len(b)-4], 1000)))
			requireTyped(t, err, ErrTooLarge)
			assert.LessOrEqual(t, len(got), 1000)
		})
	}
}

// TestDamaged flips bytes all over every payload and cuts it at twenty places.
// Formats with a checksum must notice; the others must at least not produce a
// result of another size.
func TestDamaged(t *testing.T) {
	want := vmlinux(fixtureSize)
	for name, f := range fixtures {
		good := fixture(t, name)
		checked := f.compression == Gzip || f.compression == Bzip2 || f.compression == Zstd ||
			f.compression == LZO || name == "x86.xz" || name == "plain.xz" || name == "blocks.xz"
		for i := range 60 {
			t.Run(fmt.Sprintf("%s/flip%d", name, i), func(t *testing.T) {
				bad := bytes.Clone(good)
				bad[8+(len(bad)-8)*i/60] ^= 0x5a
				got, err := unpack(t, bzImage(bad))
				if err != nil {
					requireTyped(t, err, ErrCorrupt, ErrTooLarge, linux.ErrUnsupported)
					return
				}
				assert.Len(t, got, len(want))
				if checked {
					assert.True(t, bytes.Equal(want, got), "damage passed unnoticed")
				}
			})
		}
		for i := range 20 {
			t.Run(fmt.Sprintf("%s/cut%d", name, i), func(t *testing.T) {
				body := good[:16+(len(good)-32)*i/20]
				_, err := unpack(t, bzImage(imagetest.WithSize(body, len(want))))
				requireTyped(t, err, ErrCorrupt)
			})
			t.Run(fmt.Sprintf("%s/zeros%d", name, i), func(t *testing.T) {
				body := bytes.Clone(good)
				clear(body[16+(len(good)-32)*i/20 : len(body)-4])
				_, err := unpack(t, bzImage(body))
				requireTyped(t, err, ErrCorrupt, ErrTooLarge)
			})
		}
	}
}

// TestTruncatedFile cuts the file itself, at every 4 KiB of the setup area and
// at twenty places of the body.
func TestTruncatedFile(t *testing.T) {
	file := imagetest.BzImage{SetupSects: 39, Payload: fixture(t, "x86.xz")}.Build()
	var cuts []int
	for n := 4096; n <= 20480; n += 4096 {
		cuts = append(cuts, n)
	}
	for i := range 20 {
		cuts = append(cuts, 20480+(len(file)-20480-64)*i/20)
	}
	for _, n := range cuts {
		_, err := unpack(t, file[:n])
		requireTyped(t, err, linux.ErrTruncated)
	}
}

type cancelWriter struct {
	cancel context.CancelFunc
	n      int
}

func (c *cancelWriter) Write(p []byte) (int, error) {
	c.n += len(p)
	c.cancel()
	return len(p), nil
}

func TestCancelled(t *testing.T) {
	data := append(vmlinux(1000), make([]byte, 20<<20)...)
	for _, c := range []Compression{Gzip, LZ4, Zstd, None} {
		t.Run(c.String(), func(t *testing.T) {
			file := bzImage(asPayload(c, pack(t, c, data), len(data)))
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			w := &cancelWriter{cancel: cancel}
			_, err := Unpack(ctx, image(file), w)
			assert.ErrorIs(t, err, context.Canceled)
			assert.Less(t, w.n, len(data)/2)
		})
	}
}

type fullDisk struct{ left int }

var errFull = errors.New("no space left")

func (f *fullDisk) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestOutputError(t *testing.T) {
	for name := range fixtures {
		_, err := Unpack(context.Background(), image(bzImage(fixture(t, name))), &fullDisk{100})
		assert.Equal(t, errFull, err, name)
	}
}

type brokenDisk struct{ io.ReaderAt }

var errIO = errors.New("input/output error")

func (d brokenDisk) ReadAt(p []byte, off int64) (int, error) {
	if off >= 20000 && off < 4<<20 {
		return 0, errIO
	}
	return d.ReaderAt.ReadAt(p, off)
}

func TestInputError(t *testing.T) {
	data := vmlinux(4 << 20)
	img := image(bzImage(data))
	img.R = brokenDisk{img.R}
	_, err := Unpack(context.Background(), img, io.Discard)
	requireTyped(t, err, linux.ErrRead)
	assert.ErrorIs(t, err, errIO)
}

func stockKernel(t testing.TB) linux.Image {
	t.Helper()
	const pattern = "/boot/vmlinuz-*-amd64"
	names, _ := filepath.Glob(pattern)
	if len(names) == 0 {
		t.Skip("needs a stock kernel: no " + pattern)
	}
	f, err := os.Open(names[0])
	if errors.Is(err, os.ErrPermission) {
		t.Skip("needs a readable stock kernel: " + err.Error())
	}
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	img, err := linux.Open(f)
	require.NoError(t, err)
	return img
}

func TestStockKernel(t *testing.T) {
	var out bytes.Buffer
	p, err := Unpack(context.Background(), stockKernel(t), &out)
	require.NoError(t, err)
	t.Logf("%v: %d bytes became %d", p.Compression, p.Length, p.Unpacked)
	assert.NoError(t, linux.VerifyELF(image(out.Bytes())))
	assert.EqualValues(t, p.Unpacked, out.Len())
}

func BenchmarkStockKernel(b *testing.B) {
	img := stockKernel(b)
	for b.Loop() {
		p, err := Unpack(context.Background(), img, io.Discard)
		require.NoError(b, err)
		b.SetBytes(p.Unpacked)
	}
}

// FuzzUnpack feeds damaged payloads to all container parsers and decoders.
func FuzzUnpack(f *testing.F) {
	for name := range fixtures {
		f.Add(fixture(f, name))
	}
	small := vmlinux(50)
	for _, c := range []Compression{None, Gzip, LZMA, XZ, LZ4, Zstd} {
		f.Add(asPayload(c, pack(f, c, small), len(small)))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		var out bytes.Buffer
		p, err := Unpack(context.Background(), image(imagetest.BzImage{Payload: payload, InitSize: 1 << 20}.Build()), &out)
		if err != nil {
			var typed *linux.Error
			require.ErrorAs(t, err, &typed)
			return
		}
		require.EqualValues(t, p.Unpacked, out.Len())
		require.LessOrEqual(t, p.Unpacked, int64(1<<20))
	})
}
