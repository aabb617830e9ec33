package fake

import (
	"encoding/binary"
	"slices"

	"github.com/polyvisor/polyvisor"
)

// Guest-physical addresses, those of the kvm driver's built-in guest.
const (
	legacyStart = 0x9fc00
	imageAddr   = 0x100000
	freeAddr    = 0x200000
	lowMax      = 3 << 30
	highAddr    = 4 << 30
)

// mixer is the odd constant of the fill and sum commands.
const mixer = 0x9e3779b97f4a7c15

// memory is what the guest's memory holds. It is zero but for what was filled,
// each region with the pattern of its seed, and for single words.
type memory struct {
	Fills []region          `json:"fills,omitempty"`
	Words map[uint64]uint64 `json:"words,omitempty"`
}

// region are the MiB up to End, from the end of the one before.
type region struct {
	End  uint64 `json:"end"`
	Seed uint64 `json:"seed"`
}

// maxWords bounds what single words may take on the host.
const maxWords = 1024

type memRange struct{ addr, size uint64 }

// rangesOf gives the RAM of a guest of that size.
func rangesOf(size polyvisor.Bytes) []memRange {
	low := min(uint64(size), lowMax)
	r := []memRange{{0, legacyStart}, {imageAddr, low - imageAddr}}
	if uint64(size) > lowMax {
		r = append(r, memRange{highAddr, uint64(size) - lowMax})
	}
	return r
}

// freeMiB is the number of whole MiB for fill and sum.
func freeMiB(size polyvisor.Bytes) uint64 { return uint64(size)>>20 - freeAddr>>20 }

// mibAddr is the address of the nth of them.
func mibAddr(n uint64) uint64 {
	if a := freeAddr + n<<20; a < lowMax {
		return a
	}
	return highAddr + (freeAddr + n<<20 - lowMax)
}

// inRAM reports whether the 8 bytes at an address are memory.
func inRAM(size polyvisor.Bytes, addr uint64) bool {
	for _, r := range rangesOf(size) {
		if addr >= r.addr && addr-r.addr <= r.size-8 {
			return true
		}
	}
	return false
}

// fill sets the first n MiB to the pattern of a seed.
func (m *memory) fill(n, seed uint64) {
	m.Fills = slices.DeleteFunc(m.Fills, func(r region) bool { return r.End <= n })
	if n > 0 {
		m.Fills = slices.Insert(m.Fills, 0, region{End: n, Seed: seed})
	}
	for a := range m.Words {
		if i, ok := mibOf(a); ok && i < n {
			delete(m.Words, a)
		}
	}
}

// mibOf gives the number of the MiB that an address is in.
func mibOf(addr uint64) (n uint64, ok bool) {
	switch {
	case addr >= highAddr:
		return (addr-highAddr+lowMax)>>20 - freeAddr>>20, true
	case addr >= freeAddr && addr < lowMax:
		return (addr - freeAddr) >> 20, true
	}
	return 0, false
}

// regionOf gives the region that a MiB is in.
func (m *memory) regionOf(n uint64) (r region, filled bool) {
	for _, r := range m.Fills {
		if n < r.End {
			return r, true
		}
	}
	return region{}, false
}

// shrink forgets what is above the first n MiB.
func (m *memory) shrink(n uint64) {
	for i, r := range m.Fills {
		if r.End > n {
			m.Fills[i].End = n
			m.Fills = m.Fills[:i+1]
			if i > 0 && m.Fills[i-1].End >= n || n == 0 {
				m.Fills = m.Fills[:i]
			}
			break
		}
	}
	for a := range m.Words {
		if i, ok := mibOf(a); ok && i >= n {
			delete(m.Words, a)
		}
	}
}

// word reads 8 bytes at an address that is a multiple of 8.
func (m *memory) word(addr uint64) uint64 {
	if v, ok := m.Words[addr]; ok {
		return v
	}
	if n, ok := mibOf(addr); ok {
		if r, filled := m.regionOf(n); filled {
			return (addr + r.Seed) * mixer
		}
	}
	return 0
}

// setWord reports whether there was room.
func (m *memory) setWord(addr, v uint64) bool {
	if _, ok := m.Words[addr]; !ok && len(m.Words) >= maxWords {
		return false
	}
	if m.Words == nil {
		m.Words = make(map[uint64]uint64)
	}
	m.Words[addr] = v
	return true
}

// step is what reading words one after another does to a checksum s, when the
// first one is x*mixer, the next (x+8)*mixer and so on: s becomes a*s + b*x + c
// and x becomes x+d.
type step struct{ a, b, c, d uint64 }

// then is one step after another.
func (f step) then(g step) step {
	return step{a: g.a * f.a, b: g.a*f.b + g.b, c: g.a*f.c + g.b*f.d + g.c, d: f.d + g.d}
}

// filledMiB is the step of a whole MiB: of its 2^17 words, by doubling.
var filledMiB = func() step {
	// One factor is the word's, the other that of the sum.
	factor := uint64(mixer)
	s := step{a: factor, b: factor * factor, d: 8}
	for range 17 {
		s = s.then(s)
	}
	return s
}()

// sum is the checksum of the first n MiB.
func (m *memory) sum(n uint64) uint64 {
	changed := make(map[uint64]bool) // MiB with single words
	for a := range m.Words {
		if i, ok := mibOf(a); ok {
			changed[i] = true
		}
	}
	s := uint64(0)
	for i := range n {
		addr := mibAddr(i)
		r, filled := m.regionOf(i)
		switch {
		case changed[i]:
			for a := addr; a < addr+1<<20; a += 8 {
				s = (s + m.word(a)) * mixer
			}
		case filled:
			s = filledMiB.a*s + filledMiB.b*(addr+r.Seed) + filledMiB.c
		default:
			s *= filledMiB.a
		}
	}
	return s
}

// bytes gives the contents of a range of whole words.
func (m *memory) bytes(addr uint64, p []byte) {
	for i := 0; i+8 <= len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], m.word(addr+uint64(i)))
	}
}

// clone gives a copy.
func (m *memory) clone() memory {
	c := memory{Fills: slices.Clone(m.Fills)}
	for a, v := range m.Words {
		c.setWord(a, v)
	}
	return c
}
