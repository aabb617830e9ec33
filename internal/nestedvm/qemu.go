//go:build linux

package nestedvm

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"github.com/polyvisor/polyvisor/internal/nestedvm/wire"
	"golang.org/x/sys/unix"
)

// kernelArgs make the boot short and its failures visible: no probing for what is not there, no self-tests, no
// watchdogs (an emulated processor loses to them on a busy host), the TSC as clock (it is the host's, so the same on
// all CPUs, which the kernel's own check cannot see under emulation), and every fault of the kernel ends the machine.
const kernelArgs = "console=ttyS0 quiet panic=-1 oops=panic nokaslr mitigations=off tsc=reliable no_timer_check " +
	"cryptomgr.notests audit=0 apparmor=0 8250.nr_uarts=1 nowatchdog rcupdate.rcu_cpu_stall_suppress=1"

// emulator is a running QEMU.
type emulator struct {
	port    *os.File // the virtio port
	monitor *monitor
	console *tail // what the machine's kernel and QEMU itself said
	cmd     *exec.Cmd
	kill    context.CancelFunc
	ended   chan struct{} // closed when QEMU has ended and all its output is in console
	err     error         // of its end, after ended
}

// startEmulator starts QEMU with descriptors only: it opens no socket and makes no file.
func startEmulator(h *host, cfg Config, image *os.File) (*emulator, error) {
	port, portPeer, err := socketPair()
	if err != nil {
		return nil, err
	}
	mon, monPeer, err := socketPair()
	if err != nil {
		closeAll(port, portPeer)
		return nil, err
	}
	consoleR, consoleW, err := os.Pipe()
	if err != nil {
		closeAll(port, portPeer, mon, monPeer)
		return nil, err
	}
	e := &emulator{port: port, monitor: &monitor{mon}, console: &tail{max: 1 << 20}, ended: make(chan struct{})}
	e.cmd = exec.Command(h.qemu, qemuArgs(h, cfg)...)
	e.cmd.ExtraFiles = []*os.File{portPeer, image, monPeer} // 3, 4 and 5
	e.cmd.Stdout, e.cmd.Stderr = consoleW, consoleW
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	e.kill = sync.OnceFunc(func() { _ = e.cmd.Process.Kill() })
	var drained sync.WaitGroup
	drained.Go(func() {
		_, _ = io.Copy(e.console, consoleR)
		consoleR.Close()
	})
	started := make(chan error)
	go func() {
		// QEMU dies with the thread that started it, so that thread is kept until QEMU has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := e.cmd.Start()
		closeAll(portPeer, monPeer, consoleW)
		started <- err
		if err == nil {
			e.err = e.cmd.Wait()
		}
		drained.Wait()
		close(e.ended)
	}()
	if err := <-started; err != nil {
		<-e.ended
		closeAll(port, mon)
		return nil, fmt.Errorf("start %s: %w", h.qemu, err)
	}
	return e, nil
}

// stop kills QEMU, waits for its end and closes the port and the monitor.
func (e *emulator) stop() {
	e.kill()
	<-e.ended
	closeAll(e.port, e.monitor.f)
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func qemuArgs(h *host, cfg Config) []string {
	accel := []string{"-accel", "tcg,thread=multi"}
	if cfg.Instructions {
		// 2^4 ns for each, see InstructionTime.
		accel = []string{"-accel", "tcg,thread=single", "-icount", "shift=4"}
	}
	return append(accel,
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", machineType, "-cpu", cpuModel,
		"-smp", fmt.Sprint(cfg.CPUs), "-m", fmt.Sprintf("%dM", cfg.Memory),
		"-kernel", h.kernel, "-initrd", "/proc/self/fd/4", "-append", kernelArgs,
		"-serial", "stdio",
		"-chardev", "socket,id=port,fd=3",
		"-chardev", "socket,id=monitor,fd=5", "-mon", "chardev=monitor,mode=readline",
		"-device", serialDevice+",max_ports=2", "-device", "virtserialport,chardev=port,name="+wire.PortName,
	)
}

func socketPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	// Non-blocking, so that Close ends a Read.
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fds[0]), "nested machine"), os.NewFile(uintptr(fds[1]), "nested machine's peer"), nil
}

// complained says that QEMU ended with a reason of its own, such as options or memory that are not to be had.
func (e *emulator) complained() bool {
	return strings.Contains(e.console.String(), "qemu-system-x86_64: ")
}

// faultOf describes a machine that ended or fell silent, with what its console says of that.
func (e *emulator) faultOf(what string) *Hang {
	if e.err != nil {
		what += fmt.Sprintf(" (QEMU: %v)", e.err)
	}
	said := e.console.String()
	if said == "" {
		said = "(it said nothing)"
	}
	return &Hang{What: what, Console: strings.ToValidUTF8(telling(said), "?")}
}

// What a kernel says first when it is lost.
var lastFault = regexp.MustCompile(`(?m)^.*(Kernel panic|Oops|BUG:|general protection|double fault|soft lockup|rcu: INFO|stack guard|sysrq: Trigger).*$`)

// telling takes from a console what tells of its end: the first fault with what follows, else the last lines.
func telling(said string) string {
	const some = 40
	lines := strings.Split(said, "\n")
	at := lastFault.FindStringIndex(said)
	if at == nil {
		return strings.Join(lines[max(0, len(lines)-some/2):], "\n")
	}
	first := strings.Count(said[:at[0]], "\n")
	begin, end := max(0, first-3), min(len(lines), first+some)
	if end >= len(lines)-3 {
		return strings.Join(lines[begin:], "\n")
	}
	return strings.Join(append(append(lines[begin:end:end], fmt.Sprintf("... %d lines ...", len(lines)-3-end)), lines[len(lines)-3:]...), "\n")
}
