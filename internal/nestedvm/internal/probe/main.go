//go:build linux

// Command probe is what the tests of nestedvm run in the machine.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var verbs = map[string]func(args []string) error{
	"check":  func([]string) error { return check() },
	"print":  printBytes,
	"exit":   exit,
	"write":  write,
	"orphan": orphan,
	"sleep":  func([]string) error { fmt.Println("sleeping"); time.Sleep(time.Hour); return nil },
	"deaf":   func([]string) error { signal.Ignore(syscall.SIGQUIT); time.Sleep(time.Hour); return nil },
	"crash":  func([]string) error { return os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0) },
	"cat":    cat,
	"pivot":  func([]string) error { return pivot() },
}

func main() {
	if len(os.Args) < 2 || verbs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: probe VERB ARGS")
		os.Exit(2)
	}
	if err := verbs[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// check looks at what programs find in the machine.
func check() error {
	kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	kvm.Close()
	npt, err := os.ReadFile("/sys/module/kvm_amd/parameters/npt")
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := net.DialTimeout("tcp", l.Addr().String(), 10*time.Second)
	if err != nil {
		return err
	}
	c.Close()
	clock, err := os.ReadFile("/sys/devices/system/clocksource/clocksource0/current_clocksource")
	if err != nil {
		return err
	}
	if _, err := os.Stat("/dev/pts/ptmx"); err != nil {
		return err
	}
	if info, err := os.Stat(os.Getenv("XDG_RUNTIME_DIR")); err != nil || info.Mode().Perm() != 0o700 {
		return fmt.Errorf("XDG_RUNTIME_DIR: %v, %v", info, err)
	}
	f, err := os.CreateTemp("", "")
	if err != nil {
		return err
	}
	f.Close()
	wd, err := os.Getwd()
	if err != nil {
		return err
	}
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	fmt.Printf("npt=%s clock=%s temp=%s wd=%s host=%s args=%q x=%q year=%d cpus=%s\n",
		strings.TrimSpace(string(npt)), strings.TrimSuffix(strings.TrimSpace(string(clock)), "-early"), filepath.Dir(f.Name()), wd, name,
		os.Args[2:], os.Getenv("X"), time.Now().Year(), online())
	fmt.Fprintln(os.Stderr, "to standard error")
	return nil
}

func online() string {
	b, _ := os.ReadFile("/sys/devices/system/cpu/online")
	return strings.TrimSpace(string(b))
}

// printBytes prints args[0] bytes in pieces of args[1].
func printBytes(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	size, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	line := []byte(strings.Repeat("0123456789abcde\n", size/16+1))[:size]
	start := time.Now()
	for ; n > 0; n -= size {
		if _, err := os.Stdout.Write(line[:min(n, size)]); err != nil {
			return err
		}
	}
	fmt.Fprintln(os.Stderr, "printing took", time.Since(start))
	return nil
}

func exit(args []string) error {
	code, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	os.Exit(code)
	return nil
}

// write puts args[1:] into the file args[0].
func write(args []string) error {
	if err := os.MkdirAll(filepath.Dir(args[0]), 0o755); err != nil {
		return err
	}
	f, err := os.Create(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.WriteString(f, strings.Join(args[1:], " "))
	return err
}

// orphan leaves a process behind that holds the output.
func orphan([]string) error {
	cmd := exec.Command(os.Args[0], "sleep")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Start()
}

func cat(args []string) error {
	for _, a := range args {
		b, err := os.ReadFile(a)
		if err != nil {
			return err
		}
		os.Stdout.Write(b)
	}
	return nil
}

// pivot does what a sandbox does: a new mount namespace with another root.
func pivot() error {
	// A thread has a namespace of its own from here on; on another one the rest would
	// change the root of everybody.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		return err
	}
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private: %w", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	return nil
}
