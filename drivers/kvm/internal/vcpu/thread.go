//go:build linux && amd64

package vcpu

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Thread is what the host knows about the thread of a processor.
type Thread struct {
	// Running says that it executes, or is ready to: a processor that waits for
	// an interrupt, or is paused, sleeps.
	Running bool
	CPU     int           // of the host, on which it runs or ran last; -1 if not known
	Time    time.Duration // see VCPU.CPUTime
	// Affinity is the host CPUs that it may run on, as a map: CPU 0 is the lowest
	// bit of the first byte. Nil if not known.
	Affinity []byte
}

// ErrNoCPU is matched by the error of Pin when the host has none of the CPUs, or
// the process may use none of them.
var ErrNoCPU = errors.New("the host has none of these CPUs for this process")

// maxHostCPUs is how many CPUs unix.CPUSet holds.
const maxHostCPUs = 1024

// Pin binds the processor's thread to host CPUs, given as a map
// (sched_setaffinity(2)). Those that the host lacks are ignored unless it lacks all. It may be called at any
// time; after the end of the thread the error is ErrStopped.
func (v *VCPU) Pin(cpus []byte) error {
	var set unix.CPUSet
	for c := range min(8*len(cpus), maxHostCPUs) {
		if cpus[c/8]&(1<<(c%8)) != 0 {
			set.Set(c)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.tid == 0 {
		return ErrStopped
	}
	if set.Count() == 0 {
		return ErrNoCPU
	}
	err := unix.SchedSetaffinity(v.tid, &set)
	if errors.Is(err, unix.EINVAL) {
		return ErrNoCPU
	}
	return os.NewSyscallError("sched_setaffinity", err)
}

// Thread looks at the processor's thread. After its end only the time is known.
func (v *VCPU) Thread() Thread {
	t := Thread{CPU: -1, Time: v.CPUTime()}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.tid == 0 {
		return t
	}
	if running, cpu, err := readTask(v.tid); err == nil {
		t.Running, t.CPU = running, cpu
	}
	var set unix.CPUSet
	if unix.SchedGetaffinity(v.tid, &set) == nil {
		m := make([]byte, maxHostCPUs/8)
		for c := range maxHostCPUs {
			if set.IsSet(c) {
				m[c/8] |= 1 << (c % 8)
			}
		}
		t.Affinity = bytes.TrimRight(m, "\x00")
	}
	return t
}

// readTask reads state and processor, fields 3 and 39 of /proc/self/task/TID/stat
// (proc_pid_stat(5)). The name in field 2 may contain anything.
func readTask(tid int) (running bool, cpu int, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", tid))
	if err != nil {
		return false, -1, err
	}
	text := string(b)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 37 {
		return false, -1, fmt.Errorf("/proc/self/task/%d/stat: %d fields behind the name, want 37 and more", tid, len(fields))
	}
	cpu, err = strconv.Atoi(fields[36])
	return fields[0] == "R", cpu, err
}
