//go:build linux

package guest

import (
	"encoding/binary"
	"os"
	"path/filepath"
)

// Of struct input_event on 64-bit systems.
const (
	eventSize = 24
	evKey     = 1
	keyPower  = 116
)

// watchPowerButton ends the system when an input device reports the power key. The
// devices exist once their modules are loaded.
func watchPowerButton() {
	inputs, _ := filepath.Glob("/dev/input/event*")
	for _, path := range inputs {
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		go func() {
			defer f.Close()
			buf := make([]byte, 64*eventSize)
			for {
				n, err := f.Read(buf)
				if err != nil {
					return
				}
				if pressed(buf[:n]) {
					say("power button")
					end(false)
				}
			}
		}()
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
