package libvirt_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/polyvisor/polyvisor"
)

// hang stops the QEMU of a domain of this program's daemons.
func hang(_ context.Context, name string) (release func(), err error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || !bytes.Contains(line, []byte("\x00guest="+name+",")) {
			continue
		}
		// It belongs to the supervisor of its daemon, and that to the program.
		supervisor, err := parentOf(dir)
		if err != nil {
			continue
		}
		if us, err := parentOf(filepath.Join("/proc", strconv.Itoa(supervisor))); err != nil || us != os.Getpid() {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return nil, err
		}
		p, err := os.FindProcess(pid)
		if err != nil {
			return nil, err
		}
		// A run that has ended needs no signal.
		return func() { _ = p.Signal(syscall.SIGCONT); _ = p.Release() }, p.Signal(syscall.SIGSTOP)
	}
	return nil, fmt.Errorf("%w: no QEMU runs %s", polyvisor.ErrNotFound, name)
}

// parentOf reads the parent's number from a directory of /proc.
func parentOf(dir string) (int, error) {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0, err
	}
	// The name of the program, in parentheses, may have anything in it.
	_, rest, ok := bytes.Cut(stat[bytes.LastIndexByte(stat, ')'):], []byte(") "))
	f := bytes.Fields(rest)
	if !ok || len(f) < 2 {
		return 0, fmt.Errorf("%s/stat: %q", dir, stat)
	}
	return strconv.Atoi(string(f[1]))
}
