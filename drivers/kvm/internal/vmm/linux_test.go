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
	m, c = newMachine(t, spec)
	seen := map[string]int{}
	var mu sync.Mutex
	m.unclaimed = func(space string, addr uint64) {
		mu.Lock()
		defer mu.Unlock()
		seen[fmt.Sprintf("%s %#x", space, addr)]++
	}
	traceKVM(t)
	begin := time.Now()
	require.NoError(t, m.Start())
	for report.FindString(c.String()) == "" && m.Info().State != StateStopped && time.Since(begin) < 4*time.Minute {
		time.Sleep(time.Millisecond)
	}
	took := time.Since(begin)
	r := report.FindStringSubmatch(c.String())
	if r == nil {
		t.Fatalf("no report of the guest after %v\n%s", took, evidence(m))
	}
	cpus, _ = strconv.Atoi(r[1])
	kib, _ = strconv.ParseUint(r[2], 10, 64)
	mu.Lock()
	defer mu.Unlock()
	i := m.Info()
	t.Logf("%d vCPUs, %d MiB: %v to the first process, %s\nexits %v\naccesses %v\nunclaimed %v", spec.VCPUs, spec.Memory>>20, took, r[0], i.Exits, i.Accesses, seen)
	return m, c, cpus, kib
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
	require.NoError(t, m.Suspend())
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
		require.NoError(t, m.Suspend())
		require.NoError(t, m.Resume())
	}
	require.NoError(t, m.Kill())
	assert.Equal(t, StopKilled, waitStop(t, m).Reason)
}
