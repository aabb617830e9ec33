package sandbox

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/polyvisor/polyvisor"
)

// program finds a static program for the guest: the one given, the one beside this program, the one in PATH.
func program(given, name, remedy string) (string, error) {
	if given != "" {
		return given, static(given, remedy)
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), name)
		if fi, err := os.Stat(beside); err == nil && fi.Mode().IsRegular() {
			return beside, static(beside, remedy)
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w: no %s on this host; %s", polyvisor.ErrNotFound, name, remedy)
	}
	return path, static(path, remedy)
}

// static refuses a program that wants a loader, which the guest does not have.
func static(path, remedy string) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("%w: %s: %w; %s", polyvisor.ErrInvalidConfig, path, err, remedy)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%w: %s is not static, and the guest has no libraries for it; %s", polyvisor.ErrInvalidConfig, path, remedy)
		}
	}
	return nil
}
