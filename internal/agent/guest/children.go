//go:build linux

package guest

import (
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// children are the processes that the agent has started. The first process of a system is
// also given those whose parents have ended, so there bury takes all.
type children struct {
	mu   sync.Mutex
	ours map[int]chan syscall.WaitStatus
	all  bool // bury runs
}

// start starts a process, which bury knows before it can end.
func (c *children) start(path string, args []string, attr *os.ProcAttr) (pid int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, err := os.StartProcess(path, args, attr)
	if err != nil {
		return 0, err
	}
	pid = p.Pid
	_ = p.Release()
	if c.ours == nil {
		c.ours = map[int]chan syscall.WaitStatus{}
	}
	c.ours[pid] = make(chan syscall.WaitStatus, 1)
	return pid, nil
}

// wait waits for the end of a process that start has started; one caller each.
func (c *children) wait(pid int) syscall.WaitStatus {
	c.mu.Lock()
	ended, all := c.ours[pid], c.all
	c.mu.Unlock()
	if all {
		return <-ended
	}
	// Its number stays taken until it cannot be signalled any more.
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.ours, pid)
	var status syscall.WaitStatus
	_, _ = syscall.Wait4(pid, &status, 0, nil)
	return status
}

// running calls f while the process cannot end, if it has not ended.
func (c *children) running(pid int, f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.ours[pid]; ok {
		f()
	}
}

// buryAll takes every process that ends, for ever. It begins before the first start.
func (c *children) buryAll() {
	c.all = true
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGCHLD)
	go func() {
		for range end {
			for c.bury() {
			}
		}
	}()
}

// bury takes one process that has ended and reports whether there was one.
func (c *children) bury() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
	if err == syscall.EINTR {
		return true
	}
	if err != nil || pid <= 0 {
		return false
	}
	if ended := c.ours[pid]; ended != nil {
		delete(c.ours, pid)
		ended <- status
	}
	return true
}
