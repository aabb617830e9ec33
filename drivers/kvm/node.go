package kvm

import (
	"bufio"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"strconv"
	"strings"

	"github.com/polyvisor/polyvisor"
)

// readNode describes a Linux host from its /proc and /sys, given as one file
// system so that it can be tested.
func readNode(root fs.FS) (polyvisor.Node, error) {
	n := polyvisor.Node{Model: runtime.GOARCH, CPUs: runtime.NumCPU(), NUMANodes: 1, Sockets: 1, Threads: 1}
	var err error
	if n.Memory, err = memInfo(root, "MemTotal"); err != nil {
		return n, err
	}
	readCPUInfo(root, &n)
	readTopology(root, &n)
	return n, nil
}

// memInfo reads a size from /proc/meminfo (proc(5)).
func memInfo(root fs.FS, name string) (polyvisor.Bytes, error) {
	f, err := root.Open("proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 3 && fields[0] == name+":" {
			kib, err := strconv.ParseUint(fields[1], 10, 54)
			if err != nil {
				return 0, fmt.Errorf("/proc/meminfo: %s: %w", name, err)
			}
			return polyvisor.Bytes(kib) * polyvisor.KiB, nil
		}
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("/proc/meminfo: %w", err)
	}
	return 0, fmt.Errorf("/proc/meminfo has no %s", name)
}

// readCPUInfo takes model and frequency from the first CPU of /proc/cpuinfo; a
// host that does not tell them keeps the defaults.
func readCPUInfo(root fs.FS, n *polyvisor.Node) {
	f, err := root.Open("proc/cpuinfo")
	if err != nil {
		return
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, value, ok := strings.Cut(lines.Text(), ":")
		if !ok {
			return // the blank line after the first CPU
		}
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "model name":
			n.Model = value
		case "cpu MHz":
			if mhz, err := strconv.ParseFloat(value, 64); err == nil {
				n.MHz = int(mhz + 0.5)
			}
		}
	}
}

// readTopology counts active CPUs, NUMA cells, sockets per cell, cores per
// socket and threads per core from sysfs
// (Documentation/admin-guide/cputopology.rst).
func readTopology(root fs.FS, n *polyvisor.Node) {
	dirs, err := fs.Glob(root, "sys/devices/system/cpu/cpu[0-9]*")
	if err != nil || len(dirs) == 0 {
		n.Cores = n.CPUs
		return
	}
	active := 0
	sockets := make(map[string]bool)
	cores := make(map[string]int) // threads of each core
	for _, dir := range dirs {
		if readWord(root, path.Join(dir, "online")) == "0" {
			continue // cpu0 often has no such file and is online
		}
		active++
		pkg := readWord(root, path.Join(dir, "topology/physical_package_id"))
		core := readWord(root, path.Join(dir, "topology/core_id"))
		sockets[pkg] = true
		cores[pkg+"/"+readWord(root, path.Join(dir, "topology/die_id"))+"/"+core]++
	}
	if active == 0 {
		n.Cores = n.CPUs
		return
	}
	n.CPUs = active
	for _, threads := range cores {
		n.Threads = max(n.Threads, threads)
	}
	if cells, err := fs.Glob(root, "sys/devices/system/node/node[0-9]*"); err == nil && len(cells) > 0 {
		n.NUMANodes = len(cells)
	}
	// A socket may hold several cells; then each cell counts as a part of one.
	n.Sockets = max(1, len(sockets)/n.NUMANodes)
	n.Cores = max(1, len(cores)/(n.Sockets*n.NUMANodes))
}

func readWord(root fs.FS, name string) string {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// checkCPUs says whether the host has one of the CPUs online on which a virtual
// CPU is to run. A host that does not tell is not asked.
func checkCPUs(root fs.FS, vcpu int, cpus polyvisor.CPUSet) error {
	online, err := polyvisor.ParseCPUSet(readWord(root, "sys/devices/system/cpu/online"))
	if err != nil || online.IsZero() {
		return nil
	}
	for c := range cpus.All() {
		if online.Has(c) {
			return nil
		}
	}
	return fmt.Errorf("%w: vCPU %d: the host has none of the CPUs %s, only %s", polyvisor.ErrInvalidConfig, vcpu, cpus, online)
}

// Limits of a guest's memory: what a Linux kernel or the built-in guest needs,
// and what the page tables, the memory map and the addresses of KVM hold.
const (
	minMemory = 32 * polyvisor.MiB
	maxMemory = 1 * polyvisor.TiB
)

// hostMemory is the most memory that a guest may be given: what the host has with
// its swap space, since a guest that touches more is killed.
func hostMemory(root fs.FS) (polyvisor.Bytes, error) {
	ram, err := memInfo(root, "MemTotal")
	if err != nil {
		return 0, err
	}
	swap, err := memInfo(root, "SwapTotal")
	if err != nil {
		swap = 0 // a kernel without swap
	}
	return min(ram+swap, maxMemory), nil
}
