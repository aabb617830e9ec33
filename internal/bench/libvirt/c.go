package libvirt

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// C is the C program on a connection of its own.
type C struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	errs bytes.Buffer
}

// StartC runs the program that Build made, which connects to the URI. ctx bounds its life.
func StartC(ctx context.Context, program, uri, domain string) (*C, error) {
	c := &C{cmd: exec.CommandContext(ctx, program, uri, domain)}
	c.cmd.Stderr = &c.errs
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, c.in.Close())
	}
	if err := c.cmd.Start(); err != nil {
		return nil, errors.Join(err, c.in.Close(), out.Close())
	}
	c.out = bufio.NewReader(out)
	return c, nil
}

// Time is that of Caller.
func (c *C) Time(_ context.Context, op Op, threads, count int) (time.Duration, error) {
	if _, err := fmt.Fprintf(c.in, "%s %d %d\n", op, threads, count); err != nil {
		return 0, c.gone(err)
	}
	line, err := c.out.ReadString('\n')
	if err != nil {
		return 0, c.gone(err)
	}
	ns, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the C program: %w", err)
	}
	return time.Duration(ns), nil
}

// gone says why the program does not answer.
func (c *C) gone(err error) error {
	if e := c.Close(); e != nil {
		return e
	}
	return fmt.Errorf("the C program: %w", err)
}

// Close ends the program. Its error is what the program said if it failed.
func (c *C) Close() error {
	if c.cmd == nil {
		return nil
	}
	cmd := c.cmd
	c.cmd = nil
	_ = c.in.Close() // it ends at the end of its input
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("the C program: %w: %s", err, bytes.TrimSpace(c.errs.Bytes()))
	}
	return nil
}
