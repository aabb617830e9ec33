package libvirt_test

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
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
	// says is a regular expression that the reason of the failure matches, so that the
	// case does not hide another one.
	says string
	// deadly is set if the daemon does not survive the case, so that it is not run.
	deadly bool
	// limit is the time limit of a case that fails by waiting; that of the others if zero.
	limit time.Duration
}

// outcome judges the result of a case.
func outcome(r conformance.Result, e *exception) (count, fault string) {
	switch {
	case r.Status == conformance.Failed && e != nil && regexp.MustCompile(e.says).MatchString(r.Reason):
		return "excepted", ""
	case r.Status == conformance.Failed && e != nil:
		return "failed", "the case fails for another reason than " + e.says + ", which is what is excepted:\n" + r.Reason
	case r.Status == conformance.Failed:
		return "failed", r.Reason
	case r.Status == conformance.Passed && e != nil:
		return "failed", "the case passes; take it out of the exceptions (" + e.reason + ")"
	case r.Status == conformance.Skipped:
		return "skipped", ""
	}
	return "passed", ""
}

// run runs the suite against a hypervisor, on each of several daemons at once as many cases as
// there are daemons. Every exception must fail: one that passes has to leave the table.
func run(t *testing.T, lanes []conformance.Harness, exceptions []exception, only func(conformance.Case) bool) {
	t.Helper()
	excepted := make(map[string]*exception)
	for _, e := range exceptions {
		excepted[e.name] = &e
	}
	var mu sync.Mutex
	counts := make(map[string]int)
	count := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		counts[what]++
	}
	free := make(chan conformance.Harness, len(lanes))
	for _, h := range lanes {
		free <- h
	}
	names := make(map[string]bool)
	for _, c := range conformance.Cases() {
		if only != nil && !only(c) {
			continue
		}
		names[c.Name] = true
		e := excepted[c.Name]
		if e != nil && e.deadly {
			count("excepted")
			t.Logf("EXCEPTION, not run: %s\nlibvirt: %s", c.Name, e.reason)
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			// What leaks is counted in the whole program, so that nothing may happen beside it.
			if len(lanes) > 1 && !strings.HasPrefix(c.Name, "leak/") {
				t.Parallel()
			}
			h := <-free
			defer func(h conformance.Harness) { free <- h }(h)
			h.Dir = t.TempDir()
			if e != nil && e.limit > 0 {
				h.Timeout = min(h.Timeout, e.limit)
			}
			results := conformance.Check(t.Context(), h, conformance.Only(func(k conformance.Case) bool { return k.Name == c.Name }))
			require.NotEmpty(t, results)
			r := results[len(results)-1]
			what, fault := outcome(r, e)
			count(what)
			switch what {
			case "failed":
				t.Errorf("%s\nthe rule: %s", fault, c.Rule)
			case "excepted":
				t.Logf("EXCEPTION: %s\nlibvirt: %s", r.Reason, e.reason)
			case "skipped":
				t.Skip(r.Reason)
			}
		})
	}
	for name := range excepted {
		if only == nil && !names[name] {
			t.Errorf("the exception %s is no case of the suite", name)
		}
	}
	t.Cleanup(func() {
		t.Logf("conformance: %d passed, %d skipped for features that are not declared, %d exceptions, %d failed",
			counts["passed"], counts["skipped"], counts["excepted"], counts["failed"])
	})
}

// An exception is for one reason: another failure of the same case counts, and so does its success.
func TestOutcome(t *testing.T) {
	e := &exception{name: "memory/none", says: `memory .* 0`}
	for _, tt := range []struct {
		status conformance.Status
		reason string
		e      *exception
		want   string
	}{
		{conformance.Passed, "", nil, "passed"},
		{conformance.Failed, "wrong", nil, "failed"},
		{conformance.Skipped, "not declared", nil, "skipped"},
		{conformance.Failed, "memory is not 0", e, "excepted"},
		{conformance.Failed, "the connection was lost", e, "failed"},
		{conformance.Passed, "", e, "failed"},
	} {
		got, fault := outcome(conformance.Result{Status: tt.status, Reason: tt.reason}, tt.e)
		assert.Equal(t, tt.want, got, "%+v", tt)
		assert.Equal(t, got == "failed", fault != "", "%+v", tt)
	}
	for _, e := range slices.Concat(testExceptions, qemuExceptions) {
		assert.True(t, e.deadly || e.says != "", "%s: what its failure says", e.name)
	}
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
	{name: "life/start-fails", reason: "the hypervisor in memory opens no file: a domain starts without its kernel",
		says: `start without its kernel: succeeded`},
	{name: "device/modes", reason: "the hypervisor in memory opens no file: a domain starts without its disk's image",
		says: `start without a disk's image: succeeded`},
	{name: "device/disk-in-use", reason: "the hypervisor in memory opens no file: any number of domains write to an image",
		says: `start of a second writer: succeeded`},
	{name: "memory/none", reason: "virDomainSetMemory refuses 0: libvirt has no domain without memory",
		says: `libvirt has no domain without memory`},
	{name: "files/missing", reason: "the hypervisor in memory opens no file: a domain starts without any of them",
		says: `start without the file of its initrd: succeeded`},
}

