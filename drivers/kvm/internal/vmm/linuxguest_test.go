//go:build linux && amd64

package vmm

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const klogReadAll = 3 // SYSLOG_ACTION_READ_ALL of syslog(2)

// guestInit is what the test binary does as the first process of a Linux guest: it says what it sees and then does what
// "pvtest=" on the kernel's command line asks for.
func guestInit() {
	_ = os.MkdirAll("/proc", 0o755)
	_ = unix.Mount("proc", "/proc", "proc", 0, "")
	cpus := strings.Count(readAll("/proc/cpuinfo"), "processor\t:")
	var si unix.Sysinfo_t
	_ = unix.Sysinfo(&si)
	var un unix.Utsname
	_ = unix.Uname(&un)
	release, _, _ := bytes.Cut(un.Release[:], []byte{0})
	fmt.Printf("\nPVTEST cpus=%d kib=%d uptime=%s release=%s\n", cpus, uint64(si.Totalram)*uint64(si.Unit)/1024,
		strings.Fields(readAll("/proc/uptime") + " ?")[0], release)
	switch os.Getenv("pvtest") {
	case "reboot":
		_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_RESTART)
	case "panic":
		os.Exit(1) // the end of the first process is a panic
	case "spin":
		for range runtime.NumCPU() {
			go func() {
				for {
				}
			}()
		}
		select {}
	case "echo":
		echo()
	case "dmesg":
		// Errors and worse, and what tells the clock.
		buf := make([]byte, 1<<20)
		n, _ := unix.Klogctl(klogReadAll, buf)
		for _, l := range strings.Split(string(buf[:max(n, 0)]), "\n") {
			if l > "<" && l < "<4" || strings.Contains(l, "Switched to clocksource") {
				fmt.Println(l)
			}
		}
		fmt.Println("DMESG END")
	case "uptime":
		for {
			fmt.Printf("UPTIME %s\n", strings.Fields(readAll("/proc/uptime"))[0])
			time.Sleep(200 * time.Millisecond)
		}
	}
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

// echo answers each line until "quit".
func echo() {
	var line []byte
	buf := make([]byte, 256)
	fmt.Println("READY")
	for {
		n, err := os.Stdin.Read(buf)
		if err != nil {
			fmt.Println("read:", err)
			return
		}
		line = append(line, buf[:n]...)
		for {
			i := bytes.IndexByte(line, '\n')
			if i < 0 {
				break
			}
			l := string(line[:i])
			line = line[i+1:]
			if l == "quit" {
				return
			}
			fmt.Printf("ECHO[%d]%s\n", len(l), l)
		}
	}
}

func readAll(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b)
}

// initramfs makes a cpio archive (newc) whose only file is /init.
func initramfs(init []byte) []byte {
	var b bytes.Buffer
	entry := func(ino int, name string, mode int, data []byte) {
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
		b.WriteString(name)
		b.WriteByte(0)
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
		b.Write(data)
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
	}
	entry(1, "init", 0o100755, init)
	entry(0, "TRAILER!!!", 0, nil)
	return b.Bytes()
}

func init() { asInit = guestInit }
