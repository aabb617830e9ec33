//go:build linux && amd64

package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// reference is the program in C, which waits for work between slices.
type reference struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startReference(ctx context.Context, path string) (*reference, error) {
	cmd := exec.CommandContext(ctx, path, hex.EncodeToString(code))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("the reference: %w", err)
	}
	return &reference{cmd, in, bufio.NewReader(out)}, nil
}

// exits lets the reference make n exits.
func (r *reference) exits(n uint64) (wall, cpu time.Duration, err error) {
	if _, err := fmt.Fprintln(r.in, n); err != nil {
		return 0, 0, fmt.Errorf("the reference: %w", err)
	}
	line, err := r.out.ReadString('\n')
	if err == nil {
		_, err = fmt.Sscan(line, &wall, &cpu)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("the reference: %w", err)
	}
	return wall, cpu, nil
}

func (r *reference) close() error {
	return errors.Join(r.in.Close(), r.cmd.Wait())
}
