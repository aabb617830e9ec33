// Package vmmtest builds the VM process of the kvm driver for tests that start hundreds of machines. A test binary
// can be its own VM process, but one built for the race detector takes several times as long to start and to end.
package vmmtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// program is the import path of the VM process.
const program = "github.com/polyvisor/polyvisor/cmd/polyvisor-vmm"

// Build builds polyvisor-vmm into a directory and gives its path. It takes the go command and a working directory
// inside this module; where there is no go command, as in the nested machine, the path is empty, and a test binary is its own VM
// process. It blocks for seconds the first time.
func Build(ctx context.Context, dir string) (string, error) {
	gocmd, err := exec.LookPath("go")
	if err != nil {
		return "", nil
	}
	path := filepath.Join(dir, "polyvisor-vmm")
	cmd := exec.CommandContext(ctx, gocmd, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", path, program)
	// The caller may be built for the race detector or for coverage.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the VM process: %w: %s", err, out)
	}
	return path, nil
}
