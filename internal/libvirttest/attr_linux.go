package libvirttest

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	selfExe = "/proc/self/exe"
	// Freeze and Thaw are signals for Daemon.Signal.
	Freeze = syscall.SIGSTOP
	Thaw   = syscall.SIGCONT
)

// namespaces makes a process the first of namespaces of its own.
func namespaces() (*syscall.SysProcAttr, error) {
	// A process group of its own: what the terminal sends to the tests is for them to pass on.
	a := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID, Setpgid: true}
	if uid, gid := os.Getuid(), os.Getgid(); uid != 0 {
		a.Cloneflags |= unix.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		a.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN}
	}
	return a, nil
}
