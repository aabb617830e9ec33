//go:build linux && amd64

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/polyvisor/polyvisor/internal/bench/boot"
	"github.com/polyvisor/polyvisor/internal/nestedvm"
	"github.com/polyvisor/polyvisor/internal/testguest"
)

// Places in the nested machine.
const (
	insideBin    = "/bench/bin"
	insideInitrd = "/bench/initrd.img"
	insidePlan   = "/bench/plan.json"
	insideDisk   = "/bench/disk.raw"
	// insideDrivers is the initial RAM disk with the drivers of devices.
	insideDrivers = "/bench/drivers.img"
	insideState   = "/bench/state"
)

const (
	guestMiB = 256
	// limit is for one boot, on a machine that may be busy with other things.
	limit = 4 * time.Minute
)

// The guest's command line: nothing is printed before init, and init powers off at once.
const (
	cmdline      = "console=ttyS0 quiet panic=-1" + autoPowerOff
	autoPowerOff = " testguest.auto=poweroff"
	// gokvm lacks what these turn off.
	gokvmCmdline = "console=ttyS0 quiet noapic noacpi notsc lapic tsc_early_khz=2000 pci=realloc=off virtio_pci.force_legacy=1 " +
		"rdinit=/init panic=-1 testguest.auto=poweroff"
)

// Names of the subjects.
const (
	ours  = "polyvisor"
	qemu  = "QEMU q35"
	gokvm = "gokvm"

	oursWithDevices = ours + " with devices"

	builtin = "built-in" // the guest without a kernel
)

func ourSubject(kernel string) boot.Subject {
	return boot.Subject{
		Name: ours,
		Args: []string{insideBin + "/polyvisor", "--connect", "kvm:///session", "run", "--rm", "--kernel", kernel, "--initrd", insideInitrd, "--cmdline", cmdline,
			"--memory", fmt.Sprintf("%dMiB", guestMiB), "--vcpus", "1"},
		Env:     []string{"XDG_CACHE_HOME=/bench/cache", "XDG_STATE_HOME=" + insideState},
		Marker:  testguest.FirstLine,
		Timeout: limit,
		Regions: []uint64{guestMiB << 20},
	}
}

// diskSize is that of the disks that machines with devices have.
const diskSize = 1 << 20

// quietTime is how long a VM process is left alone where its memory at rest is measured.
const quietTime = 2 * time.Second

// idleSubject is ourSubject whose guest waits a while before it powers off.
func idleSubject(kernel string) boot.Subject {
	s := ourSubject(kernel)
	for i, a := range s.Args {
		if a == cmdline {
			s.Args[i] = strings.TrimSuffix(cmdline, autoPowerOff)
		}
	}
	s.Marker, s.Linger, s.Input = testguest.Ready, quietTime, "poweroff\r"
	return s
}

// devicesSubject is idleSubject with a disk and a network interface, and their drivers.
func devicesSubject(kernel string) boot.Subject {
	s := idleSubject(kernel)
	s.Name = oursWithDevices
	for i, a := range s.Args {
		if a == insideInitrd {
			s.Args[i] = insideDrivers
		}
	}
	s.Args = append(s.Args, "--disk", insideDisk+",format=raw", "--net", "user")
	return s
}

// smallSubject boots the built-in guest: what is left of a boot when there is no kernel.
func smallSubject() boot.Subject {
	return boot.Subject{
		Name:    builtin,
		Args:    []string{insideBin + "/polyvisor", "--connect", "kvm:///session", "run", "--rm", "--memory", fmt.Sprintf("%dMiB", guestMiB)},
		Env:     []string{"XDG_CACHE_HOME=/bench/cache", "XDG_STATE_HOME=" + insideState},
		Marker:  "pv> ", // its prompt
		Input:   "poweroff\r",
		Timeout: limit,
	}
}

func qemuSubject(kernel string) boot.Subject {
	return boot.Subject{
		Name: qemu,
		Args: []string{qemuProgram, "-M", "q35", "-accel", "kvm", "-cpu", "host", "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
			"-m", fmt.Sprint(guestMiB), "-smp", "1", "-kernel", kernel, "-initrd", insideInitrd, "-append", cmdline},
		Marker:  testguest.FirstLine,
		Timeout: limit,
		Regions: []uint64{guestMiB << 20},
	}
}

func gokvmSubject(kernel string) boot.Subject {
	return boot.Subject{
		Name:   gokvm,
		Args:   []string{insideBin + "/gokvm", "boot", "-c", "1", "-m", fmt.Sprintf("%dM", guestMiB), "-k", kernel, "-i", insideInitrd, "-p", gokvmCmdline},
		Marker: testguest.FirstLine,
		// It does not end when its guest powers off.
		Kill:    true,
		Timeout: limit,
	}
}

const qemuProgram = "/usr/bin/qemu-system-x86_64"

// qemuFiles are the files that QEMU needs in the nested machine: itself, its libraries and firmware, each at its own path.
func qemuFiles(ctx context.Context) ([]nestedvm.File, error) {
	path, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		return nil, fmt.Errorf("%w; on Debian: apt-get install qemu-system-x86", err)
	}
	files := []nestedvm.File{{Source: path, Path: qemuProgram}}
	out, err := exec.CommandContext(ctx, "ldd", path).Output()
	if err != nil {
		return nil, fmt.Errorf("ldd %s: %w", path, err)
	}
	libs, err := libraries(string(out))
	if err != nil {
		return nil, err
	}
	for _, l := range libs {
		files = append(files, nestedvm.File{Source: l, Path: l})
	}
	for _, dir := range []string{"/usr/share/qemu", "/usr/share/seabios"} {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			files = append(files, nestedvm.File{Source: dir, Path: dir})
		}
	}
	return files, nil
}

// libraries reads the output of ldd: "name => path (address)", "path (address)", or "name (address)" for the kernel's own.
func libraries(out string) (paths []string, err error) {
	for line := range strings.Lines(out) {
		name, rest, arrow := strings.Cut(strings.TrimSpace(line), " => ")
		if arrow {
			name = rest
		}
		if strings.HasPrefix(name, "not found") {
			return nil, fmt.Errorf("ldd: %s", strings.TrimSpace(line))
		}
		if p, _, _ := strings.Cut(name, " ("); filepath.IsAbs(p) {
			paths = append(paths, p)
		}
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("ldd named no library: %q", out)
	}
	return paths, nil
}
