package libvirt

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed c/calls.c
var source string

// ErrNoLibrary says that the reference cannot be had.
var ErrNoLibrary = errors.New("needs libvirt's C library and a compiler; on Debian: apt-get install libvirt-dev gcc libc6-dev")

// Build compiles the C program into dir and returns its path.
func Build(ctx context.Context, dir string) (string, error) {
	cc, err := exec.LookPath("gcc")
	if err != nil {
		return "", fmt.Errorf("%w (%w)", ErrNoLibrary, err)
	}
	// The compiler knows best whether it finds the library.
	probe := exec.CommandContext(ctx, cc, "-E", "-x", "c", "-include", "libvirt/libvirt.h", os.DevNull)
	if err := probe.Run(); err != nil {
		return "", errors.Join(ErrNoLibrary, ctx.Err())
	}
	file, out := filepath.Join(dir, "calls.c"), filepath.Join(dir, "calls")
	if err := os.WriteFile(file, []byte(source), 0o644); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, cc, "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", out, file, "-lvirt")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("compile calls.c: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	return out, nil
}
