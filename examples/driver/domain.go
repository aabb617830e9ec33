package processdriver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
)

// domain is one domain: a definition, a run, or both.
type domain struct {
	host *host
	name string
	id   uuid.UUID

	// Under host.mu.
	def  *polyvisor.Config // nil if it is transient
	run  *run              // nil if it is inactive
	last *run              // the run that ended last
}

// run is a process.
type run struct {
	id     int
	config *polyvisor.Config
	cmd    *exec.Cmd

	// Under host.mu.
	paused bool
	asked  bool // to shut down
	killed bool

	over chan struct{} // closed at the end
	stop polyvisor.Stop
}

func (d *domain) Name() string    { return d.name }
func (d *domain) UUID() uuid.UUID { return d.id }

// startLocked starts the process, in a process group of its own, so that a signal
// to this program is not one to its machines. It ends with its standard input,
// and so with this program at the latest.
func (d *domain) startLocked(ctx context.Context, c *polyvisor.Config, o polyvisor.StartOptions) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	const script = `ulimit -v "$0" && exec cat`
	cmd := exec.Command("/bin/sh", "-c", script, strconv.FormatUint(uint64(c.Memory/polyvisor.KiB), 10))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	_, err := cmd.StdinPipe() // closed by Wait
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("%w: %w", polyvisor.ErrNoResource, err)
	}
	d.host.lastID++
	r := &run{id: d.host.lastID, config: c.Clone(), cmd: cmd, paused: o.Paused, over: make(chan struct{})}
	if o.Paused {
		_ = cmd.Process.Signal(syscall.SIGSTOP)
	}
	d.run = r
	go d.watch(r)
	return nil
}

// watch waits for the end of a run.
func (d *domain) watch(r *run) {
	err := r.cmd.Wait()
	d.host.mu.Lock()
	defer d.host.mu.Unlock()
	r.stop = polyvisor.Stop{Reason: polyvisor.StopCrash, Time: time.Now()}
	if err != nil {
		r.stop.Detail = err.Error()
	}
	switch {
	case r.killed:
		r.stop.Reason = polyvisor.StopKilled
	case r.asked:
		r.stop.Reason = polyvisor.StopShutdown
	}
	d.run, d.last = nil, r
	if d.def == nil {
		delete(d.host.domains, d.id)
	}
	close(r.over)
}

// locked runs f with the lock, unless the domain is gone.
func (d *domain) locked(f func() error) error {
	d.host.mu.Lock()
	defer d.host.mu.Unlock()
	if d.host.domains[d.id] != d {
		return fmt.Errorf("%w: domain %q is gone", polyvisor.ErrNotFound, d.name)
	}
	return f()
}

func (d *domain) stateLocked() polyvisor.State {
	switch {
	case d.run != nil && d.run.paused:
		return polyvisor.Paused
	case d.run != nil && d.run.asked:
		return polyvisor.ShuttingDown
	case d.run != nil:
		return polyvisor.Running
	case d.last != nil && !d.last.killed:
		return d.last.stop.Reason.State()
	}
	return polyvisor.Shutoff
}

func (d *domain) State(context.Context) (s polyvisor.State, err error) {
	err = d.locked(func() error { s = d.stateLocked(); return nil })
	return s, err
}

func (d *domain) Config(context.Context) (c *polyvisor.Config, err error) {
	err = d.locked(func() error { c = d.configLocked().Clone(); return nil })
	return c, err
}

func (d *domain) configLocked() *polyvisor.Config {
	if d.run != nil {
		return d.run.config
	}
	return d.def
}

func (d *domain) Info(context.Context) (i polyvisor.Info, err error) {
	err = d.locked(func() error {
		c := d.configLocked()
		i = polyvisor.Info{
			State: d.stateLocked(), ID: -1, Persistent: d.def != nil,
			Memory: c.Memory, MaxMemory: c.MaxMemory, VCPUs: c.VCPUs,
		}
		if d.run != nil {
			i.ID, i.CPUTime = d.run.id, cpuTime(d.run.cmd.Process.Pid)
		} else if d.last != nil {
			stop := d.last.stop
			i.LastStop = &stop
		}
		return nil
	})
	return i, err
}

