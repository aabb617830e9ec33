package polyvisor

import (
	"fmt"
	"iter"
	"math/bits"
	"strconv"
	"strings"
)

// CPUSet is a set of host CPUs. Its bytes are libvirt's CPU map: CPU 0 is the
// lowest bit of the first byte, CPU 8 that of the second. The zero value is the
// empty set. A CPUSet is a value: copies are independent, and == compares sets.
type CPUSet struct {
	// bits has no trailing zero bytes, so equal sets have equal bytes.
	bits string
}

// MaxCPU is the highest CPU number that a CPUSet holds.
const MaxCPU = 1<<16 - 1

// CPUs gives the set of the CPUs named. It panics on numbers outside 0 to
// MaxCPU, which are a mistake of the program; ParseCPUSet takes input.
func CPUs(cpus ...int) CPUSet {
	var s CPUSet
	for _, c := range cpus {
		if err := s.Use(c); err != nil {
			panic("polyvisor: " + err.Error())
		}
	}
	return s
}

// CPUMapLen gives how many bytes the map of that many CPUs takes
// (VIR_CPU_MAPLEN).
func CPUMapLen(cpus int) int { return (max(cpus, 0) + 7) / 8 }

// CPUSetFromMap reads a CPU map in libvirt's layout.
func CPUSetFromMap(m []byte) (CPUSet, error) {
	m = m[:len(strings.TrimRight(string(m), "\x00"))]
	if len(m) > CPUMapLen(MaxCPU+1) {
		return CPUSet{}, fmt.Errorf("%w: a CPU map of %d bytes names CPUs beyond %d", ErrInvalidConfig, len(m), MaxCPU)
	}
	return CPUSet{string(m)}, nil
}

// CPUSetFromMaps takes the map of one vCPU out of the maps of all, each maplen
// bytes long (VIR_GET_CPUMAP, VIR_COPY_CPUMAP).
func CPUSetFromMaps(maps []byte, maplen, vcpu int) (CPUSet, error) {
	if maplen <= 0 || vcpu < 0 || vcpu >= len(maps)/maplen {
		return CPUSet{}, fmt.Errorf("%w: no map of vCPU %d in %d bytes of %d each", ErrInvalidConfig, vcpu, len(maps), maplen)
	}
	return CPUSetFromMap(maps[vcpu*maplen : (vcpu+1)*maplen])
}

// CPUUsable reports whether a vCPU may use a CPU, by the maps of all vCPUs,
// each maplen bytes long (VIR_CPU_USABLE). What lies outside the maps is not
// usable.
func CPUUsable(maps []byte, maplen, vcpu, cpu int) bool {
	s, err := CPUSetFromMaps(maps, maplen, vcpu)
	return err == nil && s.Has(cpu)
}

// ParseCPUSet reads a set in the notation of libvirt and Linux: numbers and
// ranges with commas between them, such as "0,2-5"; "^3" takes out a CPU that was
// put in before. The empty string is the empty set.
func ParseCPUSet(text string) (CPUSet, error) {
	if strings.TrimSpace(text) == "" {
		return CPUSet{}, nil
	}
	var m []byte
	for part := range strings.SplitSeq(text, ",") {
		first, last, remove, err := parseCPUs(strings.TrimSpace(part))
		if err != nil {
			return CPUSet{}, fmt.Errorf("%w: CPU set: %w", ErrInvalidConfig, err)
		}
		if n := last/8 + 1 - len(m); n > 0 {
			m = append(m, make([]byte, n)...)
		}
		if remove {
			m[first/8] &^= 1 << (first % 8)
		} else {
			fillBits(m, first, last)
		}
	}
	return CPUSetFromMap(m)
}

// parseCPUs reads one part of a set: a CPU, a range, or a CPU to take out.
func parseCPUs(part string) (first, last int, remove bool, err error) {
	numbers, remove := strings.CutPrefix(part, "^")
	a, b, isRange := strings.Cut(numbers, "-")
	first, errA := strconv.Atoi(a)
	last, errB := first, errA
	if isRange {
		last, errB = strconv.Atoi(b)
	}
	digits := strings.Trim(a+b, "0123456789") == "" // Atoi takes signs
	switch {
	case errA != nil || errB != nil || !digits || last > MaxCPU:
		err = fmt.Errorf("%.20q is not a CPU or a range of CPUs from 0 to %d", part, MaxCPU)
	case last < first:
		err = fmt.Errorf("%.20q is a range that ends before it begins", part)
	case remove && isRange:
		err = fmt.Errorf("%.20q takes a range out; only single CPUs can be", part)
	}
	return first, last, remove, err
}

// fillBits sets the bits from first to last.
func fillBits(m []byte, first, last int) {
	for first <= last {
		if first%8 == 0 && first+7 <= last {
			m[first/8] = 0xff
			first += 8
			continue
		}
		m[first/8] |= 1 << (first % 8)
		first++
	}
}

// Use adds a CPU (VIR_USE_CPU). ErrInvalidConfig if cpu is outside 0 to MaxCPU.
func (s *CPUSet) Use(cpu int) error {
	if cpu < 0 || cpu > MaxCPU {
		return fmt.Errorf("%w: CPU %d is outside 0 to %d", ErrInvalidConfig, cpu, MaxCPU)
	}
	b := []byte(s.bits)
	if n := cpu/8 + 1 - len(b); n > 0 {
		b = append(b, make([]byte, n)...)
	}
	b[cpu/8] |= 1 << (cpu % 8)
	s.bits = string(b)
	return nil
}

// Unuse takes a CPU out (VIR_UNUSE_CPU); one that is not in the set is ignored.
func (s *CPUSet) Unuse(cpu int) {
	if !s.Has(cpu) {
		return
	}
	b := []byte(s.bits)
	b[cpu/8] &^= 1 << (cpu % 8)
	s.bits = strings.TrimRight(string(b), "\x00")
}

// Has reports whether a CPU is in the set.
func (s CPUSet) Has(cpu int) bool {
	return cpu >= 0 && cpu/8 < len(s.bits) && s.bits[cpu/8]&(1<<(cpu%8)) != 0
}

// Len is the number of CPUs in the set.
func (s CPUSet) Len() int {
	n := 0
	for i := range len(s.bits) {
		n += bits.OnesCount8(s.bits[i])
	}
	return n
}

// IsZero reports whether the set is empty.
func (s CPUSet) IsZero() bool { return s.bits == "" }

// All gives the CPUs in rising order.
func (s CPUSet) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		for c := range 8 * len(s.bits) {
			if s.Has(c) && !yield(c) {
				return
			}
		}
	}
}

// Map gives the set as a CPU map of n bytes in libvirt's layout. Missing bytes
// are zero; CPUs that do not fit are left out. n below 0 stands for the
// shortest map that holds the set.
func (s CPUSet) Map(n int) []byte {
	if n < 0 {
		n = len(s.bits)
	}
	m := make([]byte, n)
	copy(m, s.bits)
	return m
}

// String gives the set in the notation that ParseCPUSet reads.
func (s CPUSet) String() string {
	var b strings.Builder
	for c := 0; c < 8*len(s.bits); c++ {
		if !s.Has(c) {
			continue
		}
		last := c
		for s.Has(last + 1) {
			last++
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(c))
		if last > c {
			fmt.Fprintf(&b, "-%d", last)
		}
		c = last
	}
	return b.String()
}

// MarshalText encodes the set as String does.
func (s CPUSet) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what ParseCPUSet reads.
func (s *CPUSet) UnmarshalText(b []byte) (err error) {
	*s, err = ParseCPUSet(string(b))
	return err
}
