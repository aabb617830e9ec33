package polyvisor_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

var sentinels = []struct {
	err  error
	code polyvisor.Code
	text string
}{
	{polyvisor.ErrNotFound, polyvisor.CodeNotFound, "not found"},
	{polyvisor.ErrExists, polyvisor.CodeExists, "exists already"},
	{polyvisor.ErrInvalidState, polyvisor.CodeInvalidState, "invalid state"},
	{polyvisor.ErrInvalidConfig, polyvisor.CodeInvalidConfig, "invalid configuration"},
	{polyvisor.ErrNoResource, polyvisor.CodeNoResource, "resource not available"},
	{polyvisor.ErrUnsupported, polyvisor.CodeUnsupported, "unsupported operation"},
	{polyvisor.ErrReadOnly, polyvisor.CodeReadOnly, "connection is read-only"},
	{polyvisor.ErrPermission, polyvisor.CodePermission, "permission denied"},
	{polyvisor.ErrBusy, polyvisor.CodeBusy, "busy"},
	{polyvisor.ErrConnLost, polyvisor.CodeConnLost, "connection lost"},
	{polyvisor.ErrClosed, polyvisor.CodeClosed, "connection is closed"},
	{context.Canceled, polyvisor.CodeCanceled, "canceled"},
	{context.DeadlineExceeded, polyvisor.CodeCanceled, "canceled"},
	{io.ErrUnexpectedEOF, polyvisor.CodeUnknown, "unknown error"},
}

func TestCodesAndSentinels(t *testing.T) {
	for i, s := range sentinels {
		t.Run(s.code.String(), func(t *testing.T) {
			assert.Equal(t, s.text, s.code.String())
			assert.Equal(t, s.code, polyvisor.CodeOf(s.err))
			assert.Equal(t, s.code, polyvisor.CodeOf(fmt.Errorf("a: %w", fmt.Errorf("b: %w", s.err))))

			// What a driver returns comes out wrapped once, with the same class.
			conn, r := connect(t, nil)
			r.put("web", polyvisor.Running)
			dom, err := conn.Domain(t.Context(), "web")
			require.NoError(t, err)
			r.setScript(failOn("suspend", fmt.Errorf("the reason: %w", s.err)))
			err = dom.Suspend(t.Context())
			var e *polyvisor.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, "suspend", e.Op)
			assert.Equal(t, "rec", e.Driver)
			assert.Equal(t, "web", e.Domain)
			assert.Equal(t, s.code, e.Code)
			assert.Equal(t, s.code, polyvisor.CodeOf(err))
			assert.EqualError(t, err, `rec: suspend "web": the reason: `+s.err.Error())
			assert.False(t, errors.As(e.Err, new(*polyvisor.Error)), "wrapped more than once")
			for j, other := range sentinels {
				assert.Equal(t, i == j, errors.Is(err, other.err), "errors.Is %v", other.err)
			}
		})
	}
	assert.Equal(t, polyvisor.CodeUnknown, polyvisor.CodeOf(nil))
	assert.Equal(t, "unknown error", polyvisor.Code(200).String())
}

// An *Error matches the sentinel of its code even if the cause does not.
func TestErrorMatchesItsCode(t *testing.T) {
	for _, s := range sentinels {
		err := error(&polyvisor.Error{Op: "x", Code: s.code, Err: io.EOF})
		if s.code != polyvisor.CodeCanceled && s.code != polyvisor.CodeUnknown {
			assert.ErrorIs(t, err, s.err)
		} else {
			assert.NotErrorIs(t, err, s.err)
		}
		assert.ErrorIs(t, err, io.EOF)
		assert.Equal(t, s.code, polyvisor.CodeOf(err))
	}
}

// A driver that is itself a client of this library passes errors through.
func TestWrappedOnce(t *testing.T) {
	conn, r := connect(t, nil)
	inner := &polyvisor.Error{Op: "dial", Driver: "far", Code: polyvisor.CodeBusy, Err: polyvisor.ErrBusy}
	r.setScript(failOn("version", fmt.Errorf("over there: %w", inner)))
	_, err := conn.Version(t.Context())
	assert.EqualError(t, err, "over there: far: dial: busy")
	assert.Equal(t, polyvisor.CodeBusy, polyvisor.CodeOf(err))
}

