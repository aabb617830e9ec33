package cli

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// signalError is the cause of a context that a signal has ended.
type signalError struct{ sig syscall.Signal }

func (e *signalError) Error() string { return "ended by signal: " + e.sig.String() }

// signals gives each signal to the one that handles signals at the moment.
// At first that is the command's context, which ends.
type signals struct {
	ch     chan os.Signal
	quit   chan struct{}
	ended  chan struct{}
	cancel context.CancelCauseFunc

	mu     sync.Mutex
	handle func(syscall.Signal)
}

func watchSignals(ctx context.Context) (context.Context, *signals) {
	s := &signals{ch: make(chan os.Signal, 8), quit: make(chan struct{}), ended: make(chan struct{})}
	ctx, s.cancel = context.WithCancelCause(ctx)
	s.handle = func(sig syscall.Signal) {
		s.cancel(&signalError{sig})
		// A second signal ends the process even if the call under way hangs.
		signal.Stop(s.ch)
	}
	signal.Notify(s.ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go s.deliver()
	return ctx, s
}

func (s *signals) deliver() {
	defer close(s.ended)
	for {
		select {
		case sig := <-s.ch:
			s.mu.Lock()
			s.handle(sig.(syscall.Signal))
			s.mu.Unlock()
		case <-s.quit:
			return
		}
	}
}

// redirect gives the signals to handle, those in more too, until the function
// that it returns is called; once that has returned handle is not running any
// more. handle must not block.
func (s *signals) redirect(handle func(syscall.Signal), more ...os.Signal) (back func()) {
	s.mu.Lock()
	before := s.handle
	s.handle = handle
	s.mu.Unlock()
	if len(more) > 0 {
		signal.Notify(s.ch, more...)
	}
	return func() {
		if len(more) > 0 {
			signal.Reset(more...)
		}
		s.mu.Lock()
		s.handle = before
		s.mu.Unlock()
	}
}

// stop gives the signals back to the process.
func (s *signals) stop() {
	signal.Stop(s.ch)
	close(s.quit)
	<-s.ended
	s.cancel(nil)
}
