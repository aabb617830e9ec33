//go:build linux

package guest

import (
	"os"
	"syscall"

	"github.com/polyvisor/polyvisor/internal/agent/proto"
)

// run is a command that has started.
type run struct {
	s     *Server
	pid   int
	group *group // nil where the kernel has none
}

// start starts a command in a session of its own, and, where the kernel has them, a control
// group, out of which nothing that it starts can get.
func (s *Server) start(c *command) (*run, error) {
	attr := &os.ProcAttr{Dir: c.dir, Env: c.env, Files: c.files[:], Sys: &syscall.SysProcAttr{Setsid: true, Setctty: c.terminal}}
	if os.Getuid() == 0 {
		attr.Sys.Credential = c.who.credential()
	}
	g := s.groups.add()
	if g != nil {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(g.dir.Fd())
	}
	pid, err := s.children.start(c.path, c.args, attr)
	if err != nil && g != nil {
		// A kernel without clone3 into a group, or a group that takes no processes.
		attr.Sys.UseCgroupFD = false
		s.groups.remove(g)
		g = nil
		pid, err = s.children.start(c.path, c.args, attr)
	}
	if err != nil {
		return nil, err
	}
	return &run{s: s, pid: pid, group: g}, nil
}

// wait waits for the end of the command itself. What it has started may go on.
func (r *run) wait() proto.Exit {
	status := r.s.children.wait(r.pid)
	if r.group != nil {
		r.s.groups.remove(r.group)
	}
	if status.Signaled() {
		return proto.Exit{Code: 128 + int(status.Signal()), Signal: int(status.Signal())}
	}
	return proto.Exit{Code: status.ExitStatus()}
}

// signal sends a signal to the command's process group, if it has not ended.
func (r *run) signal(sig syscall.Signal) {
	r.s.children.running(r.pid, func() { _ = syscall.Kill(-r.pid, sig) })
}

// kill ends the command with all that it has started, unless it has ended by itself: then
// what it left behind was meant to stay.
func (r *run) kill() {
	r.s.children.running(r.pid, func() {
		if r.group != nil {
			r.group.kill()
		}
		_ = syscall.Kill(-r.pid, syscall.SIGKILL)
	})
}
