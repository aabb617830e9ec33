//go:build linux

package guest

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// setClock sets the clock of the system; tests replace it.
var setClock = func(t time.Time) error {
	ts := unix.NsecToTimespec(t.UnixNano())
	return os.NewSyscallError("set the clock", unix.ClockSettime(unix.CLOCK_REALTIME, &ts))
}
