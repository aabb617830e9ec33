//go:build linux

package guest

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/polyvisor/polyvisor/internal/agent/proto"
)

// exec runs a command until it has ended, its outputs too, and the host has heard of it. If
// the host leaves before, the command is killed with all that it has started.
func (s *Server) exec(l *proto.Link, e *proto.Exec) error {
	cmd, err := s.command(e)
	if err != nil {
		return err
	}
	defer cmd.closeChild()
	stdio, err := cmd.open(l, e)
	if err != nil {
		return err
	}
	defer stdio.close()
	run, err := s.start(cmd)
	if err != nil {
		return err
	}
	cmd.closeChild()
	if err := l.Send(proto.TypeAnswer, proto.Answer{PID: run.pid}); err != nil {
		run.kill()
		run.wait()
		return nil
	}
	var work sync.WaitGroup
	work.Go(func() {
		_ = l.Send(proto.TypeExit, run.wait())
	})
	stdio.pump(&work)
	_ = l.Serve(func(t proto.Type, b []byte) error { return control(run, stdio.terminal, t, b) })
	// The host has gone: with the end of the command, or before it.
	run.kill()
	stdio.close()
	work.Wait()
	return nil
}

// control obeys what the host says about a command under way.
func control(r *run, terminal *os.File, t proto.Type, b []byte) error {
	switch t {
	case proto.TypeSignal:
		n := binary.LittleEndian.Uint32(b)
		if n < 1 || n > 64 {
			return proto.ErrProtocol
		}
		r.signal(syscall.Signal(n))
	case proto.TypeResize:
		if terminal == nil {
			return proto.ErrProtocol
		}
		_ = resize(terminal, proto.Size{Cols: binary.LittleEndian.Uint16(b), Rows: binary.LittleEndian.Uint16(b[2:])})
	default:
		return proto.ErrProtocol
	}
	return nil
}

// stdio is the agent's ends of what a command reads and writes.
type stdio struct {
	in       *proto.Inbox
	stdin    *os.File
	out      []output
	terminal *os.File
	once     sync.Once
}

type output struct {
	from *os.File
	to   *proto.Outbox
}

// open makes the ends of a command, both sides.
func (c *command) open(l *proto.Link, e *proto.Exec) (*stdio, error) {
	s := &stdio{}
	err := c.openInto(s, l, e)
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (c *command) openInto(s *stdio, l *proto.Link, e *proto.Exec) error {
	if e.TTY != nil {
		return c.openTerminal(s, l, e)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	c.opened = append(c.opened, null)
	c.files = [3]*os.File{null, null, null}
	if e.Stdin {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		c.opened = append(c.opened, r)
		c.files[0], s.stdin, s.in = r, w, l.Inbox(proto.Stdin)
	}
	for stream, to := range map[uint8]string{proto.Stdout: e.Stdout, proto.Stderr: e.Stderr} {
		switch to {
		case proto.ToNull, proto.ToStdout:
		case proto.ToStream:
			r, w, err := os.Pipe()
			if err != nil {
				return err
			}
			c.opened = append(c.opened, w)
			c.files[stream] = w
			// Who writes what nobody reads is told by SIGPIPE.
			s.out = append(s.out, output{r, l.Outbox(stream, func() { _ = r.Close() })})
		default:
			return proto.Fail(proto.FailInvalid, "the agent does not know the output %q", to)
		}
	}
	if e.Stderr == proto.ToStdout {
		c.files[proto.Stderr] = c.files[proto.Stdout]
	}
	return nil
}

func (c *command) openTerminal(s *stdio, l *proto.Link, e *proto.Exec) error {
	pty, tty, err := openTerminal(*e.TTY)
	if err != nil {
		return err
	}
	s.terminal = pty
	c.opened = append(c.opened, tty)
	c.files = [3]*os.File{tty, tty, tty}
	c.terminal = true
	if e.Stdin {
		s.stdin, s.in = pty, l.Inbox(proto.Stdin)
	}
	// Not closed on a stop: input may go on.
	s.out = []output{{pty, l.Outbox(proto.Stdout, nil)}}
	return nil
}

// pump moves bytes until the ends are closed.
func (s *stdio) pump(work *sync.WaitGroup) {
	if s.in != nil {
		work.Go(func() {
			_, err := s.in.WriteTo(s.stdin)
			if s.terminal == nil {
				_ = s.in.Close() // the command reads no more
				_ = s.stdin.Close()
			} else if err == nil {
				_, _ = s.stdin.Write([]byte{endOfInput})
			}
		})
	}
	for _, o := range s.out {
		work.Go(func() {
			_, err := o.to.ReadFrom(o.from)
			if s.terminal != nil && errors.Is(err, proto.ErrStopped) {
				// Somebody has to read what a terminal prints.
				_, _ = io.Copy(io.Discard, onlyReader{o.from})
			}
			_ = o.to.Close()
		})
	}
}

// onlyReader keeps io.Copy from trying what a terminal cannot.
type onlyReader struct{ io.Reader }

// endOfInput is what a terminal takes for the end of the input: control-D.
const endOfInput = 4

func (s *stdio) close() {
	s.once.Do(func() {
		for _, f := range []*os.File{s.stdin, s.terminal} {
			if f != nil {
				_ = f.Close()
			}
		}
		for _, o := range s.out {
			_ = o.from.Close()
		}
		if s.in != nil {
			_ = s.in.Close()
		}
	})
}
