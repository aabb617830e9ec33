package linux

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/linux/imagetest"
)

const ramSize = 64 << 20

var le = binary.LittleEndian

func image(b []byte) Image {
	return Image{R: bytes.NewReader(b), Size: int64(len(b)), Name: "test-kernel"}
}

func noise(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// linuxELF resembles vmlinux: a text segment, data with a bss, and notes.
func linuxELF() imagetest.ELF {
	notes := append(imagetest.NoteBytes("Xen", 6, []byte("linux\x00")),
		imagetest.NoteBytes("Xen", 18, le.AppendUint64(nil, 0x1000100))...)
	return imagetest.ELF{Entry: 0x1000000, Segments: []imagetest.Segment{
		{Type: imagetest.Load, VAddr: 0xffffffff81000000, PAddr: 0x1000000, Data: noise(10000)},
		{Type: imagetest.Load, VAddr: 0xffffffff81200000, PAddr: 0x1200000, Data: noise(5000), MemSize: 20000},
		{Type: imagetest.Note, VAddr: 0xffffffff81001000, PAddr: 0x1001000, Data: notes},
	}}
}

func config(kernel []byte) Config {
	return Config{Kernel: image(kernel), LowRAM: ramSize, CommandLine: "console=ttyS0 quiet"}
}

func mustSlice(t *testing.T, g *guestRAM, addr, size uint64) []byte {
	t.Helper()
	b, err := g.Slice(addr, size)
	require.NoError(t, err)
	return b
}

func TestLoadELF(t *testing.T) {
	g := newGuestRAM(t, ramSize)
	for i := range g.ram { // what a previous run of the guest left behind
		g.ram[i] = 0xee
	}
	spec := linuxELF()
	initrd := noise(12345)
	cfg := config(spec.Build())
	cfg.Initrd = &Image{R: bytes.NewReader(initrd), Size: int64(len(initrd))}
	cfg.HighRAM = 1 << 30
	cfg.Reserved = []Range{{0xe0000000, 0x10000000}}
	e, err := Load(context.Background(), g, cfg)
	require.NoError(t, err)

	wantInitrd := Range{(ramSize - 12345) &^ 0xfff, 12345}
	assert.Equal(t, &Entry{Mode: Long64, RIP: 0x1000000, RSI: BootParamsAddr, Format: ELF,
		Kernel: Range{0x1000000, 0x200000 + 20000}, Initrd: wantInitrd}, e)
	assert.Equal(t, spec.Segments[0].Data, mustSlice(t, g, 0x1000000, 10000))
	assert.Equal(t, spec.Segments[1].Data, mustSlice(t, g, 0x1200000, 5000))
	assert.Equal(t, make([]byte, 15000), mustSlice(t, g, 0x1200000+5000, 15000), "bss")
	assert.Equal(t, byte(0xee), mustSlice(t, g, 0x1200000+20000, 1)[0], "nothing beyond the bss is written")
	assert.Equal(t, initrd, mustSlice(t, g, wantInitrd.Addr, wantInitrd.Size))
	assert.Equal(t, "console=ttyS0 quiet\x00\xee", string(mustSlice(t, g, CommandLineAddr, 21)))

	p := mustSlice(t, g, BootParamsAddr, 0x1000)
	assert.Equal(t, make([]byte, 64), p[:64], "screen_info")
	assert.EqualValues(t, DefaultRSDP, le.Uint64(p[0x70:]))
	assert.Equal(t, "HdrS", string(p[0x202:0x206]))
	assert.EqualValues(t, 0xff, p[0x210])
	assert.EqualValues(t, 1, p[0x211])
	assert.EqualValues(t, CommandLineAddr, le.Uint32(p[0x228:]))
	assert.EqualValues(t, wantInitrd.Addr, le.Uint32(p[0x218:]))
	assert.EqualValues(t, 12345, le.Uint32(p[0x21c:]))
	assert.Zero(t, le.Uint64(p[0x250:]), "setup_data")
	assert.Equal(t, [][3]uint64{
		{0, 0x9fc00, 1}, {0x9fc00, 0x60400, 2}, {0x100000, ramSize - 0x100000, 1},
		{0xe0000000, 0x10000000, 2}, {4 << 30, 1 << 30, 1},
	}, e820(p))
}

func e820(p []byte) (m [][3]uint64) {
	for i := range int(p[0x1e8]) {
		at := p[0x2d0+20*i:]
		m = append(m, [3]uint64{le.Uint64(at), le.Uint64(at[8:]), uint64(le.Uint32(at[16:]))})
	}
	return m
}

func TestLoadPVH(t *testing.T) {
	g := newGuestRAM(t, ramSize)
	initrd := noise(4096)
	cfg := config(linuxELF().Build())
	cfg.Initrd = &Image{R: bytes.NewReader(initrd), Size: 4096}
	cfg.Entry, cfg.RSDP = PVH, 0xf1230
	e, err := Load(context.Background(), g, cfg)
	require.NoError(t, err)
	assert.Equal(t, PVH, e.Mode)
	assert.EqualValues(t, 0x1000100, e.RIP)
	assert.EqualValues(t, StartInfoAddr, e.RBX)
	assert.Zero(t, e.RSI)

	p := mustSlice(t, g, StartInfoAddr, 0x1000)
	assert.EqualValues(t, 0x336ec578, le.Uint32(p))
	assert.EqualValues(t, 1, le.Uint32(p[4:]))
	require.EqualValues(t, 1, le.Uint32(p[12:]), "nr_modules")
	mod := mustSlice(t, g, le.Uint64(p[16:]), 32)
	assert.Equal(t, e.Initrd, Range{le.Uint64(mod), le.Uint64(mod[8:])})
	assert.EqualValues(t, CommandLineAddr, le.Uint64(p[24:]))
	assert.EqualValues(t, 0xf1230, le.Uint64(p[32:]))
	require.EqualValues(t, 3, le.Uint32(p[48:]), "memmap_entries")
	m := mustSlice(t, g, le.Uint64(p[40:]), 72)
	assert.EqualValues(t, 0x9fc00, le.Uint64(m[8:]))
	assert.EqualValues(t, 2, le.Uint32(m[24+16:]))
	assert.EqualValues(t, 0x100000, le.Uint64(m[48:]))
}

func TestEntryChoice(t *testing.T) {
	pvhNote := imagetest.NoteBytes("Xen", 18, le.AppendUint32(nil, 0x1000200))
	other := linuxELF()
	other.Segments[2].Data = append(imagetest.NoteBytes("GNU", 3, noise(20)), pvhNote...)
	named := linuxELF()
	named.Segments[2].Data = append(imagetest.NoteBytes("Linux", 0x100, nil), pvhNote...)
	virtual := linuxELF()
	virtual.Entry = 0xffffffff81200010
	plain := linuxELF()
	plain.Segments = plain.Segments[:2]
	for _, tt := range []struct {
		name string
		elf  imagetest.ELF
		want Mode
		mode Mode
		rip  uint64
	}{
		{"Linux by guest OS note", linuxELF(), Auto, Long64, 0x1000000},
		{"Linux by owner of a note", named, Auto, Long64, 0x1000000},
		{"other kernel with a PVH note", other, Auto, PVH, 0x1000200},
		{"other kernel, 64-bit asked for", other, Long64, Long64, 0x1000000},
		{"virtual entry point", virtual, Auto, Long64, 0x1200010},
		{"no notes", plain, Auto, Long64, 0x1000000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := config(tt.elf.Build())
			cfg.Entry = tt.want
			e, err := Load(context.Background(), newGuestRAM(t, ramSize), cfg)
			require.NoError(t, err)
			assert.Equal(t, tt.mode, e.Mode)
			assert.Equal(t, tt.rip, e.RIP)
		})
	}
}

