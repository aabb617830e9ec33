//go:build linux

package main

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const help = "report, uptime, mem, cpus, mib, echo TEXT, flood BYTES, idle, spin [all], read DISK SECTOR, write DISK SECTOR TEXT, flush DISK, nics, queues, virtio, size, address A.B.C.D/BITS [NIC], echo-server PORT, echo-client A.B.C.D PORT, vsock-serve PORT, vsock-send PORT TEXT, pci, random BYTES, poweroff, reboot, panic, crash"

// obey runs one command line.
func obey(line string) {
	cmd, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
	switch cmd {
	case "":
	case "help":
		say(prefix + "help=" + help)
	case "report":
		for _, l := range report() {
			say(prefix + l)
		}
	case "uptime":
		say(prefix + uptimeLine())
	case "mem":
		for _, l := range memoryLines(read("/proc/meminfo")) {
			say(prefix + l)
		}
	case "echo":
		say(arg)
	case "flood":
		n, _ := strconv.Atoi(arg)
		for line := strings.Repeat("flood ", 13); n > 0; n -= len(line) + 1 {
			say(line)
		}
		say("flooded")
	case "idle":
		say(prefix + "idle")
		sleepForEver()
	case "spin":
		say(prefix + "spinning")
		if arg == "all" {
			for range cpuCount(read("/proc/cpuinfo")) - 1 {
				go spin()
			}
		}
		spin()
	case "poweroff":
		say(prefix + "poweroff")
		restart(unix.LINUX_REBOOT_CMD_POWER_OFF)
	case "reboot":
		say(prefix + "reboot")
		restart(unix.LINUX_REBOOT_CMD_RESTART)
	case "panic":
		say(prefix + "panic")
		crash()
	case "crash":
		say(prefix + "crash")
		resetByTripleFault()
		crash()
	default:
		if onDisk(cmd, arg) || onDevice(cmd, arg) || onNetwork(cmd, arg) || onVsock(cmd, arg) {
			return
		}
		say(prefix + "error=unknown command " + cmd + "; known: " + help)
	}
}

// restart ends the system: the kernel does not come back from this.
func restart(how int) {
	unix.Sync()
	if err := unix.Reboot(how); err != nil {
		say(prefix + "error=reboot: " + err.Error())
		return
	}
	sleepForEver()
}

// resetByTripleFault changes what the parameter reboot= has said.
func resetByTripleFault() {
	const path = "/sys/kernel/reboot/type"
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		_, err = unix.Write(fd, []byte("triple"))
		unix.Close(fd)
	}
	if err != nil {
		say(prefix + "error=" + path + ": " + err.Error())
	}
}

// crash makes the kernel panic, by its test switch or by the end of init.
func crash() {
	if fd, err := unix.Open("/proc/sysrq-trigger", unix.O_WRONLY|unix.O_CLOEXEC, 0); err == nil {
		_, _ = unix.Write(fd, []byte("c"))
	}
	unix.Exit(1)
}

func spin() {
	for {
	}
}

func sleepForEver() {
	for {
		_ = unix.Pause()
	}
}