func TestConformanceOnTest(t *testing.T) {
	d := libvirttest.Start(t, libvirttest.Options{})
	open := opener(t, libvirt.Options{URI: d.URI("test", libvirttest.Unix)})
	run(t, []conformance.Harness{{Open: open, Timeout: 20 * time.Second, Config: &polyvisor.Config{Memory: 256 * polyvisor.MiB}}}, testExceptions, nil)
}

// caseTime bounds a case with an emulated guest, which boots in ten seconds if it has a
// processor for itself.
const caseTime = 8 * time.Minute

// qemuExceptions are of libvirt's driver of QEMU.
var qemuExceptions = []exception{
	{name: "memory/none", reason: "virDomainSetMemory refuses 0: libvirt has no domain without memory",
		says: `libvirt has no domain without memory`},
	{name: "config/every-field", reason: "a guest that restarts when it powers off cannot be one that stops when it reboots",
		says: `doesn't support 'onReboot' set to`},
	{name: "config/names", reason: "the definition is the file NAME.xml.new at first, so that a name of more than 247 bytes cannot be stored",
		says: `define n{200,}: `},
	{name: "policy/reboot-destroy", reason: "a guest's reboot, where the policy is to stop then, is told as a shutdown",
		says: `stopped with reason shutdown, want reboot`},
	{name: "wait/reasons", reason: "a guest's reboot, where the policy is to stop then, is told as a shutdown",
		says: `stopped with reason shutdown, want reboot`},
	{name: "memory/maximum-config", reason: "a run begins with all of the maximum, and only a balloon takes the rest from the guest",
		says: `Info tells 256MiB of 256MiB, want 192MiB`},
	{name: "vcpu/hot-plug", reason: "under emulation QEMU 7.2 does not tell that a virtual CPU is gone which the guest has let go of",
		says: `vcpu unplug request timed out`, limit: time.Minute},
	{name: "device/disk-hot-plug", reason: "virDomainUpdateDeviceFlags cannot make a disk of a running domain read-only",
		says: `cannot modify field 'readonly'`},
	{name: "device/nic-inactive", reason: "an interface of type user cannot have an MTU",
		says: `setting MTU on interface type user`},
	{name: "device/nic-hot-plug", reason: "an interface of type user cannot have an MTU",
		says: `setting MTU on interface type user`},
	{name: "device/share-hot-plug", reason: "libvirtd 9.0 dies of the attachment where it has no cgroups; and virDomainUpdateDeviceFlags knows no filesystems", deadly: true},
	{name: "device/share-inactive", reason: "virtiofs cannot be read-only",
		says: `virtiofs does not yet support read-only`},
	{name: "device/rng-hot-plug", reason: "virDomainUpdateDeviceFlags knows no sources of random numbers",
		says: `live update of device 'rng' is not supported`},
	{name: "device/many", reason: "the disks of a domain are kept in the order of their targets",
		says: `^the disks are .* want `},
	{name: "device/disk-in-use", reason: "QEMU's lock of a writer that does not share keeps out one that would",
		says: `start forced: .*(lock|another process)`},
	{name: "save/broken-file", reason: "a saved run has no checksum: a byte of the guest's memory may be another, or the last one missing",
		says: `restore of a file that is broken .*: succeeded`},
}

func TestConformanceOnQEMU(t *testing.T) {
	config := guestConfig(t)
	// The guest's words for devices are for our engine: it does not find QEMU's disks.
	guest := words.Guest().WithoutDevices()
	var lanes []conformance.Harness
	for range 2 { // guests wait, and libvirt waits for QEMU
		d := libvirttest.Start(t, libvirttest.Options{})
		open := opener(t, libvirt.Options{URI: d.URI("qemu", libvirttest.Unix)})
		lanes = append(lanes, conformance.Harness{Open: open, Timeout: caseTime, Config: config, Guest: guest, Hang: hang})
	}
	run(t, lanes, qemuExceptions, nil)
}

// quickly has the guest's kernel leave out what takes it a second and says nothing about a driver.
const quickly = "no_timer_check tsc=reliable lpj=4000000 nokaslr mitigations=off cryptomgr.notests "

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
		Boot:   polyvisor.Boot{Kernel: polyvisor.Path(kernel), Initrd: polyvisor.Path(initrd), CommandLine: quickly + words.CommandLine},
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
