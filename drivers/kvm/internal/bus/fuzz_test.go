package bus

import (
	"encoding/binary"
	"testing"
)

// The oracle is a plain array of owners, one a byte of address space: whatever
// ranges and accesses the input asks for, each byte reaches its owner at the
// right offset or nobody.
func fuzzSpace(f *testing.F, last, origin uint64) {
	const size = 64 // the part of the space ranges and accesses fall into
	f.Add([]byte{0, 0x08, 8, 0, 0x10, 2, 1, 0x0e, 4, 2, 0x07, 8, 3, 0x08, 8, 1, 0x08, 1})
	f.Add([]byte{0, 0, 64, 1, 0, 8, 2, 63, 8, 1, 63, 1})
	f.Add([]byte{0, 60, 4, 0, 0, 4, 1, 62, 8, 2, 255, 255, 3, 0, 4})
	f.Fuzz(func(t *testing.T, in []byte) {
		b := New("fuzz", last)
		var owner [size]*ram
		var offset [size]int
		for ; len(in) >= 3; in = in[3:] {
			op, at, n := in[0]%4, int(in[1])%size, int(in[2])
			addr := origin + uint64(at)
			switch op {
			case 0:
				free := n > 0 && at+n <= size
				for i := at; free && i < at+n; i++ {
					free = owner[i] == nil
				}
				if origin+size-1 < last && at+n > size {
					continue // outside the part the oracle models
				}
				d := newRAM(t, n, in[1]^in[2])
				if err := b.Add(addr, uint64(n), "d", d); (err == nil) != free {
					t.Fatalf("Add(%#x, %d) = %v with free = %v", addr, n, err, free)
				} else if err == nil {
					for i := range n {
						owner[at+i], offset[at+i] = d, i
					}
				}
			case 1:
				n %= 12
				want, hit := make([]byte, n), false
				for i := range want {
					want[i] = 0xff
					if at+i < size && n <= MaxAccess && owner[at+i] != nil {
						want[i], hit = owner[at+i].bytes[offset[at+i]], true
					}
				}
				got := make([]byte, n)
				if b.Read(addr, got) != hit || string(got) != string(want) {
					t.Fatalf("Read(%#x) = %x, want %x, hit %v", addr, got, want, hit)
				}
			case 2:
				n %= 12
				p, hit := make([]byte, n, n+8), false
				binary.LittleEndian.PutUint64(p[: n : n+8][:8], uint64(len(in))*0x0102030405060708)
				for i := range p {
					hit = hit || at+i < size && n <= MaxAccess && owner[at+i] != nil
				}
				if b.Write(addr, p) != hit {
					t.Fatalf("Write(%#x, %d bytes) = %v", addr, n, !hit)
				}
				for i := range p {
					if hit && at+i < size && owner[at+i] != nil && owner[at+i].bytes[offset[at+i]] != p[i] {
						t.Fatalf("Write(%#x): byte %d did not arrive", addr, i)
					}
				}
			case 3:
				exact := n > 0 && at+n <= size && owner[at] != nil && offset[at] == 0 && len(owner[at].bytes) == n
				if err := b.Remove(addr, uint64(n)); (err == nil) != exact {
					t.Fatalf("Remove(%#x, %d) = %v", addr, n, err)
				} else if err == nil {
					for i := range n {
						owner[at+i] = nil
					}
				}
			}
		}
	})
}

// FuzzPortDecode ends its window at the last port.
func FuzzPortDecode(f *testing.F) { fuzzSpace(f, PortLast, PortLast-63) }

// FuzzMMIODecode ends its window at the top of 64 bits, where sums wrap.
func FuzzMMIODecode(f *testing.F) { fuzzSpace(f, ^uint64(0), ^uint64(0)-63) }
