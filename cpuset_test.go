package polyvisor_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

// The nine macros of libvirt's CPU maps, by the bytes.
func TestCPUMapLayout(t *testing.T) {
	// VIR_CPU_MAPLEN
	for cpus, want := range map[int]int{-1: 0, 0: 0, 1: 1, 8: 1, 9: 2, 64: 8, 65: 9} {
		assert.Equal(t, want, polyvisor.CPUMapLen(cpus), "%d CPUs", cpus)
	}
	// VIR_USE_CPU, VIR_UNUSE_CPU
	var s polyvisor.CPUSet
	for _, cpu := range []int{0, 3, 8, 15, 16} {
		require.NoError(t, s.Use(cpu))
	}
	assert.Equal(t, []byte{0x09, 0x81, 0x01}, s.Map(-1))
	s.Unuse(16)
	s.Unuse(3)
	s.Unuse(100)
	s.Unuse(-1)
	assert.Equal(t, []byte{0x01, 0x81}, s.Map(-1))
	assert.Equal(t, []byte{0x01, 0x81, 0, 0}, s.Map(4), "missing bytes are zero")
	assert.Equal(t, []byte{0x01}, s.Map(1), "what does not fit is left out")
	assert.Empty(t, s.Map(0))
	// VIR_CPU_USED
	for cpu := -1; cpu < 40; cpu++ {
		assert.Equal(t, cpu == 0 || cpu == 8 || cpu == 15, s.Has(cpu), cpu)
	}
	// VIR_GET_CPUMAP, VIR_COPY_CPUMAP, VIR_CPU_USABLE
	maps := slices.Concat(polyvisor.CPUs(0).Map(2), polyvisor.CPUs(9).Map(2), polyvisor.CPUs().Map(2))
	for vcpu, want := range []polyvisor.CPUSet{polyvisor.CPUs(0), polyvisor.CPUs(9), {}} {
		got, err := polyvisor.CPUSetFromMaps(maps, 2, vcpu)
		require.NoError(t, err)
		assert.Equal(t, want, got)
		for cpu := -1; cpu < 20; cpu++ {
			assert.Equal(t, want.Has(cpu), polyvisor.CPUUsable(maps, 2, vcpu, cpu))
		}
	}
	for _, at := range [][2]int{{2, 3}, {2, -1}, {0, 0}, {-2, 0}, {7, 0}, {1 << 62, 1 << 62}} {
		_, err := polyvisor.CPUSetFromMaps(maps, at[0], at[1])
		require.ErrorIs(t, err, polyvisor.ErrInvalidConfig, "%v", at)
		assert.False(t, polyvisor.CPUUsable(maps, at[0], at[1], 0))
	}
	// VIR_NODEINFO_MAXCPUS: see TestMaxCPUs.
}

func TestCPUSetBounds(t *testing.T) {
	var s polyvisor.CPUSet
	for _, cpu := range []int{-1, polyvisor.MaxCPU + 1, 1 << 40} {
		require.ErrorIs(t, s.Use(cpu), polyvisor.ErrInvalidConfig)
		assert.Panics(t, func() { polyvisor.CPUs(cpu) })
	}
	assert.True(t, s.IsZero())
	require.NoError(t, s.Use(polyvisor.MaxCPU))
	assert.Equal(t, 1, s.Len())
	assert.Equal(t, "65535", s.String())
	back, err := polyvisor.CPUSetFromMap(append(s.Map(-1), make([]byte, 1000)...))
	require.NoError(t, err, "zeros name nothing")
	assert.Equal(t, s, back)
	_, err = polyvisor.CPUSetFromMap(append(s.Map(-1), 1))
	require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
}

func TestCPUSetIsAValue(t *testing.T) {
	a := polyvisor.CPUs(1, 2, 9)
	b := a
	b.Unuse(9)
	require.NoError(t, b.Use(3))
	assert.Equal(t, "1-2,9", a.String())
	assert.Equal(t, "1-3", b.String())
	b.Unuse(3)
	assert.True(t, b == polyvisor.CPUs(2, 1), "== compares sets, however they came about")
	m := []byte{1}
	c, err := polyvisor.CPUSetFromMap(m)
	require.NoError(t, err)
	m[0] = 0xff
	assert.Equal(t, polyvisor.CPUs(0), c, "the map stays the caller's")
	c.Map(1)[0] = 0xff
	assert.Equal(t, polyvisor.CPUs(0), c)
}