func TestErrorText(t *testing.T) {
	for want, err := range map[string]error{
		"open: busy":                                    &polyvisor.Error{Op: "open", Err: polyvisor.ErrBusy},
		"kvm: open: busy":                               &polyvisor.Error{Op: "open", Driver: "kvm", Err: polyvisor.ErrBusy},
		`kvm: start "a\nb": busy`:                       &polyvisor.Error{Op: "start", Driver: "kvm", Domain: "a\nb", Err: polyvisor.ErrBusy},
		"suspend is not supported by the x driver":      &polyvisor.UnsupportedError{Feature: polyvisor.FeatureSuspend, Driver: "x"},
		"suspend is not supported by the x driver: why": &polyvisor.UnsupportedError{Feature: polyvisor.FeatureSuspend, Driver: "x", Reason: "why"},
	} {
		assert.EqualError(t, err, want)
	}
}

// hung makes a call that ends with its context, after the context is ended by end.
func hung(t *testing.T, ctx context.Context, end func(*polyvisor.Conn)) error {
	t.Helper()
	conn, r := connect(t, nil)
	r.put("web", polyvisor.Running)
	dom, err := conn.Domain(t.Context(), "web")
	require.NoError(t, err)
	script, began, _ := hang("reboot")
	r.setScript(script)
	result := make(chan error, 1)
	go func() { result <- dom.Reboot(ctx) }()
	select {
	case <-began:
	case err := <-result: // the context ended before
		return err
	}
	end(conn)
	return <-result
}

func TestCauseOfTheEnd(t *testing.T) {
	t.Run("closed", func(t *testing.T) {
		err := hung(t, t.Context(), func(c *polyvisor.Conn) { assert.NoError(t, c.Close()) })
		assert.ErrorIs(t, err, polyvisor.ErrClosed)
		assert.EqualError(t, err, `rec: reboot "web": connection is closed`)
		assert.NotErrorIs(t, err, context.Canceled)
	})
	t.Run("canceled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		err := hung(t, ctx, func(*polyvisor.Conn) { cancel() })
		assert.ErrorIs(t, err, context.Canceled)
		assert.EqualError(t, err, `rec: reboot "web": REBOOT: context canceled`)
	})
	t.Run("deadline", func(t *testing.T) {
		ctx := &lapsing{Context: t.Context(), done: make(chan struct{})}
		err := hung(t, ctx, func(*polyvisor.Conn) { ctx.lapse() })
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, polyvisor.CodeCanceled, polyvisor.CodeOf(err))
		assert.EqualError(t, err, `rec: reboot "web": REBOOT: context deadline exceeded`)
	})
	// The reason given to a cancellation is told, and the error still is the
	// context's and about this operation: an errgroup cancels with the first
	// error of the group, which may be that of another domain.
	for _, cause := range []error{
		io.ErrUnexpectedEOF,
		polyvisor.ErrNotFound,
		polyvisor.ErrClosed,
		&polyvisor.Error{Op: "start", Driver: "rec", Domain: "db", Code: polyvisor.CodeNotFound, Err: polyvisor.ErrNotFound},
	} {
		t.Run("canceled for "+cause.Error(), func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			err := hung(t, ctx, func(*polyvisor.Conn) { cancel(cause) })
			assert.ErrorIs(t, err, context.Canceled)
			assert.NotErrorIs(t, err, cause)
			assert.Equal(t, polyvisor.CodeCanceled, polyvisor.CodeOf(err))
			assert.EqualError(t, err, `rec: reboot "web": REBOOT: context canceled: `+cause.Error())
		})
	}
	t.Run("deadline with a reason", func(t *testing.T) {
		for wait := time.Millisecond; ; wait *= 2 {
			ctx, cancel := context.WithTimeoutCause(t.Context(), wait, errors.New("budget used up"))
			err := hung(t, ctx, func(*polyvisor.Conn) {})
			cancel()
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Equal(t, polyvisor.CodeCanceled, polyvisor.CodeOf(err))
			if err.Error() == `rec: reboot "web": context deadline exceeded` {
				continue // over before the driver was reached
			}
			assert.EqualError(t, err, `rec: reboot "web": REBOOT: context deadline exceeded: budget used up`)
			return
		}
	})
}

// lapsing is a context whose deadline comes when the test says so.
type lapsing struct {
	context.Context
	done   chan struct{}
	lapsed atomic.Bool
}

func (l *lapsing) lapse()                { l.lapsed.Store(true); close(l.done) }
func (l *lapsing) Done() <-chan struct{} { return l.done }
func (l *lapsing) Err() error {
	if l.lapsed.Load() {
		return context.DeadlineExceeded
	}
	return nil
}

// An error that came before the context ended is not replaced.
func TestEarlierErrorIsKept(t *testing.T) {
	conn, r := connect(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	r.setScript(func(_ context.Context, call string) error {
		cancel()
		return fmt.Errorf("disk: %w", polyvisor.ErrNoResource)
	})
	_, err := conn.Node(ctx)
	assert.ErrorIs(t, err, polyvisor.ErrNoResource)
	assert.NotErrorIs(t, err, context.Canceled)
}
