//go:build linux

package main

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// prompted makes a dialogue of the commands, for programs that wait for an answer: the
// kernel parameter testguest.prompt=WORD has WORD printed, without an end of line, when a
// command is awaited.
type prompted struct {
	word []byte
	// ram is the memory that the firmware tells of, and total what the kernel made of it
	// at first: what is missing later a balloon has taken.
	ram, total int
}

func newPrompted(cmdline string) *prompted {
	p := &prompted{ram: systemRAM(read("/proc/iomem")), total: memoryTotal(read("/proc/meminfo"))}
	for word := range strings.FieldsSeq(cmdline) {
		if w, ok := strings.CutPrefix(word, "testguest.prompt="); ok {
			p.word = []byte(w + " ")
		}
	}
	return p
}

// print prints the prompt.
func (p *prompted) print() {
	if len(p.word) > 0 {
		unix.Write(1, p.word)
	}
}

// obey runs the commands that need what the kernel said at first.
func (p *prompted) obey(line string) bool {
	switch strings.TrimSpace(line) {
	case "cpus":
		online()
		say(strconv.Itoa(cpuCount(read("/proc/cpuinfo"))))
	case "mib":
		say(strconv.Itoa((p.ram - (p.total - memoryTotal(read("/proc/meminfo"))) + 512) / 1024))
	default:
		return false
	}
	return true
}

// online switches processors on that were plugged in: a kernel waits for that.
func online() {
	for n := 1; n < 256; n++ {
		path := "/sys/devices/system/cpu/cpu" + strconv.Itoa(n) + "/online"
		if strings.TrimSpace(read(path)) != "0" {
			continue
		}
		if fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0); err == nil {
			unix.Write(fd, []byte("1"))
			unix.Close(fd)
		}
	}
}

// systemRAM sums up the memory in the text of /proc/iomem, in KiB.
func systemRAM(iomem string) int {
	sum := uint64(0)
	for line := range strings.SplitSeq(iomem, "\n") {
		place, what, ok := strings.Cut(line, " : ")
		first, last, dash := strings.Cut(place, "-")
		if !ok || !dash || what != "System RAM" {
			continue
		}
		from, err := strconv.ParseUint(first, 16, 64)
		to, err2 := strconv.ParseUint(last, 16, 64)
		if err == nil && err2 == nil && to >= from {
			sum += to - from + 1
		}
	}
	return int(sum / 1024)
}

// memoryTotal reads MemTotal of /proc/meminfo, in KiB.
func memoryTotal(meminfo string) int {
	for _, l := range memoryLines(meminfo) {
		if text, ok := strings.CutPrefix(l, "memtotal_kib="); ok {
			n, _ := strconv.Atoi(text)
			return n
		}
	}
	return 0
}
