package libvirttest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Daemon is a libvirtd of one's own. Its methods may be called from any goroutine, but those that start and end it
// from one at a time.
type Daemon struct {
	tree                      *tree
	ns                        *namespace
	program                   program
	user                      string
	tcpPort, tlsPort, sshPort int

	mu      sync.Mutex
	process *process
	closed  bool
}

// libvirtd is the name of the program in the namespace.
const libvirtd = "libvirtd"

// stopLimit bounds an orderly end.
const stopLimit = time.Minute

// attempts bounds how often a daemon is tried whose ports were taken by others before it had them.
const attempts = 5

// Run runs a daemon until Close. It returns when the daemon serves calls; ctx is only looked at between attempts.
func Run(ctx context.Context, o Options) (*Daemon, error) {
	path, err := find("libvirtd", "libvirt-daemon")
	if err != nil {
		return nil, err
	}
	for i := 1; ; i++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		d, err := run(path, o)
		if err == nil || i == attempts || !strings.Contains(strings.ToLower(err.Error()), "address already in use") {
			return d, err
		}
	}
}

func run(path string, o Options) (_ *Daemon, err error) {
	d := &Daemon{}
	if d.tree, err = newTree(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	for wanted, port := range map[*bool]*int{&o.TCP: &d.tcpPort, &o.TLS: &d.tlsPort, &o.SSH: &d.sshPort} {
		if *wanted {
			if *port, err = freePort(); err != nil {
				return nil, err
			}
		}
	}
	if err := d.configure(o); err != nil {
		return nil, err
	}
	s, err := d.tree.setup(o.KVM)
	if err != nil {
		return nil, err
	}
	if d.ns, err = newNamespace(s, d.tree.path("supervisor.log")); err != nil {
		return nil, err
	}
	env := append(d.tree.environment(), "LIBVIRT_DRIVER_DIR="+d.tree.path("drivers"), "SASL_CONF_PATH="+d.tree.path("sasl"))
	d.program = program{Path: path, Args: []string{"--config", d.tree.path("libvirtd.conf"), "--pid-file", d.tree.path("libvirtd.pid")}, Env: env, Log: d.tree.path("libvirtd.log")}
	if o.TCP || o.TLS {
		d.program.Args = append(d.program.Args, "--listen")
	}
	if err := d.Restart(); err != nil {
		return nil, err
	}
	if o.SSH {
		if err := d.startSSH(); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// freePort finds a port that nobody listens on, below those that the system gives to connections, so that it can be had again.
func freePort() (int, error) {
	var err error
	for range 50 {
		port := 20000 + rand.IntN(12000)
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, err
}

// Running reports whether libvirtd runs.
func (d *Daemon) Running() bool {
	p := d.current()
	return p != nil && p.running()
}

// Exited returns a channel that is closed when the libvirtd that runs now, or ran last, has ended.
func (d *Daemon) Exited() <-chan struct{} { return d.current().exited }

func (d *Daemon) current() *process {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.process
}

// Signal sends libvirtd a signal: Freeze freezes it, and it is frozen when Signal returns, Thaw thaws it.
func (d *Daemon) Signal(sig syscall.Signal) error { return d.ns.signal(libvirtd, sig) }

// Kill ends libvirtd at once, and leaves all else: machines run on, ssh sessions lose their other end.
func (d *Daemon) Kill() error { return d.end(syscall.SIGKILL) }

// Stop asks libvirtd to end, and waits for it. Machines of QEMU run on.
func (d *Daemon) Stop() error { return d.end(syscall.SIGTERM) }

func (d *Daemon) end(sig syscall.Signal) error {
	p := d.current()
	if p == nil || !p.running() {
		return nil
	}
	if err := d.Signal(sig); err != nil {
		return err
	}
	if err := d.Signal(Thaw); err != nil { // it may be frozen
		return err
	}
	select {
	case <-p.exited:
		return nil
	case <-time.After(stopLimit):
		err := fmt.Errorf("stop libvirtd: it still ran after %v; the end of its log:\n%s", stopLimit, d.Log())
		return errors.Join(err, d.Signal(syscall.SIGKILL))
	}
}

// Restart stops libvirtd, if it runs, and starts it again with the same files and ports: what was defined with QEMU's
// driver is defined still, machines that run are found again, while test:///default is as new.
func (d *Daemon) Restart() error {
	if err := d.Stop(); err != nil {
		return err
	}
	// What is left of a killed daemon must not be taken for the new one.
	if err := os.Remove(d.Socket()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	p, err := d.ns.start(libvirtd, d.program)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.process = p
	d.mu.Unlock()
	return d.waitFor(p, "libvirtd.log", func() error { return probeCall(d.Socket()) })
}

// Close ends everything that runs on behalf of the daemon, machines too, and removes its files.
func (d *Daemon) Close() (err error) {
	d.mu.Lock()
	done := d.closed
	d.closed = true
	d.mu.Unlock()
	if done {
		return nil
	}
	if d.ns != nil {
		err = d.ns.close()
		d.tree.keepCapabilities()
	}
	if e := d.tree.remove(); e != nil {
		err = errors.Join(err, fmt.Errorf("remove what is left of libvirtd: %w", e))
	}
	return err
}

// Log returns the end of what libvirtd has printed since its first start.
func (d *Daemon) Log() string { return d.tree.tail("libvirtd.log") }

// tail returns the end of a file.
func (t *tree) tail(name string) string {
	const most = 16 << 10
	text, err := os.ReadFile(t.path(name))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}
