//go:build linux

package guest

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/polyvisor/polyvisor/internal/agent/proto"
)

const (
	// maxConns bounds the requests that are served at once.
	maxConns = 256
	// requestTime is how long a connection may take to say what it wants.
	requestTime = 30 * time.Second
)

// Server answers requests. The zero value is ready.
type Server struct {
	// Problems are told in answers to a ping.
	Problems []string
	// Init is set in the first process of the system, which ends the system itself.
	Init bool

	children children
	groups   groups
	conns    sync.WaitGroup
}

// Listener takes connections.
type Listener interface {
	Accept() (io.ReadWriteCloser, error)
}

// Serve serves all connections of a listener until that fails, and waits for them.
func (s *Server) Serve(l Listener) error {
	places := make(chan struct{}, maxConns)
	defer s.conns.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		select {
		case places <- struct{}{}:
		default:
			_ = c.Close()
			continue
		}
		s.conns.Go(func() {
			s.ServeConn(c)
			<-places
		})
	}
}

// ServeConn serves one request and closes the connection.
func (s *Server) ServeConn(c io.ReadWriteCloser) {
	l := proto.NewLink(c)
	defer l.Close()
	late := time.AfterFunc(requestTime, func() { _ = c.Close() })
	t, b, err := l.Receive()
	late.Stop()
	if err != nil {
		return
	}
	var r proto.Request
	if t != proto.TypeRequest || proto.Decode(b, &r) != nil {
		fail(l, proto.Fail(proto.FailInvalid, "the connection does not begin with a request"))
		return
	}
	if err := s.serve(l, &r); err != nil {
		fail(l, err)
	}
}

// serve does what a request asks for. An error becomes the answer.
func (s *Server) serve(l *proto.Link, r *proto.Request) error {
	switch {
	case r.Version < 1 || r.Version > proto.Version:
		return proto.Fail(proto.FailVersion, "the agent speaks version %d of its protocol and not %d; give the guest the agent that belongs to the host", proto.Version, r.Version)
	case r.Op == proto.OpPing:
		return done(l, l.Send(proto.TypeAnswer, proto.Answer{Version: proto.Version, Problems: s.Problems}))
	case r.Op == proto.OpExec && r.Exec != nil:
		return s.exec(l, r.Exec)
	case r.Op == proto.OpPut && r.Put != nil:
		return put(l, r.Put)
	case r.Op == proto.OpGet && r.Get != nil:
		return get(l, r.Get)
	case r.Op == proto.OpTime && r.Time != nil:
		return settle(l, setClock(time.Unix(0, r.Time.UnixNano)))
	case r.Op == proto.OpShutdown && r.Shutdown != nil:
		return s.shutdown(l, r.Shutdown.Reboot)
	}
	return proto.Fail(proto.FailInvalid, "the agent does not know the request %q", r.Op)
}

// settle answers a request that is done.
func settle(l *proto.Link, err error) error {
	if err != nil {
		return err
	}
	return done(l, l.Send(proto.TypeAnswer, proto.Answer{}))
}

// done waits for the other side to close, so that nothing on its way is lost; it has the
// time of a request for that.
func done(l *proto.Link, err error) error {
	if err == nil {
		late := time.AfterFunc(requestTime, func() { _ = l.Close() })
		defer late.Stop()
		_ = l.Serve(func(proto.Type, []byte) error { return proto.ErrProtocol })
	}
	return nil
}

// fail answers that a request failed.
func fail(l *proto.Link, err error) {
	var f *proto.Failure
	if !errors.As(err, &f) {
		f = failureOf(err)
	}
	if len(f.Message) > maxMessage {
		f.Message = f.Message[:maxMessage]
	}
	_ = done(l, l.Send(proto.TypeFailure, f))
}

const maxMessage = 1024
