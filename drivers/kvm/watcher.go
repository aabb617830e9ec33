//go:build linux && amd64

package kvm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vmmproc"
)

// watcher waits for the end of one run of a transient domain, which leaves no
// record behind, for all who hold a reference to it.
type watcher struct {
	// asked is closed when the VM process knows that it is waited for, or cannot
	// be asked: from then on the end is not missed.
	asked chan struct{}
	done  chan struct{}
	stop  polyvisor.Stop // set before done is closed
	err   error
}

func (w *watcher) wait(ctx context.Context) (polyvisor.Stop, error) {
	select {
	case <-w.done:
		return w.stop, w.err
	case <-ctx.Done():
		return polyvisor.Stop{}, ctx.Err()
	}
}

// ready waits until the end of the run can no longer be missed, for a moment: a VM
// process that hangs must not hold up who looks its domain up.
func (w *watcher) ready(ctx context.Context) {
	timeout := time.NewTimer(time.Second)
	defer timeout.Stop()
	select {
	case <-w.asked:
	case <-timeout.C:
	case <-ctx.Done():
	}
}

// watchers are the watchers of a connection: one for each run that somebody
// refers to, with a goroutine that ends with the run or with the connection.
type watchers struct {
	store  *store.Store
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex
	runs map[string]*watcher // by the token of the run
}

func newWatchers(s *store.Store) *watchers {
	w := &watchers{store: s, runs: make(map[string]*watcher)}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w
}

// watch gives the watcher of a run, which asks its VM process.
func (ws *watchers) watch(a store.Active) *watcher {
	return ws.add(a.Token, func(ctx context.Context, asked func()) (polyvisor.Stop, error) { return ws.follow(ctx, a, asked) })
}

// add gives the watcher of a run; follow is called if there is none yet.
func (ws *watchers) add(token string, follow func(ctx context.Context, asked func()) (polyvisor.Stop, error)) *watcher {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if w := ws.runs[token]; w != nil {
		return w
	}
	w := &watcher{asked: make(chan struct{}), done: make(chan struct{})}
	ws.runs[token] = w
	ws.wg.Go(func() {
		asked := sync.OnceFunc(func() { close(w.asked) })
		defer asked()
		w.stop, w.err = follow(ws.ctx, asked)
		close(w.done)
		ws.mu.Lock()
		delete(ws.runs, token)
		ws.mu.Unlock()
	})
	return w
}

func died() polyvisor.Stop {
	return polyvisor.Stop{Reason: polyvisor.StopServiceDied, Detail: "the VM process was killed or crashed", Time: time.Now()}
}

func (ws *watchers) follow(ctx context.Context, a store.Active, asked func()) (polyvisor.Stop, error) {
	for {
		stop, reached, err := waitRun(ctx, a.Dir, asked)
		if err == nil || ctx.Err() != nil || !errors.Is(err, vmmproc.ErrGone) && !errors.Is(err, vmmproc.ErrNotReady) {
			return stop, err
		}
		if reached {
			return died(), nil
		}
		now, err := ws.store.ActiveByUUID(a.UUID)
		if errors.Is(err, store.ErrNotFound) || err == nil && now.Token != a.Token {
			// What is left of a killed process is there until someone clears it away.
			if _, err := os.Lstat(filepath.Join(a.Dir, store.SocketName)); err == nil {
				return died(), nil
			}
			return polyvisor.Stop{Reason: polyvisor.StopUnknown, Detail: "it stopped before its VM process could be asked"}, nil
		}
		select {
		case <-time.After(10 * time.Millisecond): // it starts or ends at this moment
		case <-ctx.Done():
			return polyvisor.Stop{}, ctx.Err()
		}
	}
}

// close ends all watchers and waits for them.
func (ws *watchers) close() {
	ws.cancel()
	ws.wg.Wait()
}
