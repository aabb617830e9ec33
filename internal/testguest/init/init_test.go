//go:build linux

package main

import (
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestLines(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want []string
	}{
		{"report\r\npoweroff\n", []string{"report", "poweroff"}},
		{"\n\r\n\nmem\n", []string{"mem"}},
		{"no end", nil},
		{strings.Repeat("x", 3*maxLine) + "\nuptime\n", []string{"uptime"}},
		{"", nil},
	} {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		go func() {
			_, _ = w.WriteString(tc.in)
			w.Close()
		}()
		var l lines
		var got []string
		for {
			line, ok := l.next(int(r.Fd()))
			if !ok {
				break
			}
			got = append(got, line)
		}
		r.Close()
		assert.Equal(t, tc.want, got)
	}
}

func TestCPUCount(t *testing.T) {
	assert.Equal(t, 2, cpuCount("processor\t: 0\nmodel name\t: processor x\n\nprocessor\t: 1\n"))
	assert.Equal(t, 0, cpuCount(""))
	assert.Equal(t, 639+3*1024, systemRAM("00000000-00000fff : Reserved\n00001000-000a0bff : System RAM\n00100000-003fffff : System RAM\n  00200000-002fffff : Kernel code\n"))
	assert.Equal(t, 0, systemRAM("x : System RAM\n00000000-00000000 : System RAM"))
}

func TestMemoryLines(t *testing.T) {
	got := memoryLines("MemTotal:         102400 kB\nMemFree: 5 kB\nMemAvailable:  99 kB\nHugePages_Total:       0\n")
	assert.Equal(t, []string{"memtotal_kib=102400", "memavailable_kib=99"}, got)
}

func TestReport(t *testing.T) {
	got := report()
	for i, key := range []string{"release=", "cpus=", "memtotal_kib=", "memavailable_kib=", "uptime_ns=", "realtime_ns=", "clocksource=", "cmdline=", "report=done"} {
		require.Less(t, i, len(got))
		assert.True(t, strings.HasPrefix(got[i], key), "%q has no key %q", got[i], key)
	}
}

func TestPressed(t *testing.T) {
	event := func(kind, code uint16, value uint32) []byte {
		e := make([]byte, eventSize)
		binary.NativeEndian.PutUint16(e[16:], kind)
		binary.NativeEndian.PutUint16(e[18:], code)
		binary.NativeEndian.PutUint32(e[20:], value)
		return e
	}
	press, release, other := event(evKey, keyPower, 1), event(evKey, keyPower, 0), event(evKey, 30, 1)
	assert.True(t, pressed(press))
	assert.True(t, pressed(append(append(other, event(0, 0, 0)...), press...)))
	assert.False(t, pressed(append(release, other...)))
	assert.False(t, pressed(press[:20]))
	assert.False(t, pressed(nil))
}
