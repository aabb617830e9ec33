// Package bare has the sources of the C programs that serve as references, compiled when they are needed.
package bare

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

// The programs.
var (
	//go:embed c/bare.c
	exits string
	//go:embed c/nothing.c
	nothing string
	//go:embed c/virtq.c
	virtq string

	sources = map[string]string{"bare": exits, "nothing": nothing, "virtq": virtq}
)

// ErrNoCompiler says that the references cannot be had.
var ErrNoCompiler = errors.New("no C compiler; on Debian: apt-get install gcc libc6-dev")

// Build compiles the program of this name, "bare", "nothing" or "virtq", statically into dir and returns its path.
func Build(ctx context.Context, name, dir string) (string, error) {
	src, ok := sources[name]
	if !ok {
		return "", fmt.Errorf("no C program named %q", name)
	}
	cc, err := exec.LookPath("gcc")
	if err != nil {
		return "", fmt.Errorf("%w (%w)", ErrNoCompiler, err)
	}
	file, out := filepath.Join(dir, name+".c"), filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(src), 0o644); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, cc, "-O2", "-Wall", "-Werror", "-static", "-s", "-o", out, file)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("compile %s.c: %w: %s", name, err, bytes.TrimSpace(said.Bytes()))
	}
	return out, nil
}
