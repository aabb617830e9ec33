package polyvisor_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
)

// asking is a driver whose lookup does something with its context.
type asking struct {
	quick
	ask func(ctx context.Context) error
}

func (a asking) Lookup(ctx context.Context, _ polyvisor.Key) (polyvisor.Instance, error) {
	return a, a.ask(ctx)
}

// The context of a call is the caller's and the connection's in one, whatever
// a driver does with it.
func TestCallContext(t *testing.T) {
	type key struct{}
	reason := errors.New("no longer wanted")
	uses := map[string]func(ctx context.Context) error{
		"Done": func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		},
		"Err alone": func(ctx context.Context) error {
			for ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
			return ctx.Err()
		},
		"a derived context": func(ctx context.Context) error {
			sub, cancel := context.WithTimeout(ctx, time.Hour)
			defer cancel()
			<-sub.Done()
			if cause := context.Cause(sub); cause != context.Cause(ctx) {
				t.Errorf("cause %v of the derived context, %v of the call's", cause, context.Cause(ctx))
			}
			return sub.Err()
		},
		"AfterFunc": func(ctx context.Context) error {
			ended := make(chan struct{})
			context.AfterFunc(ctx, func() { close(ended) })
			<-ended
			return ctx.Err()
		},
	}
	ends := map[string]struct {
		end  func(conn *polyvisor.Conn, cancel context.CancelCauseFunc)
		want error
	}{
		"closed":   {func(conn *polyvisor.Conn, _ context.CancelCauseFunc) { _ = conn.Close() }, polyvisor.ErrClosed},
		"canceled": {func(_ *polyvisor.Conn, cancel context.CancelCauseFunc) { cancel(reason) }, context.Canceled},
	}
	for use, ask := range uses {
		for how, end := range ends {
			t.Run(use+", "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithCancelCause(context.WithValue(t.Context(), key{}, "kept"))
					defer cancel(nil)
					conn := polyvisor.NewConn(asking{ask: func(ctx context.Context) error {
						if ctx.Value(key{}) != "kept" || ctx.Err() != nil {
							t.Errorf("value %v, error %v", ctx.Value(key{}), ctx.Err())
						}
						return ask(ctx)
					}}, nil)
					failed := make(chan error)
					go func() {
						_, err := conn.Domain(ctx, "web")
						failed <- err
					}()
					synctest.Wait()
					end.end(conn, cancel)
					if err := <-failed; !errors.Is(err, end.want) {
						t.Errorf("got %v, want %v", err, end.want)
					}
					_ = conn.Close()
				})
			})
		}
	}
}

// A context that a driver keeps is over when the call is.
func TestCallContextEnds(t *testing.T) {
	for name, look := range map[string]bool{"looked at in the call": true, "not looked at": false} {
		t.Run(name, func(t *testing.T) {
			var kept context.Context
			conn := polyvisor.NewConn(asking{ask: func(ctx context.Context) error {
				if kept = ctx; look {
					ctx.Done()
				}
				return nil
			}}, nil)
			defer conn.Close()
			if _, err := conn.DomainByUUID(t.Context(), uuid.New()); err != nil {
				t.Fatal(err)
			}
			<-kept.Done()
			if !errors.Is(kept.Err(), context.Canceled) {
				t.Errorf("after the call: %v", kept.Err())
			}
		})
	}
}
