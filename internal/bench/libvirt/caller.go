// Package libvirt measures how many calls a second clients of libvirt make on the same daemon: libvirt's own C
// library, by a small program that is compiled when it is needed, and clients in Go.
//
// Calls are cheap ones on test:///default, libvirt's hypervisor without machines, so that what is measured is the way
// to the daemon and back. The clients take turns of a fraction of a second in the same run, and figures are ratios
// of turns next to each other.
package libvirt

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// Op is a call that is measured.
type Op string

// The calls: virDomainGetState, virDomainGetInfo and virDomainLookupByName, or what stands for these in a client.
const (
	State  Op = "state"
	Info   Op = "info"
	Lookup Op = "lookup"
)

// Ops are all of them.
var Ops = []Op{State, Info, Lookup}

// Caller is a client with one connection.
type Caller interface {
	// Time has threads make the call, all at once and each count times, and returns how long all that took.
	Time(ctx context.Context, op Op, threads, count int) (time.Duration, error)
}

// Funcs are the calls of a client in Go. They are made by goroutines at the same time.
type Funcs map[Op]func(ctx context.Context) error

// Time is that of Caller.
func (f Funcs) Time(ctx context.Context, op Op, threads, count int) (time.Duration, error) {
	call := f[op]
	if call == nil {
		return 0, fmt.Errorf("the client has no call %q", op)
	}
	repeat := func() error {
		for range count {
			if err := call(ctx); err != nil {
				return fmt.Errorf("%s: %w", op, err)
			}
		}
		return nil
	}
	if threads == 1 {
		start := time.Now()
		err := repeat()
		return time.Since(start), err
	}
	var all sync.WaitGroup
	begin, errs := make(chan struct{}), make([]error, threads)
	for i := range threads {
		all.Go(func() {
			<-begin
			errs[i] = repeat()
		})
	}
	start := time.Now()
	close(begin)
	all.Wait()
	return time.Since(start), errors.Join(errs...)
}

// Allocations gives how many objects one call allocates, with all that goes on in the program for it, such as the
// reader of the connection, the mean of many. Nothing else may run in the program.
func (f Funcs) Allocations(ctx context.Context, op Op) (float64, error) {
	const calls = 2000
	if _, err := f.Time(ctx, op, 1, 100); err != nil { // what is made once
		return 0, err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := f.Time(ctx, op, 1, calls)
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / calls, err
}
