//go:build linux

// Command init is the first process of the Linux test guest: it tells what the
// guest sees of its machine, obeys commands on the console and powers off when
// the power button is pressed, as a full system's init would.
//
// It is kept small, without packages os and fmt: the time to unpack and start
// it is part of every boot that is measured.
package main

import (
	"strings"

	"golang.org/x/sys/unix"
)

// The words of the protocol; package testguest has the same.
const (
	firstLine = "POLYVISOR-GUEST-INIT"
	prefix    = "testguest: "
)

func main() {
	if unix.Getpid() != 1 {
		say("init: this is the init of a test guest and runs only as process 1, in a virtual machine")
		unix.Exit(2)
	}
	say(firstLine)
	mounts()
	dialogue := newPrompted(read("/proc/cmdline"))
	loadModules("/modules", "list")
	if hasVirtio() {
		loadModules("/modules", "devices")
		findDisks()
		virtioConsole()
	}
	watchPowerButton()
	auto(read("/proc/cmdline"))
	say(prefix + "ready")
	var in lines
	for {
		dialogue.print()
		line, ok := in.next(0)
		if !ok {
			sleepForEver() // the console is gone, the power button is not
		}
		if !dialogue.obey(line) {
			obey(line)
		}
	}
}

// virtioConsole talks on the virtio console from now on, if there is one.
func virtioConsole() {
	const path = "/dev/hvc0"
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT || err == unix.ENODEV {
		return
	}
	for to := 0; to < 3 && err == nil; to++ {
		err = unix.Dup3(fd, to, 0)
	}
	if err != nil {
		say(prefix + "error=" + path + ": " + err.Error())
	}
}

// say writes one line to the console in one piece.
func say(line string) {
	b := []byte(line + "\n")
	for len(b) > 0 {
		n, err := unix.Write(1, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return
		}
		b = b[n:]
	}
}

func mounts() {
	for _, m := range []struct{ fs, dir string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		err := unix.Mount(m.fs, m.dir, m.fs, 0, "")
		if err != nil && err != unix.EBUSY {
			say(prefix + "error=mount " + m.dir + ": " + err.Error())
		}
	}
}

// loadModules loads what the builder put into dir, in the order of a list there.
func loadModules(dir, list string) {
	for name := range strings.SplitSeq(read(dir+"/"+list), "\n") {
		if name == "" {
			continue
		}
		fd, err := unix.Open(dir+"/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.FinitModule(fd, "", 0)
			unix.Close(fd)
		}
		if err != nil && err != unix.EEXIST {
			say(prefix + "error=module " + name + ": " + err.Error())
		}
	}
}

// auto runs the commands of testguest.auto=A,B,C on the kernel command line, and the one
// that testguest.rest= begins, which goes to the end of it.
func auto(cmdline string) {
	for word := range strings.FieldsSeq(cmdline) {
		if list, ok := strings.CutPrefix(word, "testguest.auto="); ok {
			for cmd := range strings.SplitSeq(list, ",") {
				obey(cmd)
			}
		}
	}
	if _, cmd, ok := strings.Cut(cmdline, " testguest.rest="); ok {
		obey(cmd)
	}
}

// read returns a whole file, or what could be read of it.
func read(path string) string {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	var all []byte
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return string(all)
		}
		all = append(all, buf[:n]...)
	}
}
