package dial

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/uri"
)

const (
	// exitWait is how long a stream that ended waits for the reason.
	exitWait = 3 * time.Second
	// orphanWait is how long a program's own children may keep its stderr after
	// its end.
	orphanWait = 500 * time.Millisecond
	// maxStderr is how much of what a program says ends up in an error.
	maxStderr = 1 << 10
)

// sshProgram starts the user's own ssh, with the options libvirt gives it, so
// that its configuration counts: hosts' aliases, jumps, keys.
func (d *dialer) sshProgram() (net.Conn, error) {
	d.enter("starting " + d.Command)
	var args []string
	if d.Port != 0 {
		args = append(args, "-p", strconv.Itoa(d.Port))
	}
	if d.User != "" {
		args = append(args, "-l", d.User)
	}
	if d.KeyFile != "" {
		args = append(args, "-i", d.KeyFile)
	}
	args = append(args, "-T", "-e", "none")
	if d.NoTTY {
		args = append(args, "-o", "BatchMode=yes")
	}
	switch {
	case d.NoVerify || d.KnownHostsVerify == uri.VerifyIgnore:
		args = append(args, "-o", "StrictHostKeyChecking=no")
	case d.KnownHostsVerify == uri.VerifyAuto:
		args = append(args, "-o", "StrictHostKeyChecking=accept-new")
	}
	if d.KnownHosts != "" {
		if strings.ContainsAny(d.KnownHosts, "\"\n") {
			return nil, fail(ErrConfig, "known_hosts=%s: ssh takes no such path", d.KnownHosts)
		}
		args = append(args, "-o", `UserKnownHostsFile="`+d.KnownHosts+`"`)
	}
	args = append(args, "--", d.Host, d.remoteCommand())
	return startProcess(d.Command, args...)
}

// startProcess runs a program whose standard input and output are the
// connection. Close kills and reaps it.
func startProcess(name string, args ...string) (net.Conn, error) {
	// The parent's ends are files of ours, not those of StdinPipe, for the deadlines.
	stdin, toChild, err := os.Pipe()
	if err != nil {
		return nil, fail(ErrUnreachable, "%s: %w", name, err)
	}
	fromChild, stdout, err := os.Pipe()
	if err != nil {
		stdin.Close()
		toChild.Close()
		return nil, fail(ErrUnreachable, "%s: %w", name, err)
	}
	p := &process{name: name, r: fromChild, w: toChild, exited: make(chan struct{})}
	p.cmd = exec.Command(name, args...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = stdin, stdout, &p.stderr
	p.cmd.WaitDelay = orphanWait
	err = p.cmd.Start()
	stdin.Close()
	stdout.Close()
	if err != nil {
		toChild.Close()
		fromChild.Close()
		return nil, fail(ErrConfig, "command=%s cannot be started: %w", name, err)
	}
	go func() {
		p.exit = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// process is a program as a connection.
type process struct {
	name   string
	cmd    *exec.Cmd
	r, w   *os.File
	stderr tail
	exited chan struct{}
	exit   error // valid once exited is closed

	mu     sync.Mutex
	closed bool
}

func (p *process) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	return n, p.why(err)
}

func (p *process) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	return n, p.why(err)
}

// why adds to an error how the program ended and what it said.
func (p *process) why(err error) error {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return net.ErrClosed
	}
	timer := time.NewTimer(exitWait)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
		return fmt.Errorf("%s closed the connection: %w", p.name, err)
	}
	return ended(p.name, p.exit, p.stderr.String(), err)
}

// refusals are words of ssh, nc and socat, which say in no other way why they end.
var refusals = []string{"Permission denied", "Host key verification failed", "Too many authentication failures"}

// ended is the error of a connection whose program ended.
func ended(name string, exit error, said string, err error) error {
	how := "ended"
	if exit != nil {
		how += " with " + exit.Error()
	}
	if said != "" {
		how += ": " + said
	}
	kind := ErrUnreachable
	for _, words := range refusals {
		if strings.Contains(said, words) {
			kind = ErrPermission
		}
	}
	return fail(kind, "%s %s: %w", name, how, err)
}

func (p *process) Close() error {
	p.mu.Lock()
	first := !p.closed
	p.closed = true
	p.mu.Unlock()
	if first {
		p.w.Close()
		p.r.Close()
		p.cmd.Process.Kill() // an error says that it has ended already
	}
	<-p.exited
	return nil
}

func (p *process) LocalAddr() net.Addr  { return pipeAddr("pipe") }
func (p *process) RemoteAddr() net.Addr { return pipeAddr(p.name) }

func (p *process) SetDeadline(t time.Time) error {
	return errors.Join(p.r.SetReadDeadline(t), p.w.SetWriteDeadline(t))
}
func (p *process) SetReadDeadline(t time.Time) error  { return p.r.SetReadDeadline(t) }
func (p *process) SetWriteDeadline(t time.Time) error { return p.w.SetWriteDeadline(t) }

// pipeAddr is the address of what is no socket.
type pipeAddr string

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

var _ io.Writer = (*tail)(nil)

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(p) > maxStderr {
		t.kept = append(t.kept[:0], p[len(p)-maxStderr:]...)
	} else {
		if over := len(t.kept) + len(p) - maxStderr; over > 0 {
			t.kept = append(t.kept[:0], t.kept[over:]...)
		}
		t.kept = append(t.kept, p...)
	}
	return len(p), nil
}

// String gives it as one line without control characters: it comes from
// elsewhere and ends up on a terminal or in a log.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := bytes.FieldsFunc(t.kept, func(r rune) bool { return r == '\n' || r == '\r' })
	words := make([]string, 0, len(lines))
	for _, l := range lines {
		if s := clean(string(l)); s != "" {
			words = append(words, s)
		}
	}
	return strings.Join(words, "; ")
}

func clean(s string) string {
	s = strings.ToValidUTF8(s, "?")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s))
}
