package libvirt

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// An abort that came too early is tried again, so that the job ends.
func TestSettleAbortsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		aborted := make(chan struct{})
		aborts := 0
		abort := func(context.Context) error {
			if aborts++; aborts < 3 {
				return errors.New("no job is active")
			}
			close(aborted)
			return nil
		}
		time.AfterFunc(time.Second, cancel)
		err := (&session{}).settle(ctx, abort, func(ctx context.Context) error {
			<-aborted
			assert.NoError(t, ctx.Err(), "the calls have ended by themselves")
			return errors.New("canceled by client")
		})
		assert.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, 3, aborts)
	})
}

// Calls that do not end are abandoned, which they see by their context.
func TestSettleAbandons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		begin := time.Now()
		err := (&session{}).settle(ctx, func(context.Context) error { return nil }, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		assert.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, time.Second+settlePatience, time.Since(begin))
	})
}

// What succeeds although its context has ended has succeeded.
func TestSettleSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		err := (&session{}).settle(ctx, nil, func(ctx context.Context) error {
			time.Sleep(2 * time.Second)
			return ctx.Err()
		})
		assert.NoError(t, err)
	})
}
