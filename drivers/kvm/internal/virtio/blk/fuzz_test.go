package blk

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/virtiotest"
)

// FuzzBlk feeds requests of any shape: the input is a byte for the cache mode and what is negotiated, and then for each request a byte of
// counts, a byte for each part's length, and the readable bytes.
func FuzzBlk(f *testing.F) {
	seed := func(mode byte, requests ...[]byte) { f.Add(append([]byte{mode}, slices.Concat(requests...)...)) }
	one := func(readable []byte, writable ...byte) []byte {
		b := []byte{byte(1 | len(writable)<<4), byte(len(readable))}
		return append(append(b, writable...), readable...)
	}
	for mode := range 16 {
		seed(byte(mode), one(header(typeIn, 1), 128, 1), one(header(typeFlush, 0), 1), one(header(typeGetID, 0), 5, 1))
	}
	seed(0, one(append(header(typeOut, 1), make([]byte, 200)...), 1))
	seed(0, one(append(header(typeDiscard, 0), ranges(0, 8, 0, 9, 1, 0)...), 1), one(append(header(typeWriteZeroes, 0), ranges(0, 8, 1)...), 1))
	seed(3, one(append(header(typeDiscard, 0), ranges(1<<63, 1<<31, 0)...), 1), one(header(typeIn, 1<<55), 4, 1))
	seed(1, []byte{0x33, 15, 1, 16, 100, 156, 1}, header(typeIn, 0), make([]byte, 16))

	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) == 0 {
			return
		}
		const size = 16 << 10
		mode := in[0]
		in = in[1:]
		img := newMemory(size)
		// Data may only come from the disk; its bytes are 1, and what the guest wrote.
		for i := range img.data {
			img.data[i] = 1
		}
		readOnly := mode&4 != 0
		d := newDevice(t, Config{Image: img, Cache: disk.Cache(mode & 3), ReadOnly: readOnly})
		features := d.Features()
		if mode&8 != 0 {
			features &^= FeatureFlush | FeatureDiscard
		}
		g := bootIn(t, d, features, virtiotest.Options{Memory: 1<<20 + 256<<10, Space: 256 << 10})
		watch := g.h.Queue(0).Watch()
		next := func() int {
			if len(in) == 0 {
				return 0
			}
			b := in[0]
			in = in[1:]
			return int(b)
		}
		for n := 0; len(in) > 0 && n < 32; n++ {
			counts := next()
			var lengths, writable []int
			for range counts & 15 {
				lengths = append(lengths, next())
			}
			for range counts >> 4 {
				// Up to 1020 bytes in steps that make whole sectors with a status byte.
				if l := next(); l > 0 {
					writable = append(writable, l*4-3)
				}
			}
			var readable [][]byte
			for _, l := range lengths {
				b := make([]byte, l*2)
				in = in[copy(b, in[:min(len(in), len(b))]):]
				if l > 0 {
					readable = append(readable, b)
				}
			}
			if len(readable)+len(writable) == 0 {
				continue
			}
			p := g.add(0, readable, writable...)
			watch.Again()
			g.kick(0)
			b, written := p.answer()
			if int(written) > len(b) {
				t.Fatalf("%d bytes written of %d", written, len(b))
			}
			watch.Check()
			if len(b) == 0 {
				continue
			}
			status := b[len(b)-1]
			if status > statusUnsupported {
				t.Fatalf("status %d", status)
			}
			if status != statusOK && written > 1 {
				t.Fatalf("%d bytes written of a request that failed", written)
			}
			all := slices.Concat(readable...)
			if len(all) < headerSize && status == statusOK {
				t.Fatal("success without a header")
			}
			if readOnly && bytes.ContainsFunc(img.contents(), func(r rune) bool { return r != 1 }) {
				t.Fatal("a read-only disk was changed")
			}
			if status == statusOK && binary.LittleEndian.Uint32(all) == typeIn {
				off := binary.LittleEndian.Uint64(all[8:]) * 512
				if !bytes.Equal(b[:len(b)-1], img.contents()[off:off+uint64(len(b)-1)]) {
					t.Fatal("read other than what is there")
				}
			}
		}
	})
}
