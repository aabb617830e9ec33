//go:build linux

package main

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// report lists what the guest sees of its machine, one key=value each.
func report() []string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return []string{"error=uname: " + err.Error()}
	}
	l := []string{
		"release=" + unix.ByteSliceToString(u.Release[:]),
		"cpus=" + strconv.Itoa(cpuCount(read("/proc/cpuinfo"))),
	}
	l = append(l, memoryLines(read("/proc/meminfo"))...)
	l = append(l,
		uptimeLine(),
		"realtime_ns="+clock(unix.CLOCK_REALTIME),
		"clocksource="+strings.TrimSpace(read("/sys/devices/system/clocksource/clocksource0/current_clocksource")),
		"cmdline="+strings.TrimSpace(read("/proc/cmdline")),
		"report=done",
	)
	return l
}

// cpuCount counts the processors in the text of /proc/cpuinfo.
func cpuCount(cpuinfo string) int {
	n := 0
	for line := range strings.SplitSeq(cpuinfo, "\n") {
		if key, _, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "processor" {
			n++
		}
	}
	return n
}

// memoryLines takes the total and the free memory from the text of /proc/meminfo.
func memoryLines(meminfo string) []string {
	var l []string
	for line := range strings.SplitSeq(meminfo, "\n") {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] != "kB" {
			continue
		}
		switch f[0] {
		case "MemTotal:":
			l = append(l, "memtotal_kib="+f[1])
		case "MemAvailable:":
			l = append(l, "memavailable_kib="+f[1])
		}
	}
	return l
}

// uptimeLine tells the time since boot, suspended time included.
func uptimeLine() string { return "uptime_ns=" + clock(unix.CLOCK_BOOTTIME) }

// clock reads a clock in nanoseconds.
func clock(id int32) string {
	var t unix.Timespec
	if err := unix.ClockGettime(id, &t); err != nil {
		return err.Error()
	}
	return strconv.FormatInt(t.Nano(), 10)
}
