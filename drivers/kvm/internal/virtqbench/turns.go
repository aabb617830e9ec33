//go:build linux && amd64

package main

import (
	"context"
	"errors"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/creference"
)

// againstC takes turns of n units with a reference: ours first in even pairs, the reference first in odd ones, so that a drift does not
// favour one.
func againstC(ctx context.Context, program string, pairs, n int, ours func(n int) error) (all []Pair, err error) {
	if program == "" {
		return nil, errors.New("no reference program was given")
	}
	ref, err := creference.Start(ctx, program)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ref.Close()) }()
	runtime.LockOSThread() // for its processor time
	defer runtime.UnlockOSThread()
	for i := -2; i < pairs; i++ { // the first two are for warming up
		var p Pair
		steps := []func() error{
			func() error {
				at, cpu := time.Now(), threadTime()
				err := ours(n)
				p.OursCPU, p.OursWall = float64(threadTime()-cpu)/float64(n), float64(time.Since(at))/float64(n)
				return err
			},
			func() error {
				wall, cpu, err := ref.Do(uint64(n))
				p.RefCPU, p.RefWall = float64(cpu)/float64(n), float64(wall)/float64(n)
				return err
			},
		}
		if i&1 != 0 {
			steps[0], steps[1] = steps[1], steps[0]
		}
		for _, step := range steps {
			if err := errors.Join(step(), ctx.Err()); err != nil {
				return nil, err
			}
		}
		if i >= 0 {
			all = append(all, p)
		}
	}
	return all, nil
}

// threadTime is the processor time of this thread.
func threadTime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
