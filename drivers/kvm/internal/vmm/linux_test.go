//go:build linux && amd64

package vmm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/linux"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/unpack"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/kvmapi"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vcpu"
)

// linuxSpec makes a machine that boots the kernel named by POLYVISOR_TEST_KERNEL (an ELF vmlinux or a bzImage) with this
// test binary as the first process. The binary must be static: CGO_ENABLED=0.
func linuxSpec(t testing.TB, do string) Spec {
	t.Helper()
	kernel := os.Getenv("POLYVISOR_TEST_KERNEL")
	if kernel == "" {
		t.Skip("needs a KVM that can boot a stock kernel, and POLYVISOR_TEST_KERNEL=path of one")
	}
	needKVM(t)
	if _, err := os.Stat("/sys/module/kvm_pvm"); err == nil {
		t.Skip("this KVM (kvm_pvm) cannot boot a stock kernel")
	}
	return Spec{Memory: 256 << 20, VCPUs: 1, Boot: Boot{Kind: BootLinux, Kernel: kernel, Initrd: testInitrd(t),
		CommandLine: linuxArgs() + " panic=-1 rdinit=/init pvtest=" + do}}
}

// linuxArgs begins the kernel's command line. To see where a boot goes wrong, POLYVISOR_TEST_CMDLINE takes its place, as
// in "console=ttyS0 earlyprintk=ttyS0".
func linuxArgs() string {
	if s := os.Getenv("POLYVISOR_TEST_CMDLINE"); s != "" {
		return s
	}
	return "console=ttyS0 quiet"
}

func testInitrd(t testing.TB) string {
	t.Helper()
	exe, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "initrd.cpio")
	require.NoError(t, os.WriteFile(path, initramfs(exe), 0o600))
	return path
}

var report = regexp.MustCompile(`PVTEST cpus=(\d+) kib=(\d+) uptime=(\S+) release=(\S+)`)

// bootLinux starts a machine and waits for the report of its first process.
func bootLinux(t *testing.T, spec Spec) (m *Machine, c *console, cpus int, kib uint64) {
	t.Helper()
	traceKVM(t)
	for {
		m, c, r := tryLinux(t, spec)
		if r != nil {
			cpus, _ = strconv.Atoi(r[1])
			kib, _ = strconv.ParseUint(r[2], 10, 64)
			return m, c, cpus, kib
		}
		e := evidence(m)
		if !stoppedByEmulator(m, c) || emulatorFaults.Add(1) > maxEmulatorFaults {
			t.Fatalf("the guest gave no report\n%s", e)
		}
		require.NoError(t, m.Close())
		t.Logf("AGAIN: the emulated SVM lost the guest, number %d of at most %d in this run\n%s\nconsole:\n%s",
			emulatorFaults.Load(), maxEmulatorFaults, e, c)
	}
}

// tryLinux gives the guest's report, nil if it stopped or fell silent before it.
func tryLinux(t *testing.T, spec Spec) (*Machine, *console, []string) {
	t.Helper()
	m, c := newMachine(t, spec)
	seen := map[string]int{}
	var mu sync.Mutex
	m.unclaimed = func(space string, addr uint64) {
		mu.Lock()
		defer mu.Unlock()
		seen[fmt.Sprintf("%s %#x", space, addr)]++
	}
	begin := time.Now()
	require.NoError(t, m.Start())
	for !report.MatchString(c.String()) && m.Info().State != StateStopped && time.Since(begin) < 4*time.Minute {
		time.Sleep(time.Millisecond)
	}
	took := time.Since(begin)
	r := report.FindStringSubmatch(c.String())
	mu.Lock()
	defer mu.Unlock()
	said := "no report"
	if r != nil {
		said = r[0]
	}
	i := m.Info()
	t.Logf("%d vCPUs, %d MiB: %v to the first process, %s\nexits %v\naccesses %v\nunclaimed %v", spec.VCPUs, spec.Memory>>20, took, said, i.Exits, i.Accesses, seen)
	return m, c, r
}

