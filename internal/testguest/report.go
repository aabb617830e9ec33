package testguest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Report is what a guest says about itself.
type Report struct {
	Release      string        // uname -r
	CPUs         int           // in /proc/cpuinfo
	MemTotal     uint64        // bytes, less than the machine has: the kernel keeps some
	MemAvailable uint64        // bytes
	Uptime       time.Duration // since the guest's kernel started
	Time         time.Time     // the guest's wall clock
	Clocksource  string        // kvm-clock, tsc...
	CommandLine  string        // the whole kernel command line
}

// ErrNoReport means that a console output has no complete report.
var ErrNoReport = errors.New("no complete report of the guest")

const maxCPUs = 1 << 16

// ParseReport reads the last complete report in the console output of a guest.
// Other lines, carriage returns and text before the prefix in a line, such as
// the echo of a command, are allowed.
func ParseReport(console string) (Report, error) {
	var r, complete Report
	found := false
	seen := map[string]bool{}
	var bad error
	for line := range strings.SplitSeq(console, "\n") {
		key, value, ok := splitLine(line)
		if !ok {
			continue
		}
		switch key {
		case "error":
			continue // told by Errors
		case "release": // first line of a report
			r, seen, bad = Report{}, map[string]bool{}, nil
		case "report":
			if bad != nil {
				return Report{}, bad
			}
			if value == "done" && len(seen) == len(fields) {
				complete, found = r, true
			}
			continue
		}
		set, known := fields[key]
		if !known {
			continue
		}
		if err := set(&r, value); err != nil {
			bad = fmt.Errorf("report of the guest: %s=%q: %w", key, value, err)
			continue
		}
		seen[key] = true
	}
	if !found {
		return Report{}, fmt.Errorf("%w in %d bytes of console output", ErrNoReport, len(console))
	}
	return complete, nil
}

// Errors lists what a guest's init said went wrong.
func Errors(console string) []string {
	var l []string
	for line := range strings.SplitSeq(console, "\n") {
		if key, value, ok := splitLine(line); ok && key == "error" {
			l = append(l, value)
		}
	}
	return l
}

// splitLine finds the key and the value in a line of init.
func splitLine(line string) (key, value string, ok bool) {
	_, line, ok = strings.Cut(strings.TrimRight(line, "\r"), Prefix)
	if !ok {
		return "", "", false
	}
	return strings.Cut(line, "=")
}

// fields are the keys that a report must have.
var fields = map[string]func(*Report, string) error{
	"release":     func(r *Report, v string) error { r.Release = v; return nil },
	"clocksource": func(r *Report, v string) error { r.Clocksource = v; return nil },
	"cmdline":     func(r *Report, v string) error { r.CommandLine = v; return nil },
	"cpus": func(r *Report, v string) error {
		n, err := strconv.ParseUint(v, 10, 32)
		if err == nil && n > maxCPUs {
			err = strconv.ErrRange
		}
		r.CPUs = int(n)
		return err
	},
	"memtotal_kib":     func(r *Report, v string) error { return kib(&r.MemTotal, v) },
	"memavailable_kib": func(r *Report, v string) error { return kib(&r.MemAvailable, v) },
	"uptime_ns": func(r *Report, v string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		r.Uptime = time.Duration(n)
		return err
	},
	"realtime_ns": func(r *Report, v string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		r.Time = time.Unix(0, n)
		return err
	},
}

func kib(to *uint64, v string) error {
	n, err := strconv.ParseUint(v, 10, 54)
	*to = n << 10
	return err
}
