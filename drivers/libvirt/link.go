package libvirt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/digitalocean/go-libvirt"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/auth"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/classed"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/dial"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/remote"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/uri"
)

// connectPatience bounds an attempt to connect again.
const connectPatience = 30 * time.Second

// session is one connection that was opened.
type session struct {
	remote.Conn
}

func (s *session) done() <-chan struct{} { return s.Client.Done() }

// close says goodbye and ends the connection.
func (s *session) close() { _ = s.Client.Close() }

// connect dials, authenticates and opens.
func connect(ctx context.Context, t *uri.Target, o Options, ro rpc.Options) (_ *session, err error) {
	conn, err := dial.Dial(ctx, t, dial.Options{ReadOnly: o.ReadOnly, StartDaemon: true, Credentials: o.Credentials})
	if err != nil {
		return nil, err
	}
	return open(ctx, conn, t, o, ro)
}

// open makes a session of a connection that is dialled. It owns conn.
func open(ctx context.Context, conn net.Conn, t *uri.Target, o Options, ro rpc.Options) (*session, error) {
	s := &session{remote.Conn{Client: rpc.New(conn, ro)}}
	if err := auth.Authenticate(ctx, s.Client, auth.Options{Target: t, Credentials: o.Credentials}); err != nil {
		s.close()
		return nil, err
	}
	var flags libvirt.ConnectFlags
	if o.ReadOnly {
		flags = libvirt.ConnectRo
	}
	if err := s.Open(ctx, t.Name, flags); err != nil {
		s.close()
		if number(err) == libvirt.ErrNoConnect {
			// No connection was lost, and none will come of waiting.
			err = fmt.Errorf("%w; the daemon has no driver for it: install that on its host (for xen Debian's libvirt-daemon-driver-xen, Fedora's libvirt-daemon-xen) and start the daemon anew", err)
			return nil, fmt.Errorf("opening %s: %w", t.Name, classed.As(polyvisor.ErrUnsupported, err))
		}
		return nil, fmt.Errorf("opening %s: %w", t.Name, classify(err))
	}
	return s, nil
}

// link is the connection that comes back.
type link struct {
	dial func(ctx context.Context) (*session, error)
	// back is called with a new session before calls are made on it; an error gives
	// it up. gone is called when one was lost.
	back func(ctx context.Context, s *session) error
	gone func()
	came func() // it is back, and calls are made on it
	log  *slog.Logger

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu  sync.Mutex // guards the following
	now *session   // nil while there is none
	why error      // why there is none
}

// start begins to watch the first session.
func (l *link) start(s *session) {
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.now = s
	l.wg.Go(l.run)
}

// close ends the connection and waits for everything.
func (l *link) close() {
	l.cancel()
	l.wg.Wait()
	l.mu.Lock()
	s := l.now
	l.now, l.why = nil, polyvisor.ErrClosed
	l.mu.Unlock()
	if s != nil {
		s.close()
	}
}

// session gives the connection, or ErrConnLost.
func (l *link) session() (*session, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now == nil {
		return nil, lost(l.why)
	}
	return l.now, nil
}

func (l *link) set(s *session, why error) {
	l.mu.Lock()
	l.now, l.why = s, why
	l.mu.Unlock()
}

// run connects anew whenever the connection is lost.
func (l *link) run() {
	for {
		l.mu.Lock()
		s := l.now
		l.mu.Unlock()
		select {
		case <-l.ctx.Done():
			return
		case <-s.done():
		}
		why := s.Client.Err()
		l.set(nil, why)
		s.close()
		l.log.Warn("the connection to libvirt is lost; connecting again", "error", why)
		l.gone()
		next, err := l.again()
		if err != nil {
			return
		}
		l.set(next, nil)
		l.log.Info("connected to libvirt again")
		l.came()
	}
}

// again tries until it has a session. The error is that of the end.
func (l *link) again() (*session, error) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval = 20 * time.Millisecond
	pause.MaxInterval = 10 * time.Second
	return backoff.Retry(l.ctx, func() (*session, error) {
		ctx, cancel := context.WithTimeout(l.ctx, connectPatience)
		defer cancel()
		s, err := l.dial(ctx)
		if err == nil {
			if err = l.back(ctx, s); err != nil {
				s.close()
			}
		}
		if err != nil {
			l.log.Debug("connecting to libvirt again", "error", err)
			l.set(nil, err)
			return nil, err
		}
		return s, nil
	}, backoff.WithBackOff(pause), backoff.WithMaxElapsedTime(0))
}

// failed classes the error of a call. A session that ended makes it ErrConnLost.
func (s *session) failed(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, rpc.ErrLost), errors.Is(err, rpc.ErrClosed):
		return lost(err)
	case errors.Is(err, rpc.ErrTooLarge):
		return classed.As(polyvisor.ErrInvalidConfig, err)
	}
	return classify(err)
}
