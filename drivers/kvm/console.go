//go:build linux && amd64

package kvm

import (
	"context"
	"io"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vmmproc"
)

// OpenConsole connects to the first serial port.
func (i *instance) OpenConsole(ctx context.Context, o polyvisor.ConsoleOptions) (io.ReadWriteCloser, error) {
	var con *vmmproc.Console
	err := i.control(ctx, func(c *vmmproc.Client) (err error) {
		con, err = c.Console(ctx, o.Force)
		return err
	})
	if err != nil {
		return nil, err
	}
	return console{con}, nil
}

// console gives errors their class.
type console struct{ *vmmproc.Console }

func (c console) Read(p []byte) (int, error) {
	n, err := c.Console.Read(p)
	return n, classifyEnd(err)
}

func (c console) Write(p []byte) (int, error) {
	n, err := c.Console.Write(p)
	return n, classifyEnd(err)
}

// classifyEnd leaves io.EOF as readers expect it.
func classifyEnd(err error) error {
	if err == io.EOF {
		return err
	}
	return classify(err)
}
