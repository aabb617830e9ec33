//go:build linux

package guest

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/internal/agent/proto"
)

// grace is how long programs have between SIGTERM and the end of the system.
const grace = 2 * time.Second

// shutdown answers, then ends the system: by itself as its first process, else by asking
// that.
func (s *Server) shutdown(l *proto.Link, reboot bool) error {
	if !s.Init {
		program := "poweroff"
		if reboot {
			program = "reboot"
		}
		path, err := find(program, "/", defaultPath)
		if err != nil {
			return err
		}
		pid, err := s.children.start(path, []string{program}, &os.ProcAttr{Dir: "/"})
		if err != nil {
			return err
		}
		go s.children.wait(pid)
		return settle(l, nil)
	}
	_ = settle(l, nil)
	end(reboot)
	return nil
}

// end ends the system, whose first process this is.
func end(reboot bool) {
	_ = syscall.Kill(-1, syscall.SIGTERM)
	for deadline := time.Now().Add(grace); time.Now().Before(deadline) && others(); {
		time.Sleep(10 * time.Millisecond)
	}
	_ = syscall.Kill(-1, syscall.SIGKILL)
	unix.Sync()
	how := unix.LINUX_REBOOT_CMD_POWER_OFF
	if reboot {
		how = unix.LINUX_REBOOT_CMD_RESTART
	}
	say("the system ends: " + fmt.Sprint(os.NewSyscallError("reboot", unix.Reboot(how))))
}

// others reports whether there are processes that a signal reaches.
func others() bool { return syscall.Kill(-1, 0) == nil }
