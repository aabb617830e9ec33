package libvirttest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// namespace is a supervisor, seen from outside.
type namespace struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  io.Closer
	done chan struct{} // closed when it is gone, and all that ran in it

	signaling sync.Mutex    // held while a signal is under way
	signaled  chan struct{} // receives when it has been sent

	mu    sync.Mutex
	procs map[string]*process // the last one of each name
}

// process is a program in a namespace.
type process struct {
	name    string
	started chan error    // one value
	exited  chan struct{} // closed after exit is set
	exit    string
}

// newNamespace returns when the mounts of s are made. What goes wrong in the supervisor is said in the file log.
func newNamespace(s setup, log string) (*namespace, error) {
	attr, err := namespaces()
	if err != nil {
		return nil, err
	}
	complaints, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer complaints.Close()
	n := &namespace{done: make(chan struct{}), signaled: make(chan struct{}, 1), procs: map[string]*process{}}
	n.cmd = &exec.Cmd{Path: selfExe, Args: []string{"libvirttest-supervisor"}, Env: []string{superviseVariable + "=1"}, Stderr: complaints, SysProcAttr: attr}
	if n.in, err = n.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, n.in.Close())
	}
	n.out = out
	if err := n.cmd.Start(); err != nil {
		return nil, errors.Join(startError(err), n.in.Close(), out.Close())
	}
	events := json.NewDecoder(out)
	var first event
	err = n.send(s)
	if err == nil {
		err = events.Decode(&first)
	}
	if err == nil && first.Error != "" {
		err = errors.New(first.Error)
		if first.Denied {
			err = fmt.Errorf("%w: its daemon is run in namespaces, which is not permitted: %w; run the tests as root", ErrMissing, err)
		}
	}
	if err != nil {
		close(n.done) // there are no events
		return nil, errors.Join(fmt.Errorf("supervise libvirtd: %w", err), n.close())
	}
	go n.follow(events)
	return n, nil
}

// startError says what cannot be had if namespaces cannot.
func startError(err error) error {
	for _, denied := range []error{syscall.EPERM, syscall.EACCES, syscall.ENOSPC, syscall.EINVAL, syscall.EUSERS} {
		if errors.Is(err, denied) {
			return fmt.Errorf("%w: its daemon is run in namespaces, which cannot be made: %w; run the tests as root, or permit user namespaces", ErrMissing, err)
		}
	}
	return fmt.Errorf("supervise libvirtd: %w", err)
}

func (n *namespace) send(line any) error {
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	_, err = n.in.Write(append(text, '\n'))
	return err
}

// follow reads what the supervisor tells until it ends.
func (n *namespace) follow(events *json.Decoder) {
	for {
		var e event
		if events.Decode(&e) != nil {
			break
		}
		n.mu.Lock()
		p := n.procs[e.Name]
		n.mu.Unlock()
		switch {
		case e.Signal:
			n.signaled <- struct{}{}
		case p == nil:
		case e.Error != "":
			p.started <- errors.New(e.Error)
			p.end(e.Error)
		case e.Exit != "":
			p.end(e.Exit)
		default:
			p.started <- nil
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.procs {
		p.end("ended with its supervisor")
	}
	close(n.done)
}

// end is called by follow alone.
func (p *process) end(how string) {
	select {
	case <-p.exited:
	default:
		p.exit = how
		close(p.exited)
	}
}

func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// start starts a program. One of the same name must have ended.
func (n *namespace) start(name string, prog program) (*process, error) {
	p := &process{name: name, started: make(chan error, 1), exited: make(chan struct{})}
	n.mu.Lock()
	if old := n.procs[name]; old != nil && old.running() {
		n.mu.Unlock()
		return nil, fmt.Errorf("start %s: it runs", name)
	}
	n.procs[name] = p
	n.mu.Unlock()
	if err := n.send(request{Name: name, Start: &prog}); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	select {
	case err := <-p.started:
		if err != nil {
			return nil, err
		}
	case <-n.done:
		return nil, fmt.Errorf("start %s: its supervisor is gone", name)
	}
	return p, nil
}

// signal sends a signal to a program and returns when that is done; one that has ended does not mind.
func (n *namespace) signal(name string, sig syscall.Signal) error {
	n.signaling.Lock()
	defer n.signaling.Unlock()
	if err := n.send(request{Name: name, Signal: int(sig)}); err != nil {
		return fmt.Errorf("signal %s: %w", name, err)
	}
	select {
	case <-n.signaled:
		return nil
	case <-n.done:
		return fmt.Errorf("signal %s: its supervisor is gone", name)
	}
}

// close ends everything in the namespace and returns when the kernel has let go of it.
func (n *namespace) close() error {
	err := n.cmd.Process.Kill() // the kernel takes the others with it, and waits for them
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-n.done
	var exit *exec.ExitError
	if e := n.cmd.Wait(); e != nil && !errors.As(e, &exit) {
		err = errors.Join(err, e)
	}
	return errors.Join(err, closed(n.in.Close()), closed(n.out.Close()))
}

// closed is the error of closing what Wait may have closed.
func closed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
