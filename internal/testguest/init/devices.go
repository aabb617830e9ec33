//go:build linux

package main

import (
	"encoding/hex"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// hasVirtio says whether there is a device by the vendor that all virtio devices have.
func hasVirtio() bool {
	const bus = "/sys/bus/pci/devices"
	for _, dev := range names(bus) {
		if strings.TrimSpace(read(bus+"/"+dev+"/vendor")) == "0x1af4" {
			return true
		}
	}
	return false
}

// onDevice runs the commands about devices other than disks.
func onDevice(cmd, arg string) bool {
	switch cmd {
	case "nics":
		for _, name := range names("/sys/class/net") {
			if name == "lo" {
				continue
			}
			attr := func(file string) string { return strings.TrimSpace(read("/sys/class/net/" + name + "/" + file)) }
			say(name + " " + attr("address") + " " + attr("mtu"))
		}
	case "size":
		// Of the terminal, 0 and 0 as long as nobody has told.
		ws, err := unix.IoctlGetWinsize(1, unix.TIOCGWINSZ)
		if err != nil {
			say(prefix + "error=size: " + err.Error())
			return true
		}
		say(strconv.Itoa(int(ws.Col)) + " " + strconv.Itoa(int(ws.Row)))
	case "queues":
		for _, name := range names("/sys/class/net") {
			if name == "lo" {
				continue
			}
			rx, tx := 0, 0
			for _, q := range names("/sys/class/net/" + name + "/queues") {
				if strings.HasPrefix(q, "rx-") {
					rx++
				} else {
					tx++
				}
			}
			say(name + " rx " + strconv.Itoa(rx) + " tx " + strconv.Itoa(tx))
		}
	case "virtio":
		const bus = "/sys/bus/virtio/devices"
		for _, dev := range names(bus) {
			say(dev + " " + strings.TrimSpace(read(bus+"/"+dev+"/device")) + " " + strings.TrimSpace(read(bus+"/"+dev+"/features")))
		}
	case "pci":
		const bus = "/sys/bus/pci/devices"
		for _, dev := range names(bus) {
			id := func(file string) string {
				return strings.TrimPrefix(strings.TrimSpace(read(bus+"/"+dev+"/"+file)), "0x")
			}
			say(dev + " " + id("vendor") + ":" + id("device"))
		}
	case "random":
		say(hardwareRandom(arg))
	default:
		return false
	}
	return true
}

// hardwareRandom gives bytes of the random number generator that the machine has, in
// hexadecimal digits, or the same each time if it has none.
func hardwareRandom(arg string) string {
	const none = "none"
	n, err := strconv.Atoi(strings.TrimSpace(arg))
	if err != nil || n < 1 || n > 64 {
		return "random: want 1 to 64 bytes"
	}
	fd, err := unix.Open("/dev/hwrng", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return none
	}
	defer unix.Close(fd)
	b := make([]byte, n)
	for got := 0; got < n; {
		m, err := unix.Read(fd, b[got:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || m <= 0 {
			return none
		}
		got += m
	}
	return hex.EncodeToString(b)
}
