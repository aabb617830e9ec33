package vcpu

import (
	"fmt"
	"strings"
	"sync/atomic"
)

// ExitKind is a kind of return from KVM_RUN.
type ExitKind int

// Kinds of exits.
const (
	ExitIOIn ExitKind = iota
	ExitIOOut
	ExitMMIORead
	ExitMMIOWrite
	ExitHLT
	ExitIntr  // a signal, ours or the Go scheduler's
	ExitAgain // woken while waiting for start-up
	ExitShutdown
	ExitInternalError
	ExitFailEntry
	ExitSystemEvent
	ExitOther
	NumExitKinds
)

var exitNames = [NumExitKinds]string{"io_in", "io_out", "mmio_read", "mmio_write", "hlt", "intr", "again", "shutdown",
	"internal_error", "fail_entry", "system_event", "other"}

func (k ExitKind) String() string {
	if k < 0 || k >= NumExitKinds {
		return fmt.Sprintf("ExitKind(%d)", int(k))
	}
	return exitNames[k]
}

// Exits counts returns from KVM_RUN by kind.
type Exits [NumExitKinds]uint64

// Add adds another count.
func (e *Exits) Add(o Exits) {
	for k := range e {
		e[k] += o[k]
	}
}

// Total gives the sum over all kinds.
func (e Exits) Total() (n uint64) {
	for _, v := range e {
		n += v
	}
	return n
}

// Map gives the kinds that occurred, by name.
func (e Exits) Map() map[string]uint64 {
	m := map[string]uint64{}
	for k, v := range e {
		if v != 0 {
			m[ExitKind(k).String()] = v
		}
	}
	return m
}

func (e Exits) String() string {
	var b strings.Builder
	for k, v := range e {
		if v != 0 {
			fmt.Fprintf(&b, "%v=%d ", ExitKind(k), v)
		}
	}
	fmt.Fprintf(&b, "total=%d", e.Total())
	return b.String()
}

// counters has cache lines of its own, since another processor's counters may be the neighbours.
type counters struct {
	_ [64]byte
	n [NumExitKinds]atomic.Uint64
	_ [64]byte
}

func (c *counters) count(k ExitKind) { c.n[k].Add(1) }

func (c *counters) snapshot() (e Exits) {
	for k := range e {
		e[k] = c.n[k].Load()
	}
	return e
}
