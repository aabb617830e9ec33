package libvirttest

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/polyvisor/polyvisor/internal/testguest"
)

// Guest describes a machine that boots an installed kernel with the init of package testguest, whose commands it obeys on
// its console. It takes about ten seconds to boot under emulation.
type Guest struct {
	Name    string
	Kernel  string // files
	Initrd  string
	Release string // of the kernel
	// Cmdline is appended to what the guest needs: "testguest.auto=report,poweroff".
	Cmdline string
	Memory  int // MiB
	VCPUs   int
	// What follows power off, reboot and crash, in libvirt's words: destroy, restart, preserve...
	OnPoweroff, OnReboot, OnCrash string
	// ConsoleLog is a file that the console's output goes to as well, if it is not empty.
	ConsoleLog string
	// Devices is more XML for the devices.
	Devices string
}

// NewGuest returns a guest with one CPU and 192 MiB, which is gone when it powers off or crashes and starts anew when it
// reboots. Its files last as long as the test. A test on a machine without a kernel is skipped.
func NewGuest(t testing.TB, name string) Guest {
	t.Helper()
	g, err := MakeGuest(t.Context(), t.TempDir(), name)
	if errors.Is(err, ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// initramfs is made once: to build its init takes seconds.
var initramfs struct {
	sync.Mutex
	release string
	image   []byte
}

// MakeGuest is NewGuest for programs. The initial RAM disk is written to dir, where QEMU must be able to read it.
func MakeGuest(ctx context.Context, dir, name string) (Guest, error) {
	kernel, release, err := testguest.FindKernel()
	if err != nil {
		return Guest{}, fmt.Errorf("%w, and a kernel for the guest: %w", ErrMissing, err)
	}
	initramfs.Lock()
	defer initramfs.Unlock()
	if initramfs.release != release {
		image, err := testguest.Initramfs(ctx, testguest.Options{Release: release, Modules: testguest.ButtonModules()})
		if err != nil {
			return Guest{}, err
		}
		initramfs.release, initramfs.image = release, image
	}
	f, err := os.CreateTemp(dir, "initramfs-*.cpio")
	if err != nil {
		return Guest{}, err
	}
	_, err = f.Write(initramfs.image)
	if err := errors.Join(err, f.Close()); err != nil {
		return Guest{}, err
	}
	return Guest{Name: name, Kernel: kernel, Initrd: f.Name(), Release: release, Memory: 192, VCPUs: 1, OnPoweroff: "destroy", OnReboot: "restart", OnCrash: "destroy"}, nil
}

// XML is the guest as libvirt wants it: emulated, on q35, with a console on a serial port and nothing that it does not need.
func (g Guest) XML() string {
	log := ""
	if g.ConsoleLog != "" {
		log = "\n      <log file='" + escape(g.ConsoleLog) + "' append='on'/>"
	}
	return fmt.Sprintf(`<domain type='qemu'>
  <name>%s</name>
  <memory unit='MiB'>%d</memory>
  <vcpu>%d</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>%s</kernel>
    <initrd>%s</initrd>
    <cmdline>%s</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='custom' match='exact'><model>qemu64</model></cpu>
  <on_poweroff>%s</on_poweroff>
  <on_reboot>%s</on_reboot>
  <on_crash>%s</on_crash>
  <devices>
    <controller type='usb' model='none'/>
    <serial type='pty'>%s
      <target port='0'/>
    </serial>
    <console type='pty'>
      <target type='serial' port='0'/>
    </console>
    <memballoon model='none'/>%s
  </devices>
</domain>
`, escape(g.Name), g.Memory, g.VCPUs, escape(g.Kernel), escape(g.Initrd), escape(strings.TrimSpace("console=ttyS0 quiet panic=-1 "+g.Cmdline)),
		g.OnPoweroff, g.OnReboot, g.OnCrash, log, g.Devices)
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes all
	return b.String()
}
