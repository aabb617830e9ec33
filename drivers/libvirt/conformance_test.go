package libvirt_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/conformance"
	"github.com/polyvisor/polyvisor/drivers/libvirt"
	"github.com/polyvisor/polyvisor/internal/libvirttest"
	"github.com/polyvisor/polyvisor/internal/testguest"
	"github.com/polyvisor/polyvisor/internal/testguest/words"
)

// exception is a case of the suite that libvirt itself does not let pass. What is
// written in docs/drivers/libvirt.md under the same name is the evidence.
type exception struct {
	name   string
	reason string // libvirt's behaviour
	// deadly is set if the daemon does not survive the case, so that it is not run.
	deadly bool
}

// exceptionTime bounds a case that is to fail, which may be by waiting.
const exceptionTime = 30 * time.Second

// run runs the suite against a hypervisor of a daemon. Every exception must fail: one
// that passes has to leave the table.
func run(t *testing.T, h conformance.Harness, exceptions []exception, only func(conformance.Case) bool) {
	t.Helper()
	excepted := make(map[string]exception)
	for _, e := range exceptions {
		excepted[e.name] = e
	}
	counts := make(map[string]int)
	names := make(map[string]bool)
	for _, c := range conformance.Cases() {
		if only != nil && !only(c) {
			continue
		}
		names[c.Name] = true
		if e := excepted[c.Name]; e.deadly {
			counts["excepted"]++
			t.Logf("EXCEPTION, not run: %s\nlibvirt: %s", c.Name, e.reason)
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
			defer cancel()
			dir := h
			dir.Dir = t.TempDir()
			if _, excepted := excepted[c.Name]; excepted {
				dir.Timeout = min(dir.Timeout, exceptionTime)
			}
			results := conformance.Check(ctx, dir, conformance.Only(func(k conformance.Case) bool { return k.Name == c.Name }))
			require.NotEmpty(t, results)
			r := results[len(results)-1]
			e, isException := excepted[c.Name]
			switch {
			case r.Status == conformance.Failed && isException:
				counts["excepted"]++
				t.Logf("EXCEPTION: %s\nlibvirt: %s", r.Reason, e.reason)
			case r.Status == conformance.Failed:
				counts["failed"]++
				t.Errorf("%s\nthe rule: %s", r.Reason, c.Rule)
			case isException && r.Status == conformance.Passed:
				counts["failed"]++
				t.Errorf("the case passes; take it out of the exceptions (%s)", e.reason)
			case r.Status == conformance.Skipped:
				counts["skipped"]++
				t.Skip(r.Reason)
			default:
				counts["passed"]++
			}
		})
	}
	for name := range excepted {
		if only == nil && !names[name] {
			t.Errorf("the exception %s is no case of the suite", name)
		}
	}
	t.Logf("conformance: %d passed, %d skipped for features that are not declared, %d exceptions, %d failed",
		counts["passed"], counts["skipped"], counts["excepted"], counts["failed"])
}

// opener opens connections to one hypervisor of a daemon, and holds one open: the test
// hypervisor forgets its domains with the last.
func opener(t *testing.T, o libvirt.Options) func(ctx context.Context, opts ...polyvisor.Option) (*polyvisor.Conn, error) {
	t.Helper()
	anchor, err := libvirt.Open(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, anchor.Close()) })
	return func(ctx context.Context, opts ...polyvisor.Option) (*polyvisor.Conn, error) {
		return polyvisor.Open(ctx, o.URI, opts...)
	}
}

// testExceptions are of libvirt's hypervisor in memory.
var testExceptions = []exception{
	{name: "life/start-fails", reason: "the hypervisor in memory opens no file: a domain starts without its kernel"},
	{name: "device/modes", reason: "the hypervisor in memory opens no file: a domain starts without its disk's image"},
	{name: "device/disk-in-use", reason: "the hypervisor in memory opens no file: any number of domains write to an image"},
	{name: "memory/none", reason: "virDomainSetMemory refuses 0: libvirt has no domain without memory"},
	{name: "files/missing", reason: "the hypervisor in memory opens no file: a domain starts without any of them"},
}

