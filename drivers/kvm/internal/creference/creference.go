// Package creference runs a reference program in C beside what a benchmark measures: it works when it is told to and waits between turns,
// so that both see the same processor and the same load (internal/bench/bare has the programs).
package creference

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// Program is a reference that runs.
type Program struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// Start starts a program, which ends with ctx.
func Start(ctx context.Context, path string, args ...string) (*Program, error) {
	cmd := exec.CommandContext(ctx, path, args...)
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
	return &Program{cmd, in, bufio.NewReader(out)}, nil
}

// Do lets the program do n units of work, and gives the time that passed and that of the processor.
func (p *Program) Do(n uint64) (wall, cpu time.Duration, err error) {
	if _, err := fmt.Fprintln(p.in, n); err != nil {
		return 0, 0, fmt.Errorf("the reference: %w", err)
	}
	line, err := p.out.ReadString('\n')
	if err == nil {
		_, err = fmt.Sscan(line, &wall, &cpu)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("the reference: %w", err)
	}
	return wall, cpu, nil
}

// Close ends the program and waits for it.
func (p *Program) Close() error { return errors.Join(p.in.Close(), p.cmd.Wait()) }
