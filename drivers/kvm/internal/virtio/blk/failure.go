package blk

import (
	"fmt"
	"sync"
	"syscall"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk"
)

// Failure is an error of the storage under a disk. The guest was answered with an I/O error.
type Failure struct {
	Disk   string // Config.Name
	Op     string // read, write, flush, discard or write zeroes
	Sector uint64 // first one of the request, in units of 512 bytes; 0 for flush
	Err    error
	// Repeated is how many failures of the same Op and Errno were left out since the last report, of which there is one a second
	// for each.
	Repeated uint64
}

// Errno gives the operating system's number of the error, EIO if it has none.
func (f Failure) Errno() syscall.Errno { return disk.Errno(f.Err) }

func (f Failure) String() string {
	s := fmt.Sprintf("disk %s: %s at sector %d: %v", f.Disk, f.Op, f.Sector, f.Err)
	if f.Repeated > 0 {
		s += fmt.Sprintf(" (%d more like it)", f.Repeated)
	}
	return s
}

// failures keeps a guest that goes on trying from flooding whoever is told.
type failures struct {
	sync.Mutex
	last  map[failureKind]*lastFailure
	calls sync.Mutex
}

type failureKind struct {
	op    string
	errno syscall.Errno
}

type lastFailure struct {
	at       int64
	repeated uint64
}

// report tells to of f, unless one like it was told within a second. It takes time now, in nanoseconds.
func (l *failures) report(to func(Failure), now int64, f Failure) {
	if to == nil {
		return
	}
	k := failureKind{f.Op, f.Errno()}
	l.Lock()
	if l.last == nil {
		l.last = map[failureKind]*lastFailure{}
	}
	last := l.last[k]
	if last == nil {
		last = &lastFailure{}
		l.last[k] = last
	} else if now-last.at < 1e9 {
		last.repeated++
		l.Unlock()
		return
	}
	last.at, f.Repeated, last.repeated = now, last.repeated, 0
	l.Unlock()
	l.calls.Lock()
	defer l.calls.Unlock()
	to(f)
}