func TestConformanceOnTest(t *testing.T) {
	d := libvirttest.Start(t, libvirttest.Options{})
	open := opener(t, libvirt.Options{URI: d.URI("test", libvirttest.Unix)})
	run(t, conformance.Harness{Open: open, Timeout: 20 * time.Second, Config: &polyvisor.Config{Memory: 256 * polyvisor.MiB}}, testExceptions, nil)
}

// caseTime bounds a case with an emulated guest, which boots in ten seconds if it has a
// processor for itself.
const caseTime = 4 * time.Minute

// qemuExceptions are of libvirt's driver of QEMU.
var qemuExceptions = []exception{
	{name: "memory/none", reason: "virDomainSetMemory refuses 0: libvirt has no domain without memory"},
	{name: "config/every-field", reason: "a guest that restarts when it powers off cannot be one that stops when it reboots"},
	{name: "config/names", reason: "the definition is the file NAME.xml.new at first, so that a name of more than 247 bytes cannot be stored"},
	{name: "policy/reboot-destroy", reason: "a guest's reboot, where the policy is to stop then, is told as a shutdown"},
	{name: "wait/reasons", reason: "a guest's reboot, where the policy is to stop then, is told as a shutdown"},
	{name: "memory/maximum-config", reason: "a run begins with all of the maximum, and only a balloon takes the rest from the guest"},
	{name: "vcpu/hot-plug", reason: "under emulation QEMU 7.2 does not tell that a virtual CPU is gone which the guest has let go of"},
	{name: "device/disk-hot-plug", reason: "virDomainUpdateDeviceFlags cannot make a disk of a running domain read-only"},
	{name: "device/nic-inactive", reason: "an interface of type user cannot have an MTU"},
	{name: "device/nic-hot-plug", reason: "an interface of type user cannot have an MTU"},
	{name: "device/share-hot-plug", reason: "libvirtd 9.0 dies of the attachment where it has no cgroups; and virDomainUpdateDeviceFlags knows no filesystems", deadly: true},
	{name: "device/share-inactive", reason: "virtiofs cannot be read-only"},
	{name: "device/rng-hot-plug", reason: "virDomainUpdateDeviceFlags knows no sources of random numbers"},
	{name: "device/many", reason: "the disks of a domain are kept in the order of their targets"},
	{name: "device/disk-in-use", reason: "QEMU's lock of a writer that does not share keeps out one that would"},
	{name: "save/broken-file", reason: "a saved run has no checksum: a byte of the guest's memory may be another, or the last one missing"},
}

func TestConformanceOnQEMU(t *testing.T) {
	d := libvirttest.Start(t, libvirttest.Options{})
	open := opener(t, libvirt.Options{URI: d.URI("qemu", libvirttest.Unix)})
	// The guest's words for devices are for our engine: it does not find QEMU's disks.
	guest := words.Guest().WithoutDevices()
	run(t, conformance.Harness{Open: open, Timeout: caseTime, Config: guestConfig(t), Guest: guest, Hang: hang}, qemuExceptions, nil)
}

// guestConfig is a machine that boots a stock kernel and then obeys what is typed.
func guestConfig(t *testing.T) *polyvisor.Config {
	t.Helper()
	kernel, release, err := testguest.FindKernel()
	if err != nil {
		t.Skipf("needs libvirt, and a kernel for its guest: %v", err)
	}
	initrd, err := testguest.WriteInitramfs(t.Context(), t.TempDir(), testguest.Options{
		Release: release, Modules: append(testguest.ButtonModules(), "virtio_pci", "virtio_balloon", "pvpanic-mmio", "pvpanic"),
	})
	require.NoError(t, err)
	return &polyvisor.Config{
		Memory: 192 * polyvisor.MiB,
		Boot:   polyvisor.Boot{Kernel: polyvisor.Path(kernel), Initrd: polyvisor.Path(initrd), CommandLine: words.CommandLine},
	}
}

// Every exception is discussed where users look for it.
func TestExceptionsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/drivers/libvirt.md")
	require.NoError(t, err)
	qemu, memory, ok := strings.Cut(string(text), "## On the test hypervisor")
	require.True(t, ok)
	for page, exceptions := range map[*string][]exception{&qemu: qemuExceptions, &memory: testExceptions} {
		for _, e := range exceptions {
			assert.Regexp(t, `\*\*[^*]*`+e.name+`[^*]*\*\*`, *page)
		}
	}
}