func TestParseCPUSet(t *testing.T) {
	for in, want := range map[string][]int{
		"": nil, " ": nil, "0": {0}, "3": {3}, "0-3": {0, 1, 2, 3}, "0-3,^2,8": {0, 1, 3, 8}, " 1 , 2 ": {1, 2},
		"5-5": {5}, "7-9": {7, 8, 9}, "0-17": {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17},
		"^4": nil, "4,^4": nil, "^4,4": {4}, "2,1,2": {1, 2}, "007": {7},
	} {
		s, err := polyvisor.ParseCPUSet(in)
		require.NoError(t, err, in)
		assert.Equal(t, want, slices.Collect(s.All()), in)
		assert.Equal(t, len(want), s.Len())
		assert.Equal(t, len(want) == 0, s.IsZero())
	}
	for _, in := range []string{
		",", "1,", "a", "-", "1-", "-1", "--", "1--2", "3-1", "65536", "0-65536", "99999999999999999999", "+1", "1-+2", "^", "^1-2", "1 2", "0x1", "1_0", "１", "1;2",
	} {
		s, err := polyvisor.ParseCPUSet(in)
		require.ErrorIs(t, err, polyvisor.ErrInvalidConfig, in)
		assert.True(t, s.IsZero())
	}
	_, err := polyvisor.ParseCPUSet("0," + strings.Repeat("x", 1<<20))
	require.Error(t, err)
	assert.Less(t, len(err.Error()), 200, "the message does not repeat all of it")
}

func TestCPUSetAllStops(t *testing.T) {
	n := 0
	for range polyvisor.CPUs(1, 2, 3).All() {
		if n++; n == 2 {
			break
		}
	}
	assert.Equal(t, 2, n)
}

func TestCPUSetJSON(t *testing.T) {
	in := polyvisor.VCPUConfig{Number: 1, Affinity: polyvisor.CPUs(0, 1, 2, 5)}
	data, err := json.Marshal(in)
	require.NoError(t, err)
	assert.JSONEq(t, `{"number":1,"affinity":"0-2,5"}`, string(data))
	var back polyvisor.VCPUConfig
	require.NoError(t, json.Unmarshal(data, &back))
	assert.Equal(t, in, back)
	require.Error(t, json.Unmarshal([]byte(`{"affinity":"x"}`), &back))
}

func FuzzParseCPUSet(f *testing.F) {
	for _, s := range []string{"", "0-3,^2,8", "65535", "1-", "^", "0-65535", "0,1,2,3-9,^5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := polyvisor.ParseCPUSet(text)
		if err != nil {
			if polyvisor.CodeOf(err) != polyvisor.CodeInvalidConfig || !s.IsZero() {
				t.Errorf("%v, %v", s, err)
			}
			return
		}
		back, err := polyvisor.ParseCPUSet(s.String())
		if err != nil || back != s {
			t.Errorf("%q came back as %q, %v", s, back, err)
		}
		if again := polyvisor.CPUs(slices.Collect(s.All())...); s.Len() < 1000 && again != s {
			t.Errorf("%q by its members is %q", s, again)
		}
	})
}

func FuzzCPUSetFromMap(f *testing.F) {
	f.Add([]byte{1, 0x80, 0})
	f.Add(make([]byte, 9000))
	f.Add(bytes.Repeat([]byte{0xff}, 8193))
	f.Fuzz(func(t *testing.T, m []byte) {
		s, err := polyvisor.CPUSetFromMap(m)
		if err != nil {
			return
		}
		if back := s.Map(len(m)); !bytes.Equal(back, m) {
			t.Errorf("%x came back as %x", m, back)
		}
		text, err := polyvisor.ParseCPUSet(s.String())
		if err != nil || text != s {
			t.Errorf("%q came back as %q, %v", s, text, err)
		}
	})
}