func TestLoadBzImage(t *testing.T) {
	g := newGuestRAM(t, ramSize)
	z := imagetest.BzImage{Payload: noise(100001), Trailer: noise(1000), Patch: func(b []byte) {
		le.PutUint64(b[0x250:], 0xdeadbeef) // setup_data in a file means nothing
		le.PutUint32(b[0x22c:], 40<<20-1)   // initrd_addr_max
	}}
	file := z.Build()
	initrd := noise(1 << 20)
	cfg := config(file)
	cfg.Initrd = &Image{R: bytes.NewReader(initrd), Size: 1 << 20}
	e, err := Load(context.Background(), g, cfg)
	require.NoError(t, err)
	assert.Equal(t, &Entry{Mode: Long64, RIP: 0x1000200, RSI: BootParamsAddr, Format: BzImage,
		Kernel: Range{0x1000000, 4 << 20}, Initrd: Range{39 << 20, 1 << 20}}, e)
	code := file[8*512 : len(file)-1000]
	assert.Equal(t, code, mustSlice(t, g, 0x1000000, uint64(len(code))))
	assert.Equal(t, make([]byte, 64), mustSlice(t, g, 0x1000000+uint64(len(code))+15, 64), "the trailer is not loaded")
	assert.Equal(t, initrd, mustSlice(t, g, 39<<20, 1<<20))

	p := mustSlice(t, g, BootParamsAddr, 0x1000)
	assert.Equal(t, file[0x202:0x210], p[0x202:0x210])
	assert.Equal(t, file[0x22c:0x250], p[0x22c:0x250])
	assert.EqualValues(t, 0x1000000, le.Uint32(p[0x214:]), "code32_start")
	assert.EqualValues(t, 0xff, p[0x210])
	assert.Zero(t, le.Uint64(p[0x250:]))
	assert.Equal(t, make([]byte, 0x290-0x26c), p[0x26c:0x290], "nothing after the header's end")
	assert.Len(t, e820(p), 3)
}

func TestErrorsNameTheInput(t *testing.T) {
	cfg := config(nil)
	_, err := Load(context.Background(), newGuestRAM(t, ramSize), cfg)
	var e *Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, "test-kernel: file is truncated: it is empty; get a fresh copy of the file", err.Error())
	assert.ErrorIs(t, err, ErrTruncated)
}

func TestLoadCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := Load(ctx, newGuestRAM(t, ramSize), config(linuxELF().Build()))
	assert.ErrorIs(t, err, context.Canceled)
}

