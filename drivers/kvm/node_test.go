package kvm

import (
	"os"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

const meminfo = "MemTotal:       24638304 kB\nMemFree:         1234 kB\n"

const cpuinfo = "processor\t: 0\nmodel name\t: Example CPU 9000 @ 2.30GHz\ncpu MHz\t\t: 2299.998\n\n" +
	"processor\t: 1\nmodel name\t: second\ncpu MHz\t\t: 1.0\n"

func host(cpus ...string) fstest.MapFS {
	m := fstest.MapFS{
		"proc/meminfo": {Data: []byte(meminfo)},
		"proc/cpuinfo": {Data: []byte(cpuinfo)},
	}
	for i, c := range cpus { // "package core" or "package core offline"
		dir := "sys/devices/system/cpu/cpu" + string(rune('0'+i))
		m[dir+"/topology/physical_package_id"] = &fstest.MapFile{Data: []byte(c[:1] + "\n")}
		m[dir+"/topology/core_id"] = &fstest.MapFile{Data: []byte(c[2:3] + "\n")}
		if len(c) > 3 {
			m[dir+"/online"] = &fstest.MapFile{Data: []byte("0\n")}
		}
	}
	return m
}

func TestReadNode(t *testing.T) {
	numa := host("0 0", "0 1", "1 0", "1 1")
	numa["sys/devices/system/node/node0/cpulist"] = &fstest.MapFile{}
	numa["sys/devices/system/node/node1/cpulist"] = &fstest.MapFile{}

	type topology struct{ cpus, nodes, sockets, cores, threads int }
	for _, tc := range []struct {
		name string
		fs   fstest.MapFS
		want topology
	}{
		{"one socket, two cores", host("0 0", "0 1"), topology{2, 1, 1, 2, 1}},
		{"two threads a core", host("0 0", "0 0", "0 1", "0 1"), topology{4, 1, 1, 2, 2}},
		{"two sockets", host("0 0", "0 1", "1 0", "1 1"), topology{4, 1, 2, 2, 1}},
		{"one CPU offline", host("0 0", "0 1 off"), topology{1, 1, 1, 1, 1}},
		{"two NUMA cells", numa, topology{4, 2, 1, 2, 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n, err := readNode(tc.fs)
			require.NoError(t, err)
			require.Equal(t, "Example CPU 9000 @ 2.30GHz", n.Model)
			require.Equal(t, 2300, n.MHz)
			require.Equal(t, polyvisor.Bytes(24638304*polyvisor.KiB), n.Memory)
			require.Equal(t, tc.want, topology{n.CPUs, n.NUMANodes, n.Sockets, n.Cores, n.Threads})
		})
	}
}

func TestReadNodeBadMeminfo(t *testing.T) {
	for name, text := range map[string]string{
		"no total": "MemFree: 1 kB\n", "not a number": "MemTotal: many kB\n", "too large": "MemTotal: 99999999999999999999 kB\n",
	} {
		_, err := readNode(fstest.MapFS{"proc/meminfo": {Data: []byte(text)}})
		require.ErrorContains(t, err, "MemTotal", name)
	}
	_, err := readNode(fstest.MapFS{})
	require.ErrorIs(t, err, os.ErrNotExist)
}

// A guest gets at most what the host has.
func TestHostMemory(t *testing.T) {
	for text, want := range map[string]polyvisor.Bytes{
		"MemTotal: 1048576 kB\n":                              1 * polyvisor.GiB,
		"MemTotal: 1048576 kB\nSwapTotal: 1048576 kB\n":       2 * polyvisor.GiB,
		"MemTotal: 4294967296 kB\nSwapTotal: 4294967296 kB\n": maxMemory,
	} {
		n, err := hostMemory(fstest.MapFS{"proc/meminfo": {Data: []byte(text)}})
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
}

func TestReadNodeOfThisHost(t *testing.T) {
	if _, err := os.Stat("/proc/meminfo"); err != nil {
		t.Skip("needs Linux's /proc")
	}
	n, err := readNode(os.DirFS("/"))
	require.NoError(t, err)
	require.Positive(t, n.CPUs)
	require.GreaterOrEqual(t, n.MaxCPUs(), n.CPUs)
	require.Greater(t, n.Memory, polyvisor.Bytes(64*polyvisor.MiB))
}
