//go:build linux && amd64

package kvm

import (
	"context"
	"io"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vmmproc"
)

// OpenConsole connects to the guest's console.
func (i *instance) OpenConsole(ctx context.Context, o polyvisor.ConsoleOptions) (io.ReadWriteCloser, error) {
	var con *vmmproc.Console
	err := i.control(ctx, func(c *vmmproc.Client) (err error) {
		con, err = c.Console(ctx, o.Force)
		return err
	})
	if err != nil {
		return nil, err
	}
	c, err := i.Config(ctx)
	if err != nil {
		con.Close()
		return nil, err
	}
	if c.Console.Virtio {
		return sizedConsole{console{con}}, nil
	}
	return console{con}, nil
}

// sizedConsole is a virtio console.
type sizedConsole struct{ console }

// Resize tells the guest the size of the terminal.
func (c sizedConsole) Resize(ctx context.Context, cols, rows uint16) error {
	return classify(c.Console.SetSize(ctx, cols, rows))
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