// In the nested machine (internal/nestedvm) a guest with several vCPUs now and then ends in early boot by a triple fault
// that the emulated SVM reports, without a word of its kernel. It is not the engine's alone: with QEMU 7.2 as the VMM in
// that machine (-accel kvm -smp 8, same kernel) one boot of 15 that came to an end ended so, silently and at about the same
// time; with this engine one of about 16 in one run and none of 53 in others. What is common to both, QEMU's TCG and the
// machine's kernel, is to blame as far as is known. Exactly that end, and only there, is tried again, and no more often than
// this in a run of the tests: an engine that does it itself does it again. Each is logged with the word AGAIN.
//
// The same machine also hangs as a whole now and then, once with each of the two VMMs in these runs: its processors spin, and
// not even the time limits of the programs in it take effect. That is not tried again; nestedtest's own limit ends it.
const maxEmulatorFaults = 2

var emulatorFaults atomic.Int32

// kernelFault is what a Linux kernel says when it knows that it is lost.
var kernelFault = regexp.MustCompile(`Kernel panic|Oops|BUG:|general protection|double fault|int3:|WARNING:|Call Trace`)

func stoppedByEmulator(m *Machine, c *console) bool {
	if m.Info().State != StateStopped {
		return false
	}
	s, err := m.Wait(context.Background())
	return err == nil && isEmulatorFault(os.Getenv("POLYVISOR_NESTED") != "", m.Spec().VCPUs, s, c.String())
}

func isEmulatorFault(nested bool, vcpus int, s Stop, said string) bool {
	return nested && vcpus > 1 && s.Reason == StopCrash &&
		strings.Contains(s.Detail, "triple fault") && strings.Contains(s.Detail, "registers were reset") &&
		!kernelFault.MatchString(said) && !report.MatchString(said)
}

func TestIsEmulatorFault(t *testing.T) {
	lost := Stop{StopCrash, (&vcpu.Fault{VCPU: 3, Kind: vcpu.FaultShutdown, KnowRegs: true, RegsLost: true}).Error()}
	known := Stop{StopCrash, (&vcpu.Fault{VCPU: 3, Kind: vcpu.FaultShutdown, KnowRegs: true, RIP: 0x1000}).Error()}
	const early = "[    1.200000] PCI: Fatal: No config space access function found\n"
	for name, c := range map[string]struct {
		nested bool
		vcpus  int
		stop   Stop
		said   string
		want   bool
	}{
		"it":                   {true, 8, lost, early, true},
		"not nested":           {false, 8, lost, early, false},
		"one vCPU":             {true, 1, lost, early, false},
		"registers are known":  {true, 8, known, early, false},
		"another fault":        {true, 8, Stop{StopCrash, (&vcpu.Fault{Kind: vcpu.FaultInternalError, SubError: 1}).Error()}, early, false},
		"reset":                {true, 8, Stop{StopReboot, "ACPI reset register"}, early, false},
		"the kernel panicked":  {true, 8, lost, early + "[    1.3] Kernel panic - not syncing: x\n", false},
		"the kernel complains": {true, 8, lost, early + "[    1.3] int3: 0000 [#1] PREEMPT SMP\n", false},
		"after its report":     {true, 8, lost, early + "PVTEST cpus=8 kib=1 uptime=1 release=6\n", false},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, c.want, isEmulatorFault(c.nested, c.vcpus, c.stop, c.said)) })
	}
}