type failingReader struct{ *bytes.Reader }

var errDisk = errors.New("disk on fire")

func (f failingReader) ReadAt(p []byte, off int64) (int, error) {
	if off > 4096 {
		return 0, errDisk
	}
	return f.Reader.ReadAt(p, off)
}

func TestReadErrors(t *testing.T) {
	cfg := config(linuxELF().Build())
	cfg.Kernel.R = failingReader{bytes.NewReader(linuxELF().Build())}
	_, err := Load(context.Background(), newGuestRAM(t, ramSize), cfg)
	assert.ErrorIs(t, err, errDisk)
	assert.ErrorIs(t, err, ErrRead)

	cfg = config(linuxELF().Build())
	cfg.Kernel.Size += 4096 // the file shrank after it was measured
	cfg.Kernel.R = bytes.NewReader(linuxELF().Build()[:9000])
	_, err = Load(context.Background(), newGuestRAM(t, ramSize), cfg)
	assert.ErrorIs(t, err, ErrTruncated)

}

func TestOpenPath(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	for path, want := range map[string]struct {
		err  error
		text string
	}{
		dir:                           {ErrRead, "not a regular file"},
		fifo:                          {ErrRead, "not a regular file"},
		filepath.Join(dir, "missing"): {os.ErrNotExist, "check the path"},
		filepath.Join(fifo, "x"):      {syscall.ENOTDIR, "fifo/x"},
	} {
		_, _, err := OpenPath(path)
		var typed *Error
		require.ErrorAs(t, err, &typed)
		assert.Equal(t, path, typed.File)
		assert.ErrorIs(t, err, ErrRead)
		assert.ErrorIs(t, err, want.err)
		assert.ErrorContains(t, err, want.text)
	}

	path := filepath.Join(dir, "vmlinux")
	require.NoError(t, os.WriteFile(path, linuxELF().Build(), 0o600))
	f, img, err := OpenPath(path)
	require.NoError(t, err)
	defer f.Close()
	assert.Equal(t, path, img.Name)
	assert.NoError(t, VerifyELF(img))
	e, err := Load(context.Background(), newGuestRAM(t, ramSize), Config{Kernel: img, LowRAM: ramSize})
	require.NoError(t, err)
	assert.EqualValues(t, 0x1000000, e.RIP)
}

// TestHeapUse loads a sparse file of 40 MiB: neither its data nor its holes may
// pass through the heap, and holes must not be written to zeroed memory.
func TestHeapUse(t *testing.T) {
	const text, bss = 20 << 20, 20 << 20
	spec := imagetest.ELF{Entry: 0x1000000, Segments: []imagetest.Segment{
		{Type: imagetest.Load, PAddr: 0x1000000, Data: noise(text)},
		{Type: imagetest.Load, PAddr: 0x3000000, Patch: func(p []byte) {
			le.PutUint64(p[8:], text+4096)
			le.PutUint64(p[32:], bss)
			le.PutUint64(p[40:], bss)
		}},
	}}
	f, err := os.Create(filepath.Join(t.TempDir(), "vmlinux"))
	require.NoError(t, err)
	defer f.Close()
	_, err = f.Write(spec.Build())
	require.NoError(t, err)
	require.NoError(t, f.Truncate(text+4096+bss))
	img, err := Open(f)
	require.NoError(t, err)

	for _, zero := range []bool{false, true} {
		g := newGuestRAM(t, 128<<20)
		if !zero {
			clearTo(g.ram[0x3000000:0x3000000+bss], 0xee)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err = Load(context.Background(), g, Config{Kernel: img, LowRAM: 128 << 20, ZeroMemory: zero})
		runtime.ReadMemStats(&after)
		require.NoError(t, err)
		assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
		assert.True(t, bytes.Equal(spec.Segments[0].Data, g.ram[0x1000000:0x1000000+text]))
		assert.True(t, bytes.Equal(make([]byte, bss), g.ram[0x3000000:0x3000000+bss]))
	}
}

func clearTo(b []byte, v byte) {
	for i := range b {
		b[i] = v
	}
}

func TestStockKernel(t *testing.T) {
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
	defer f.Close()
	img, err := Open(f)
	require.NoError(t, err)
	g := newGuestRAM(t, 256<<20)
	e, err := Load(context.Background(), g, Config{Kernel: img, LowRAM: 256 << 20, CommandLine: "quiet"})
	require.NoError(t, err)
	assert.Equal(t, BzImage, e.Format)
	assert.Equal(t, e.Kernel.Addr+0x200, e.RIP)
	h, err := ParseSetupHeader(img)
	require.NoError(t, err)
	want := make([]byte, h.KernelSize)
	_, err = f.ReadAt(want, h.KernelOffset)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(want, mustSlice(t, g, e.Kernel.Addr, uint64(h.KernelSize))))

	_, err = Load(context.Background(), g, Config{Kernel: img, LowRAM: 32 << 20})
	assert.ErrorIs(t, err, ErrMemory)
	assert.True(t, strings.HasPrefix(err.Error(), names[0]), err)
}
