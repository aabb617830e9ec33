//go:build linux

package guest

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/internal/agent/proto"
)

// Main runs the agent and returns the exit code of its process. As the first process of a
// system it sets that up first, and does not return while the system goes on.
func Main() int {
	s := &Server{Init: os.Getpid() == 1}
	if s.Init {
		s.Problems = setUp()
		s.children.buryAll()
		watchPowerButton()
	}
	l, err := listenVsock(proto.Port)
	if err == nil {
		err = s.Serve(l)
	}
	say(err.Error())
	if s.Init {
		end(false)
		_ = unix.Pause()
	}
	return 1
}

// say tells people what is wrong, on the console.
func say(text string) { _, _ = os.Stderr.WriteString("polyvisor-vmm agent: " + text + "\n") }