func (d *domain) Start(ctx context.Context, o polyvisor.StartOptions) error {
	return d.locked(func() error {
		if d.run != nil { // another connection was quicker
			return fmt.Errorf("%w: it runs already", polyvisor.ErrInvalidState)
		}
		return d.startLocked(ctx, d.def, o)
	})
}

func (d *domain) Destroy(context.Context) error {
	var r *run
	err := d.locked(func() error {
		if r = d.run; r == nil {
			if d.last != nil {
				d.last.killed = true // what crashed is shut off from now on
			}
			return nil
		}
		r.killed = true
		return r.signal(syscall.SIGKILL)
	})
	if err != nil || r == nil {
		return err
	}
	// The signal cannot be taken back and the process cannot refuse it, so its end is waited for also without ctx:
	// nobody finds the domain running after an answer that it is not done.
	<-r.over
	return nil
}

func (d *domain) Undefine(context.Context) error {
	return d.locked(func() error {
		if d.def == nil {
			return fmt.Errorf("%w: the domain is transient", polyvisor.ErrInvalidState)
		}
		d.def = nil
		if d.run == nil {
			delete(d.host.domains, d.id)
		}
		return nil
	})
}

// Wait serves those who hold a domain that is gone as well.
func (d *domain) Wait(ctx context.Context) (polyvisor.Stop, error) {
	d.host.mu.Lock()
	r := d.run
	if r == nil {
		r = d.last
	}
	d.host.mu.Unlock()
	if r == nil {
		return polyvisor.Stop{}, fmt.Errorf("%w: the domain has never run", polyvisor.ErrInvalidState)
	}
	select {
	case <-r.over:
		return r.stop, nil
	case <-ctx.Done():
		return polyvisor.Stop{}, ctx.Err()
	}
}

// active runs f on the run, and fails if it has ended meanwhile.
func (d *domain) active(f func(r *run) error) error {
	return d.locked(func() error {
		if d.run == nil {
			return fmt.Errorf("%w: it has stopped", polyvisor.ErrInvalidState)
		}
		return f(d.run)
	})
}

func (r *run) signal(s syscall.Signal) error {
	if err := r.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

func (d *domain) Suspend(context.Context) error {
	return d.active(func(r *run) error { r.paused = true; return r.signal(syscall.SIGSTOP) })
}

func (d *domain) Resume(context.Context) error {
	return d.active(func(r *run) error { r.paused = false; return r.signal(syscall.SIGCONT) })
}

func (d *domain) Shutdown(context.Context) error {
	return d.active(func(r *run) error { r.asked = true; return r.signal(syscall.SIGTERM) })
}

// cpuTime is the CPU time of a process, in ticks of 10 ms; 0 if it has ended.
func cpuTime(pid int) time.Duration {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	// The name in brackets may hold anything; the fields count from behind it.
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseUint(f[11], 10, 64)
	system, _ := strconv.ParseUint(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// hostMemory is the memory of the host.
func hostMemory() (polyvisor.Bytes, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var kib uint64
		if n, _ := fmt.Sscanf(s.Text(), "MemTotal: %d kB", &kib); n == 1 {
			return polyvisor.Bytes(kib) * polyvisor.KiB, nil
		}
	}
	return 0, fmt.Errorf("%w: /proc/meminfo has no MemTotal", polyvisor.ErrNotFound)
}

// The abilities that are declared are there.
var (
	_ polyvisor.Driver     = driver{}
	_ polyvisor.Instance   = (*domain)(nil)
	_ polyvisor.Suspender  = (*domain)(nil)
	_ polyvisor.Shutdowner = (*domain)(nil)
)