// evidence tells how a guest went wrong: how the machine ended, if it did, and where each processor is.
func evidence(m *Machine) string {
	var b strings.Builder
	if m.Info().State == StateStopped {
		s, _ := m.Wait(context.Background())
		fmt.Fprintf(&b, "the machine ended: %v\n", s)
	} else {
		fmt.Fprintf(&b, "the machine runs\n")
	}
	for i, v := range m.vcpus {
		look := func(c *kvmapi.VCPU) error {
			r, err := c.GetRegs()
			if err != nil {
				return err
			}
			s, err := c.GetSregs()
			if err != nil {
				return err
			}
			mp, err := c.GetMPState()
			fmt.Fprintf(&b, "vCPU %d: state %d rip=%#x rsp=%#x rflags=%#x cr0=%#x cr2=%#x cr3=%#x cr4=%#x efer=%#x cs=%#x idt=%#x gdt=%#x gs=%#x exits %v\n",
				i, mp, r.RIP, r.RSP, r.RFLAGS, s.CR0, s.CR2, s.CR3, s.CR4, s.EFER, s.CS.Selector, s.IDT.Base, s.GDT.Base, s.GS.Base, v.Exits().Map())
			return err
		}
		err := v.Do(look)
		if errors.Is(err, vcpu.ErrStopped) {
			err = look(m.cpus[i]) // no thread is left that could use it
		}
		if err != nil {
			fmt.Fprintf(&b, "vCPU %d: %v\n", i, err)
		}
	}
	return b.String()
}

// What is told of a guest that went wrong has the reason and every processor, of a machine that ended and of one that runs.
func TestEvidence(t *testing.T) {
	spec := guestSpec("auto=triple")
	spec.VCPUs = 2
	m, _ := newMachine(t, spec)
	assert.Contains(t, evidence(m), "the machine runs")
	require.NoError(t, m.Start())
	waitStop(t, m)
	e := evidence(m)
	for _, want := range []string{"the machine ended: crash: vCPU 0: triple fault", "vCPU 0: state", "shutdown:1", "vCPU 1: state"} {
		assert.Contains(t, e, want)
	}
}

func TestLinuxSMP(t *testing.T) {
	for _, n := range []int{1, 2, 4, 8} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			spec := linuxSpec(t, "poweroff")
			spec.VCPUs = n
			m, _, cpus, _ := bootLinux(t, spec)
			assert.Equal(t, n, cpus)
			assert.Equal(t, StopShutdown, waitStop(t, m).Reason)
		})
	}
}

func TestLinuxReboot(t *testing.T) {
	for name, c := range map[string]struct{ do, args, detail string }{
		"asked":    {"reboot", "", "ACPI reset register"},
		"panic":    {"panic", "", "ACPI reset register"},
		"acpi":     {"reboot", " reboot=acpi", "ACPI reset register"},
		"keyboard": {"reboot", " reboot=kbd", "keyboard controller"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := linuxSpec(t, c.do)
			spec.VCPUs = 2
			spec.Boot.CommandLine += c.args
			m, _, _, _ := bootLinux(t, spec)
			s := waitStop(t, m)
			assert.Equal(t, StopReboot, s.Reason, s)
			assert.Contains(t, s.Detail, c.detail)
		})
	}
}

// vmlinux unpacks the ELF file inside a bzImage.
func vmlinux(t *testing.T, kernel string) string {
	f, img, err := linux.OpenPath(kernel)
	require.NoError(t, err)
	defer f.Close()
	out, err := os.Create(filepath.Join(t.TempDir(), "vmlinux"))
	require.NoError(t, err)
	defer out.Close()
	_, err = unpack.Unpack(t.Context(), img, out)
	require.NoError(t, err)
	return out.Name()
}

func TestLinuxPVHEntry(t *testing.T) {
	spec := linuxSpec(t, "poweroff")
	spec.Boot.Entry = "pvh"
	spec.Boot.Kernel = vmlinux(t, spec.Boot.Kernel) // a bzImage has no PVH entry
	m, _, _, _ := bootLinux(t, spec)
	assert.Equal(t, StopShutdown, waitStop(t, m).Reason)
}

