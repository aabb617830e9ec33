// Package doctor finds out what a host can do for virtual machines by looking
// at its devices, /proc, /sys, directories and kernels, and says how to mend
// what is missing. It changes nothing and needs no privilege; what it cannot
// see is told as such. It asks no driver: whether KVM answers is told by
// opening a connection.
package doctor

import (
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Status is the outcome of a check.
type Status string

// The outcomes.
const (
	OK Status = "ok"
	// Warn: it works, with limits.
	Warn Status = "warn"
	// Missing: what the check is about cannot be used.
	Missing Status = "missing"
)

// Check is what was found about one thing.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	// Detail is what was found.
	Detail string `json:"detail"`
	// Fix is what to do about it; empty if nothing needs to be done.
	Fix string `json:"fix,omitempty"`
}

func ok(name, detail string) Check           { return Check{name, OK, detail, ""} }
func warn(name, detail, fix string) Check    { return Check{name, Warn, detail, fix} }
func missing(name, detail, fix string) Check { return Check{name, Missing, detail, fix} }

// Host is the host to look at. The zero value is this one.
type Host struct {
	// Root is the directory that holds proc, sys, dev and boot; "/" if empty.
	Root string
	// Device is the KVM device; /dev/kvm if empty.
	Device string
	// State and Run are the directories for definitions and for what runs;
	// they are not looked at if empty.
	State, Run string

	// open opens a device for reading and writing; access is access(2). They
	// are those of the system if nil.
	open   func(path string) error
	access func(path string, mode uint32) error
}

// Checks looks at everything, in the order in which it is to be mended.
func (h Host) Checks() []Check {
	if h.Root == "" {
		h.Root = "/"
	}
	if h.Device == "" {
		h.Device = "/dev/kvm"
	}
	if h.open == nil {
		h.open = openDevice
	}
	if h.access == nil {
		h.access = unix.Access
	}
	checks := []Check{platform(runtime.GOOS, runtime.GOARCH)}
	checks = append(checks, h.kvm(), h.kind(), h.nested())
	checks = append(checks, h.devices()...)
	checks = append(checks, h.hugePages(), h.transparentHugePages(), h.memory())
	if h.State != "" {
		checks = append(checks, h.directory("state directory", "state", h.State))
	}
	if h.Run != "" {
		checks = append(checks, h.directory("run directory", "run", h.Run))
	}
	return append(checks, h.kernel())
}

func platform(goos, goarch string) Check {
	name := goos + "/" + goarch
	if goos != "linux" || goarch != "amd64" {
		return missing("platform", name, "the kvm driver runs on linux/amd64 only; choose another hypervisor with --connect")
	}
	return ok("platform", name)
}

func (h Host) path(p string) string { return filepath.Join(h.Root, p) }

// exists reports whether there is something at the path.
func (h Host) exists(p string) bool {
	_, err := os.Stat(h.path(p))
	return err == nil
}

func openDevice(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}
