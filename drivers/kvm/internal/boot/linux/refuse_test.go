package linux

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/linux/imagetest"
)

// patched builds the usual ELF file with one of its program headers changed.
func patched(segment int, f func(p []byte)) []byte {
	e := linuxELF()
	e.Segments[segment].Patch = f
	return e.Build()
}

// header builds the usual ELF file with its file header changed.
func header(f func(b []byte)) []byte {
	b := linuxELF().Build()
	f(b)
	return b
}

func withNotes(notes []byte) []byte {
	e := linuxELF()
	e.Segments[2].Data = notes
	return e.Build()
}

func bz(f func(b []byte)) []byte {
	return imagetest.BzImage{Payload: noise(20000), Patch: f}.Build()
}

func TestRefusedKernels(t *testing.T) {
	put16 := func(at int, v uint16) func([]byte) { return func(b []byte) { le.PutUint16(b[at:], v) } }
	put32 := func(at int, v uint32) func([]byte) { return func(b []byte) { le.PutUint32(b[at:], v) } }
	put64 := func(at int, v uint64) func([]byte) { return func(b []byte) { le.PutUint64(b[at:], v) } }
	for _, tt := range []struct {
		name string
		file []byte
		want error
		text string
	}{
		{"empty", nil, ErrTruncated, "empty"},
		{"one byte", []byte{0x7f}, ErrTruncated, ""},
		{"text", []byte(strings.Repeat("hello ", 1000)), ErrBadMagic, "neither"},
		{"zeros", make([]byte, 8192), ErrBadMagic, "neither"},
		{"gzip", append([]byte("\x1f\x8b"), noise(5000)...), ErrBadMagic, "gunzip"},
		{"initrd", append([]byte("070701"), noise(5000)...), ErrBadMagic, "cpio"},
		{"EFI program", append([]byte("MZ"), make([]byte, 5000)...), ErrBadMagic, "EFI"},

		{"ELF magic", header(func(b []byte) { b[1] ^= 1 }), ErrBadMagic, ""},
		{"ELF header only in part", linuxELF().Build()[:40], ErrTruncated, "ELF header"},
		{"program headers cut off", linuxELF().Build()[:100], ErrTruncated, "program headers"},
		{"32-bit ELF", header(func(b []byte) { b[4] = 1 }), ErrUnsupported, "32-bit"},
		{"i386", header(put16(18, 3)), ErrUnsupported, "32-bit"},
		{"big-endian", header(func(b []byte) { b[5] = 2 }), ErrUnsupported, "endian"},
		{"arm64", header(put16(18, 183)), ErrUnsupported, "machine 183"},
		{"object file", header(put16(16, 1)), ErrUnsupported, "type 1"},
		{"no program headers", header(put16(56, 0)), ErrMalformed, "program headers"},
		{"too many program headers", header(put16(56, 0xffff)), ErrMalformed, "65535"},
		{"program header size", header(put16(54, 55)), ErrMalformed, "55"},
		{"program headers beyond the file", header(put64(32, 1<<40)), ErrTruncated, ""},
		{"program headers at the end of numbers", header(put64(32, ^uint64(0)-3)), ErrTruncated, ""},
		{"entry outside", header(put64(24, 0x1000000+10000)), ErrMalformed, "entry point"},
		{"entry in bss", header(put64(24, 0x1200000+6000)), ErrMalformed, "entry point"},
		{"nothing to load", imagetest.ELF{Entry: 1, Segments: []imagetest.Segment{{Type: 7, Data: noise(9)}}}.Build(),
			ErrMalformed, "nothing to load"},

		{"filesz over memsz", patched(0, put64(40, 9999)), ErrMalformed, "ELF segment 0"},
		{"segment beyond the file", patched(1, put64(8, 1<<30)), ErrTruncated, "ELF segment 1"},
		{"segment longer than the file", patched(1, func(p []byte) {
			le.PutUint64(p[32:], 1<<40)
			le.PutUint64(p[40:], 1<<40)
		}), ErrTruncated, "ELF segment 1"},
		{"offset overflow", patched(1, put64(8, ^uint64(0)-10)), ErrMalformed, "overflows"},
		{"memory overflow", patched(1, put64(24, ^uint64(0)-10)), ErrMalformed, "overflows"},
		{"size overflow", patched(1, put64(40, ^uint64(0))), ErrMalformed, "overflows"},
		{"overlap", patched(1, put64(24, 0x1000000+9999)), ErrMalformed, "overlaps segment 0"},
		{"same place", patched(1, put64(24, 0x1000000)), ErrMalformed, "overlaps segment 0"},
		{"below 1 MiB", patched(1, put64(24, 0x7000)), ErrMemory, "ELF segment 1"},
		{"across 1 MiB", patched(1, put64(24, 0xff000)), ErrMemory, "ELF segment 1"},
		{"across the end of RAM", patched(1, put64(24, ramSize-8192)), ErrMemory, "ELF segment 1"},
		{"outside RAM", patched(1, put64(24, 5<<30)), ErrMemory, "more memory"},
		{"bss larger than RAM", patched(1, put64(40, 1<<40)), ErrMemory, "ELF segment 1"},

		{"notes too large", withNotes(make([]byte, maxNoteBytes+1)), ErrMalformed, "notes"},
		{"notes without end", withNotes(bytes.Repeat(make([]byte, 12), maxNotes+1)), ErrMalformed, "1024 notes"},
		{"note name too long", withNotes([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\x12\x00\x00\x00Xen\x00")), ErrMalformed, "note 0"},
		{"note text too long", withNotes([]byte("\x04\x00\x00\x00\x09\x00\x00\x00\x12\x00\x00\x00Xen\x00\x01\x00\x00\x00")), ErrMalformed, "note 0"},
		{"notes beyond the file", patched(2, put64(8, 1<<20)), ErrTruncated, "ELF segment 2"},
		{"PVH entry outside", withNotes(imagetest.NoteBytes("Xen", 18, le.AppendUint32(nil, 0x900000))), ErrMalformed, "PVH"},
		{"PVH entry above 4 GiB", withNotes(imagetest.NoteBytes("Xen", 18, le.AppendUint64(nil, 0x101000000))), ErrMalformed, "PVH"},

		{"HdrS magic", bz(func(b []byte) { b[0x203] ^= 0x20 }), ErrBadMagic, ""},
		{"boot flag", bz(put16(0x1fe, 0)), ErrBadMagic, "boot flag"},
		{"protocol 2.05", bz(put16(0x206, 0x205)), ErrUnsupported, "2.05"},
		{"protocol 2.11", bz(put16(0x206, 0x20b)), ErrUnsupported, "2.11"},
		{"zImage", bz(func(b []byte) { b[0x211] = 0 }), ErrUnsupported, "zImage"},
		{"32-bit kernel", bz(put16(0x236, 0)), ErrUnsupported, "32-bit"},
		{"no jump", bz(func(b []byte) { b[0x200] = 0x90 }), ErrMalformed, "length"},
		{"short header", bz(func(b []byte) { b[0x201] = 0x10 }), ErrMalformed, "length"},
		{"long header", bz(func(b []byte) { b[0x201] = 0xff }), ErrMalformed, "length"},
		{"more setup than file", bz(func(b []byte) { b[0x1f1] = 255 }), ErrTruncated, "protected-mode"},
		{"no kernel", bz(put32(0x1f4, 0)), ErrMalformed, "0 bytes"},
		{"kernel longer than the file", bz(put32(0x1f4, 0x100000)), ErrTruncated, "promises"},
		{"absurd length", bz(put32(0x1f4, 0xffffffff)), ErrMalformed, ""},
		{"alignment 0", bz(put32(0x230, 0)), ErrMalformed, "alignment"},
		{"odd alignment", bz(put32(0x230, 0x200001)), ErrMalformed, "alignment"},
		{"huge alignment", bz(put32(0x230, 1<<31)), ErrMalformed, "alignment"},
		{"preferred address overflows", bz(put64(0x258, ^uint64(0))), ErrMalformed, "preferred"},
		{"preferred address outside", bz(put64(0x258, 1<<40)), ErrMemory, ""},
		{"init_size", bz(put32(0x260, ramSize)), ErrMemory, "more memory"},
		{"init_size of 4 GiB", bz(put32(0x260, 0xffffffff)), ErrMemory, "more memory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGuestRAM(t, ramSize)
			e, err := Load(context.Background(), g, config(tt.file))
			require.ErrorIs(t, err, tt.want)
			assert.Nil(t, e)
			var typed *Error
			require.ErrorAs(t, err, &typed)
			assert.Equal(t, "test-kernel", typed.File)
			assert.ErrorContains(t, err, tt.text)
			assert.NotEmpty(t, typed.Remedy, "what to do about it: %v", err)
			assert.Equal(t, make([]byte, HighMemory), g.ram[:HighMemory], "boot data written for a refused kernel")
		})
	}
}

// TestTruncated cuts a bzImage and an ELF file in the setup area at every
// 4 KiB and at twenty places of the body.
func TestTruncated(t *testing.T) {
	big := linuxELF()
	big.Segments[1].Data, big.Segments[1].MemSize = noise(100000), 0
	for name, file := range map[string][]byte{
		"bzImage": imagetest.BzImage{SetupSects: 39, Payload: noise(300000)}.Build(),
		"ELF":     big.Build(),
	} {
		var cuts []int
		for n := 0; n <= 20480; n += 4096 {
			cuts = append(cuts, n, n+1)
		}
		for i := range 20 {
			cuts = append(cuts, 20480+(len(file)-20480-64)*i/20)
		}
		for _, n := range cuts {
			t.Run(fmt.Sprintf("%s/%d", name, n), func(t *testing.T) {
				_, err := Load(context.Background(), newGuestRAM(t, ramSize), config(file[:n]))
				assert.ErrorIs(t, err, ErrTruncated)
			})
		}
	}
}

func TestRefusedSetups(t *testing.T) {
	kernel := linuxELF().Build()
	fill := func(n int64) *Image { return &Image{R: bytes.NewReader(make([]byte, n)), Size: n, Name: "test-initrd"} }
	for _, tt := range []struct {
		name string
		edit func(c *Config)
		want error
		text string
	}{
		{"long command line", func(c *Config) { c.CommandLine = strings.Repeat("x", 2048) }, ErrCommandLine, "2048 bytes"},
		{"command line over the header's limit", func(c *Config) {
			c.Kernel = image(bz(func(b []byte) { le.PutUint32(b[0x238:], 100) }))
			c.CommandLine = strings.Repeat("x", 101)
		}, ErrCommandLine, "at most 100"},
		{"command line over the room for it", func(c *Config) {
			c.Kernel = image(bz(func(b []byte) { le.PutUint32(b[0x238:], 0xffffffff) }))
			c.CommandLine = strings.Repeat("x", maxCommandLine+1)
		}, ErrCommandLine, ""},
		{"NUL in the command line", func(c *Config) { c.CommandLine = "quiet\x00init=/bin/sh" }, ErrCommandLine, "position 5"},
		{"empty initrd", func(c *Config) { c.Initrd = fill(0) }, ErrTruncated, "test-initrd"},
		{"initrd larger than RAM", func(c *Config) { c.Initrd = fill(ramSize) }, ErrMemory, "test-initrd"},
		{"initrd does not fit above the kernel", func(c *Config) { c.Initrd = fill(ramSize - 0x1204000) }, ErrMemory, "test-initrd"},
		{"initrd size is a lie", func(c *Config) { c.Initrd = fill(100); c.Initrd.Size = 5000 }, ErrTruncated, "test-initrd"},
		{"initrd of absurd size", func(c *Config) { c.Initrd = fill(1); c.Initrd.Size = 1<<63 - 1 }, ErrMemory, ""},
		{"no RAM", func(c *Config) { c.LowRAM = 0 }, ErrMemory, "guest memory"},
		{"RAM into the hole", func(c *Config) { c.LowRAM = HoleStart + 4096 }, ErrMemory, "guest memory"},
		{"odd RAM", func(c *Config) { c.LowRAM-- }, ErrMemory, "whole pages"},
		{"high RAM overflows", func(c *Config) { c.HighRAM = ^uint64(0) &^ 4095 }, ErrMemory, ""},
		{"less RAM than told", func(c *Config) { c.LowRAM, c.Initrd = 2*ramSize, fill(100) }, ErrMemory, "outside RAM"},
		{"reserved RAM", func(c *Config) { c.Reserved = []Range{{ramSize - 1, 10}} }, ErrMemory, "reserved range"},
		{"reserved overflow", func(c *Config) { c.Reserved = []Range{{1 << 40, ^uint64(0)}} }, ErrMemory, "reserved range"},
		{"too many reserved", func(c *Config) { c.Reserved = make([]Range, 65) }, ErrMemory, "65"},
		{"PVH of a bzImage", func(c *Config) { c.Kernel, c.Entry = image(bz(nil)), PVH }, ErrUnsupported, "unpack"},
		{"PVH without a note", func(c *Config) { c.Kernel, c.Entry = image(withNotes(nil)), PVH }, ErrUnsupported, "CONFIG_PVH"},
		{"unknown mode", func(c *Config) { c.Entry = 77 }, ErrUnsupported, "Mode(77)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := config(kernel)
			tt.edit(&cfg)
			_, err := Load(context.Background(), newGuestRAM(t, ramSize), cfg)
			require.ErrorIs(t, err, tt.want)
			var typed *Error
			require.ErrorAs(t, err, &typed)
			assert.ErrorContains(t, err, tt.text)
		})
	}
}

// TestLimitsAccepted shows that the refusals above begin where they should.
func TestLimitsAccepted(t *testing.T) {
	for _, edit := range []func(c *Config){
		func(c *Config) { c.CommandLine = strings.Repeat("x", 2047) },
		func(c *Config) { c.CommandLine = "" },
		func(c *Config) {
			n := int64(ramSize - 0x1205000)
			c.Initrd = &Image{R: bytes.NewReader(make([]byte, n)), Size: n}
		},
		func(c *Config) { c.Reserved = []Range{{ramSize, 10}, {HoleEnd - 1, 1}} },
	} {
		cfg := config(linuxELF().Build())
		edit(&cfg)
		_, err := Load(context.Background(), newGuestRAM(t, ramSize), cfg)
		assert.NoError(t, err)
	}
}

// FuzzLoad checks that whatever is accepted lies inside RAM and in no two places.
func FuzzLoad(f *testing.F) {
	small := linuxELF() // small seeds keep the fuzzer fast
	small.Segments[0].Data, small.Segments[1].Data = noise(0x110), noise(10)
	f.Add(small.Build(), "quiet", uint16(0), false)
	f.Add(small.Build(), "quiet", uint16(100), true)
	f.Add(imagetest.BzImage{SetupSects: 1, Payload: noise(10)}.Build(), "", uint16(5000), false)
	f.Add(imagetest.BzImage{SetupSects: 1, Version: 0x208}.Build(), "x", uint16(1), false)
	f.Add([]byte("MZ"), "", uint16(0), false)
	g := newGuestRAM(f, ramSize)
	f.Fuzz(func(t *testing.T, file []byte, cmdline string, initrd uint16, pvh bool) {
		cfg := config(file)
		cfg.CommandLine = cmdline
		if initrd > 0 {
			cfg.Initrd = &Image{R: bytes.NewReader(make([]byte, initrd)), Size: int64(initrd)}
		}
		if pvh {
			cfg.Entry = PVH
		}
		e, err := Load(context.Background(), g, cfg)
		if err != nil {
			var typed *Error
			require.ErrorAs(t, err, &typed)
			require.NotEmpty(t, err.Error())
			return
		}
		require.Contains(t, []Mode{Long64, PVH}, e.Mode)
		require.GreaterOrEqual(t, e.Kernel.Addr, uint64(HighMemory))
		require.GreaterOrEqual(t, e.RIP, e.Kernel.Addr)
		require.Less(t, e.RIP, e.Kernel.Addr+e.Kernel.Size)
		require.LessOrEqual(t, e.Kernel.Addr+e.Kernel.Size, uint64(ramSize))
		if initrd > 0 {
			require.GreaterOrEqual(t, e.Initrd.Addr, e.Kernel.Addr+e.Kernel.Size)
			require.LessOrEqual(t, e.Initrd.Addr+e.Initrd.Size, uint64(ramSize))
		}
	})
}