func TestLinuxMemory(t *testing.T) {
	for _, mib := range []uint64{128, 3072, 5120} {
		t.Run(fmt.Sprint(mib), func(t *testing.T) {
			spec := linuxSpec(t, "poweroff")
			spec.Memory = mib << 20
			m, _, _, kib := bootLinux(t, spec)
			// The kernel keeps some for itself; what it reports is the rest.
			assert.InDelta(t, mib<<10, kib, float64(64<<10+mib<<10/20))
			assert.Equal(t, StopShutdown, waitStop(t, m).Reason)
		})
	}
}

// The kernel's own log shows that it took the tables and clocks as they are meant.
func TestLinuxLog(t *testing.T) {
	spec := linuxSpec(t, "dmesg")
	spec.VCPUs = 2
	m, c, _, _ := bootLinux(t, spec)
	assert.Equal(t, StopShutdown, waitStop(t, m).Reason)
	_, log, _ := strings.Cut(c.String(), "PVTEST")
	assert.Contains(t, log, "DMESG END")
	assert.Regexp(t, "Switched to clocksource (kvm-clock|tsc)", log)
	for _, l := range strings.Split(log, "\n") {
		// There is no PCI bus, and the kernel calls that an error.
		if strings.HasPrefix(l, "<") && !strings.Contains(l, "clocksource") && !strings.Contains(l, "PCI") {
			t.Errorf("the kernel complains: %s", l)
		}
	}
}

// Typed lines reach a Linux guest whole, also more at once than any buffer between holds.
func TestLinuxConsole(t *testing.T) {
	m, c, _, _ := bootLinux(t, linuxSpec(t, "echo"))
	c.waitFor(t, "READY")
	line := strings.Repeat("0123456789abcdef", 6)
	for i := range 20 {
		l := fmt.Sprintf("%d:%s", i, line)
		_, err := m.Input(t.Context(), []byte(l+"\n"))
		require.NoError(t, err)
		c.waitFor(t, fmt.Sprintf("ECHO[%d]%s", len(l), l))
	}
	_, err := m.Input(t.Context(), []byte("quit\n"))
	require.NoError(t, err)
	assert.Equal(t, StopShutdown, waitStop(t, m).Reason)
}

// A guest that is suspended for a while goes on, and its clock with the host's.
func TestLinuxSuspend(t *testing.T) {
	spec := linuxSpec(t, "uptime")
	spec.VCPUs = 2
	m, c, _, _ := bootLinux(t, spec)
	uptime := func() float64 {
		n := strings.Count(c.String(), "UPTIME")
		require.Eventually(t, func() bool { return strings.Count(c.String(), "UPTIME") > n+1 }, time.Minute, time.Millisecond)
		s := c.String()
		f, err := strconv.ParseFloat(strings.Fields(s[strings.LastIndex(s[:strings.LastIndex(s, "UPTIME")], "UPTIME"):])[1], 64)
		require.NoError(t, err)
		return f
	}
	start, u0 := time.Now(), uptime()
	time.Sleep(3 * time.Second)
	require.NoError(t, m.Suspend(t.Context()))
	before := m.Info().CPUTime
	time.Sleep(5 * time.Second)
	// What its threads took to fall asleep may be counted late.
	assert.InDelta(t, before.Seconds(), m.Info().CPUTime.Seconds(), 0.05, "a suspended machine uses no processor time")
	require.NoError(t, m.Resume())
	u1 := uptime()
	host := time.Since(start).Seconds()
	t.Logf("host %.2f s, guest %.2f s", host, u1-u0)
	assert.InEpsilon(t, host, u1-u0, 0.1)
	assert.NotContains(t, c.String(), "lockup")
	require.NoError(t, m.Kill())
}

func TestLinuxSpinObeys(t *testing.T) {
	spec := linuxSpec(t, "spin")
	spec.VCPUs = 2
	m, _, _, _ := bootLinux(t, spec)
	for range 5 {
		require.NoError(t, m.Suspend(t.Context()))
		require.NoError(t, m.Resume())
	}
	require.NoError(t, m.Kill())
	assert.Equal(t, StopKilled, waitStop(t, m).Reason)
}
