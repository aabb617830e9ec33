package polyvisor_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

// many connects to a driver with n domains, every other one running.
func many(t *testing.T, n int) (*polyvisor.Conn, *recorder) {
	conn, r := connect(t, nil)
	for i := range n {
		r.put(fmt.Sprintf("dom%03d", i), []polyvisor.State{polyvisor.Running, polyvisor.Shutoff}[i%2])
	}
	r.log()
	return conn, r
}

func TestStatsOfMany(t *testing.T) {
	conn, r := many(t, 100)
	all, err := conn.Stats(t.Context(), polyvisor.DomainFilter{Active: true})
	require.NoError(t, err)
	require.Len(t, all, 50)
	for i, s := range all {
		assert.Equal(t, fmt.Sprintf("dom%03d", 2*i), s.Name, "in the order of Domains")
	}
	var n atomic.Int32
	r.setScript(func(_ context.Context, call string) error {
		if call == "stats" && n.Add(1)%2 == 0 {
			return polyvisor.ErrNotFound
		}
		return nil
	})
	all, err = conn.Stats(t.Context(), polyvisor.DomainFilter{})
	require.NoError(t, err)
	assert.Len(t, all, 50, "those that vanish are left out")
	for _, s := range all {
		assert.NotEmpty(t, s.Name)
	}
	conn, _ = connect(t, nil)
	all, err = conn.Stats(t.Context(), polyvisor.DomainFilter{})
	require.NoError(t, err)
	assert.Empty(t, all)
}

func TestStatsOfManyFail(t *testing.T) {
	conn, r := many(t, 200)
	var n atomic.Int32
	r.setScript(func(ctx context.Context, call string) error {
		switch {
		case call != "stats":
			return nil
		case n.Add(1) == 3:
			return errors.New("broken")
		}
		<-ctx.Done() // the others hang until they are told
		return ctx.Err()
	})
	_, err := conn.Stats(t.Context(), polyvisor.DomainFilter{})
	require.EqualError(t, err, "rec: stats: broken")
	assert.Less(t, n.Load(), int32(100), "the rest is not asked")

	r.setScript(failOn("list", polyvisor.ErrConnLost))
	_, err = conn.Stats(t.Context(), polyvisor.DomainFilter{})
	require.ErrorIs(t, err, polyvisor.ErrConnLost)

	ctx, cancel := context.WithCancel(t.Context())
	r.setScript(func(_ context.Context, call string) error {
		if call == "stats" {
			cancel() // and answers
		}
		return nil
	})
	_, err = conn.Stats(ctx, polyvisor.DomainFilter{})
	require.ErrorIs(t, err, context.Canceled, "half of them is no answer")
}

func TestStatsInOneGo(t *testing.T) {
	r := newRecorder(t)
	conn := polyvisor.NewConn(rawDriver{r}, nil)
	defer conn.Close()
	r.put("b", polyvisor.Running)
	r.put("a", polyvisor.Running)
	all, err := conn.Stats(t.Context(), polyvisor.DomainFilter{})
	require.NoError(t, err)
	require.Len(t, all, 2)
	assert.Equal(t, []string{"a", "b"}, []string{all[0].Name, all[1].Name})
	assert.NotContains(t, r.log(), "stats")
	r.setScript(failOn("bulk stats", polyvisor.ErrConnLost))
	_, err = conn.Stats(t.Context(), polyvisor.DomainFilter{})
	require.ErrorIs(t, err, polyvisor.ErrConnLost)
}
