//go:build linux

package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/internal/agent/proto"
)

// setUp makes a system of what the kernel has started: file systems, modules, mounts, the
// root. It goes on after a problem, so that the host can be told.
func setUp() (problems []string) {
	problem := func(err error) {
		if err != nil {
			say(err.Error())
			problems = append(problems, err.Error())
		}
	}
	for _, m := range []proto.Mount{
		{Type: "proc", Target: "/proc", Options: "nosuid,nodev,noexec"},
		{Type: "sysfs", Target: "/sys", Options: "nosuid,nodev,noexec"},
		{Type: "devtmpfs", Target: "/dev", Options: "nosuid"},
		{Type: "devpts", Target: "/dev/pts", Options: "nosuid,noexec,mode=620,ptmxmode=666"},
		{Type: "tmpfs", Target: "/dev/shm", Options: "nosuid,nodev"},
		{Type: "tmpfs", Target: "/run", Options: "nosuid,nodev,mode=755"},
		{Type: "cgroup2", Target: "/sys/fs/cgroup", Options: "nosuid,nodev,noexec"},
	} {
		m.Source = m.Type
		problem(mount(m))
	}
	for _, l := range [][2]string{{"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"}, {"/proc/self/fd/1", "/dev/stdout"}, {"/proc/self/fd/2", "/dev/stderr"}} {
		_ = os.Symlink(l[0], l[1]) // there already, or not worth a word
	}
	problem(loopback())
	b, err := os.ReadFile(proto.ConfigPath)
	if os.IsNotExist(err) {
		return problems
	}
	c := &proto.Config{}
	if err == nil {
		c, err = proto.ParseConfig(b)
	}
	if err != nil {
		problem(err)
		return problems
	}
	for _, m := range c.Modules {
		problem(loadModule(m))
	}
	if c.Hostname != "" {
		problem(os.NewSyscallError("set the host name", unix.Sethostname([]byte(c.Hostname))))
	}
	for _, m := range c.Mounts {
		problem(mount(m))
	}
	if c.Root != "" {
		problem(switchRoot(c.Root))
	}
	return problems
}

// loadModule loads a kernel module that is not compressed; one that is there already is
// no problem.
func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("kernel module: %w", err)
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && err != unix.EEXIST {
		return fmt.Errorf("kernel module %s: %w", path, err)
	}
	return nil
}

var mountFlags = map[string]uintptr{
	"ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC, "sync": unix.MS_SYNCHRONOUS,
	"noatime": unix.MS_NOATIME, "relatime": unix.MS_RELATIME, "nodiratime": unix.MS_NODIRATIME, "bind": unix.MS_BIND, "rbind": unix.MS_BIND | unix.MS_REC,
	"remount": unix.MS_REMOUNT, "rw": 0, "defaults": 0,
}

// mountOptions parts the options of mount(8) into flags and what the file system is told.
func mountOptions(options string) (flags uintptr, data string) {
	var rest []string
	for o := range strings.SplitSeq(options, ",") {
		if f, ok := mountFlags[o]; ok {
			flags |= f
		} else if o != "" {
			rest = append(rest, o)
		}
	}
	return flags, strings.Join(rest, ",")
}

// mount mounts a file system; what is mounted there already is no problem.
func mount(m proto.Mount) error {
	if err := os.MkdirAll(m.Target, 0o755); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	flags, data := mountOptions(m.Options)
	if err := unix.Mount(m.Source, m.Target, m.Type, flags, data); err != nil && err != unix.EBUSY {
		return fmt.Errorf("mount %s (%s) on %s: %w", m.Source, m.Type, m.Target, err)
	}
	return nil
}

// switchRoot makes a directory the root of everything, with what is mounted for the system
// in its place.
func switchRoot(root string) error {
	for _, dir := range []string{"/proc", "/sys", "/dev", "/run"} {
		to := filepath.Join(root, dir)
		err := os.MkdirAll(to, 0o755)
		if err == nil {
			err = unix.Mount(dir, to, "", unix.MS_MOVE, "")
		}
		if err != nil {
			return fmt.Errorf("root %s: %s: %w", root, dir, err)
		}
	}
	err := os.Chdir(root)
	if err == nil {
		err = unix.Mount(".", "/", "", unix.MS_MOVE, "")
	}
	if err == nil {
		err = unix.Chroot(".")
	}
	if err == nil {
		err = os.Chdir("/")
	}
	if err != nil {
		return fmt.Errorf("root %s: %w", root, err)
	}
	return nil
}

// loopback sets the interface lo up.
func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil // a kernel without networks
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err == nil {
		r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
	}
	if err != nil {
		return fmt.Errorf("set up the interface lo: %w", err)
	}
	return nil
}
