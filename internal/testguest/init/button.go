//go:build linux

package main

import (
	"encoding/binary"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	eventSize = 24 // struct input_event on 64-bit systems
	evKey     = 1
	keyPower  = 116
	maxInputs = 32
)

// watchPowerButton powers off when an input device reports the power key.
// The devices exist once the modules are loaded.
func watchPowerButton() {
	watched := 0
	for i := range maxInputs {
		fd, err := unix.Open("/dev/input/event"+strconv.Itoa(i), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		watched++
		go func() {
			if powerKey(fd) {
				say(prefix + "power button")
				restart(unix.LINUX_REBOOT_CMD_POWER_OFF)
			}
		}()
	}
	say(prefix + "inputs=" + strconv.Itoa(watched))
}

// powerKey waits for a press of the power key; it is false if the device goes
// away first.
func powerKey(fd int) bool {
	buf := make([]byte, 64*eventSize)
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			unix.Close(fd)
			return false
		}
		if pressed(buf[:n]) {
			return true
		}
	}
}

// pressed looks for the power key among input events.
func pressed(events []byte) bool {
	ne := binary.NativeEndian
	for ; len(events) >= eventSize; events = events[eventSize:] {
		e := events[16:eventSize]
		if ne.Uint16(e) == evKey && ne.Uint16(e[2:]) == keyPower && ne.Uint32(e[4:]) == 1 {
			return true
		}
	}
	return false
}
