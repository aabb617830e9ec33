//go:build linux && amd64

package kvm

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vmmproc"
)

// watcher waits for the end of one run of a transient domain, which leaves no
// record behind, for all who hold a reference to it.
type watcher struct {
	done chan struct{}
	stop polyvisor.Stop // set before done is closed
	err  error
}

func (w *watcher) wait(ctx context.Context) (polyvisor.Stop, error) {
	select {
	case <-w.done:
		return w.stop, w.err
	case <-ctx.Done():
		return polyvisor.Stop{}, ctx.Err()
	}
}

// watchers are the watchers of a connection: one for each run that somebody
// refers to, with a goroutine that ends with the run or with the connection.
type watchers struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex
	runs map[string]*watcher // by the token of the run
}

func newWatchers() *watchers {
	w := &watchers{runs: make(map[string]*watcher)}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w
}

// watch gives the watcher of a run.
func (ws *watchers) watch(a store.Active) *watcher {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if w := ws.runs[a.Token]; w != nil {
		return w
	}
	w := &watcher{done: make(chan struct{})}
	ws.runs[a.Token] = w
	ws.wg.Go(func() {
		w.stop, w.err = ws.follow(a.Dir)
		close(w.done)
		ws.mu.Lock()
		delete(ws.runs, a.Token)
		ws.mu.Unlock()
	})
	return w
}

func (ws *watchers) follow(dir string) (polyvisor.Stop, error) {
	for {
		stop, err := waitRun(ws.ctx, dir)
		switch {
		case errors.Is(err, vmmproc.ErrNotReady):
			select {
			case <-time.After(10 * time.Millisecond):
				continue
			case <-ws.ctx.Done():
				err = ws.ctx.Err()
			}
		case errors.Is(err, vmmproc.ErrGone):
			return polyvisor.Stop{
				Reason: polyvisor.StopServiceDied, Detail: "the VM process was killed or crashed", Time: time.Now(),
			}, nil
		}
		return stop, err
	}
}

// close ends all watchers and waits for them.
func (ws *watchers) close() {
	ws.cancel()
	ws.wg.Wait()
}
