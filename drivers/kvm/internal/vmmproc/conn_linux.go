package vmmproc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
)

// serverConn is one control connection. Its goroutine reads requests; those that
// may take long run in goroutines of their own, at most MaxSlow.
type serverConn struct {
	s     *Server
	f     *os.File
	pid   int // of the peer
	hello bool

	wmu sync.Mutex // one line at a time

	mu    sync.Mutex                    // guards the following
	waits map[uint64]string             // ids of waits under way, with their operation
	calls map[uint64]context.CancelFunc // slow calls under way
	work  sync.WaitGroup
}

// serve reads requests until the peer or the run ends.
func (c *serverConn) serve() {
	defer c.f.Close()
	lines := newLineReader(c.f, MaxLine)
	_ = c.f.SetReadDeadline(time.Now().Add(helloTimeout))
	sess, early := c.requests(lines)
	if sess != nil {
		c.s.console.serve(sess, early)
	}
	c.mu.Lock()
	for _, cancel := range c.calls {
		cancel()
	}
	c.mu.Unlock()
	c.work.Wait()
}

// requests serves requests until the connection ends or becomes a console.
func (c *serverConn) requests(lines *lineReader) (*session, []byte) {
	for {
		line, err := lines.next()
		if err != nil {
			var perr *Error
			if errors.As(err, &perr) {
				c.reply(0, nil, perr)
			} else if errors.Is(err, os.ErrDeadlineExceeded) && !c.hello {
				c.reply(0, nil, &Error{CodeProtocol, fmt.Sprintf("no hello within %v", helloTimeout)})
			}
			return nil, nil
		}
		c.s.served()
		req, err := parseRequest(line)
		if err == nil && !c.hello && req.Op != opHello {
			err = &Error{CodeProtocol, "the first request must be hello"}
		}
		if err != nil {
			c.reply(req.ID, nil, err)
			return nil, nil // the peer does not speak the protocol
		}
		if req.Op == opConsole {
			if sess := c.openConsole(req); sess != nil {
				return sess, lines.rest()
			}
			continue
		}
		if !c.handle(req) {
			return nil, nil
		}
	}
}

// handle serves one request; it says false if the connection cannot go on.
func (c *serverConn) handle(req request) bool {
	s := c.s
	m, _ := s.machine()
	if m == nil && req.Op != opWait {
		return c.reply(req.ID, nil, ErrGone)
	}
	switch req.Op {
	case opHello:
		return c.sayHello(req)
	case opInfo:
		return c.reply(req.ID, s.status(), nil)
	case opShutdown, opReboot:
		if err := s.hasEnded(); err != nil {
			return c.reply(req.ID, nil, err)
		}
		s.mu.Lock()
		s.comeBack = req.Op == opReboot
		s.mu.Unlock()
		return c.reply(req.ID, struct{}{}, m.PowerButton())
	case opVCPUs:
		list, err := s.vcpus(m)
		return c.reply(req.ID, list, err)
	case opSuspend, opResume, opReset, opPin, opCoreDump:
		return c.callSlow(req)
	case opDestroy, opWait:
		return c.addWait(req)
	case opCancel:
		return c.cancel(req)
	case opSize:
		var a sizeArgs
		err := decodeArgs(req, &a)
		if err == nil {
			err = s.console.resize(a)
		}
		return c.reply(req.ID, struct{}{}, err)
	case opDetached:
		var a consoleReply
		if err := decodeArgs(req, &a); err != nil {
			return c.reply(req.ID, nil, err)
		}
		return c.reply(req.ID, detachedReply{s.console.whyEnded(a.Session)}, nil)
	}
	return c.reply(req.ID, nil, &Error{CodeUnknownOp, fmt.Sprintf("unknown operation %q", req.Op)})
}

func (c *serverConn) sayHello(req request) bool {
	var a helloArgs
	if err := decodeArgs(req, &a); err != nil {
		c.reply(req.ID, nil, err)
		return false
	}
	if !slices.Contains(a.Versions, Version) {
		c.reply(req.ID, nil, &Error{CodeVersion, fmt.Sprintf("this VM process speaks version %d of the control protocol, the client %v; use a client of the version that started the domain", Version, a.Versions)})
		return false
	}
	c.hello = true
	_ = c.f.SetReadDeadline(time.Time{})
	return c.reply(req.ID, c.s.hello, nil)
}

// callSlow runs an operation that may take its time.
func (c *serverConn) callSlow(req request) bool {
	ctx, cancel := context.WithCancel(c.s.killed)
	c.mu.Lock()
	_, twice := c.calls[req.ID]
	full := len(c.calls) >= MaxSlow
	if !twice && !full {
		c.calls[req.ID] = cancel
		c.work.Add(1)
	}
	c.mu.Unlock()
	switch {
	case twice:
		cancel()
		return c.reply(req.ID, nil, &Error{CodeInvalidArgument, "a request with this id is under way"})
	case full:
		cancel()
		return c.reply(req.ID, nil, &Error{CodeBusy, fmt.Sprintf("%d operations are under way on this connection, the most there may be", MaxSlow)})
	}
	go func() {
		defer c.work.Done()
		err := c.s.operate(ctx, req)
		c.mu.Lock()
		delete(c.calls, req.ID)
		c.mu.Unlock()
		cancel()
		c.reply(req.ID, struct{}{}, err)
	}()
	return true
}

// operate does one of the operations of which there is one at a time.
func (s *Server) operate(ctx context.Context, req request) error {
	select {
	case s.slow <- struct{}{}:
		defer func() { <-s.slow }()
	case <-ctx.Done():
		return s.whyCanceled(ctx)
	}
	m, _ := s.machine()
	if m == nil {
		return ErrGone
	}
	err := s.hasEnded()
	if err != nil && req.Op != opCoreDump {
		return err
	}
	err = nil
	switch req.Op {
	case opSuspend:
		if err = m.Suspend(ctx); err == nil {
			s.paused = true
			s.announce(store.EventSuspended)
		}
	case opResume:
		if err = m.Resume(ctx); err == nil {
			s.paused = false
			s.announce(store.EventResumed)
		}
	case opPin:
		var a pinArgs
		if err = decodeArgs(req, &a); err == nil {
			err = s.pin(m, a)
		}
	case opCoreDump:
		var a coreDumpArgs
		if err = decodeArgs(req, &a); err == nil {
			err = dumpCore(ctx, m, a.Path)
		}
	case opReset:
		s.mu.Lock()
		s.reset = true
		s.mu.Unlock()
		if err = m.Reset(); err != nil {
			s.mu.Lock()
			s.reset = false
			s.mu.Unlock()
		}
	}
	if err != nil && ctx.Err() != nil {
		return s.whyCanceled(ctx)
	}
	return err
}

// hasEnded is the error of operations on a guest that has ended and is kept.
func (s *Server) hasEnded() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil {
		return nil
	}
	return &Error{CodeInvalidState, fmt.Sprintf("the guest has ended (%s) and is kept for inspection; destroy the domain", s.ended.Reason)}
}

func (s *Server) whyCanceled(ctx context.Context) error {
	if s.killed.Err() != nil {
		return ErrGone
	}
	return ctx.Err()
}

// addWait notes that the peer wants to hear of the end of the run, which destroy
// brings about.
func (c *serverConn) addWait(req request) bool {
	c.s.mu.Lock()
	stop := c.s.stop
	var err error
	if stop == nil {
		c.mu.Lock()
		switch _, twice := c.waits[req.ID]; {
		case twice:
			err = &Error{CodeInvalidArgument, "a request with this id is under way"}
		case len(c.waits) >= MaxWaits:
			err = &Error{CodeBusy, fmt.Sprintf("%d waits are under way on this connection, the most there may be", MaxWaits)}
		default:
			c.waits[req.ID] = req.Op
		}
		c.mu.Unlock()
	}
	c.s.mu.Unlock()
	if req.Op == opDestroy {
		c.s.kill()
	}
	if stop != nil {
		return c.reply(req.ID, stop, nil)
	}
	return err == nil || c.reply(req.ID, nil, err)
}

// tellStop answers all waits of the connection.
func (c *serverConn) tellStop(stop Stop) {
	c.mu.Lock()
	waits := c.waits
	c.waits = nil // serve no longer adds any
	c.mu.Unlock()
	for id := range waits {
		if !c.reply(id, stop, nil) {
			return
		}
	}
}

// cancel ends a request that is under way: a wait or a slow operation. Both
// requests are answered.
func (c *serverConn) cancel(req request) bool {
	var a cancelArgs
	if err := decodeArgs(req, &a); err != nil {
		return c.reply(req.ID, nil, err)
	}
	c.mu.Lock()
	_, wait := c.waits[a.ID]
	delete(c.waits, a.ID)
	call := c.calls[a.ID]
	c.mu.Unlock()
	if wait && !c.reply(a.ID, nil, &Error{CodeCanceled, "canceled by the client"}) {
		return false
	}
	if call != nil {
		call() // its goroutine answers
	}
	return c.reply(req.ID, struct{}{}, nil)
}

func (c *serverConn) openConsole(req request) *session {
	var a consoleArgs
	if err := decodeArgs(req, &a); err != nil {
		c.reply(req.ID, nil, err)
		return nil
	}
	c.mu.Lock()
	under := len(c.waits) + len(c.calls)
	c.mu.Unlock()
	if under > 0 {
		c.reply(req.ID, nil, &Error{CodeInvalidArgument, "a connection with requests under way cannot become a console; use one of its own"})
		return nil
	}
	sess, err := c.s.console.attach(c.f, c.pid, a.Force)
	if err != nil {
		c.reply(req.ID, nil, err)
		return nil
	}
	if !c.reply(req.ID, consoleReply{sess.id}, nil) {
		c.s.console.detach(sess)
	}
	return sess
}

// reply sends an answer. A peer that does not read its answers loses its
// connection; nobody else waits for it. It says false if the connection is lost.
func (c *serverConn) reply(id uint64, result any, err error) bool {
	r := reply{ID: id, Error: toError(err)}
	if err == nil {
		b, merr := json.Marshal(result)
		if merr != nil {
			r.Error = toError(merr)
		}
		r.Result = b
	}
	line, err := encodeLine(r, MaxLine)
	if err != nil {
		line, _ = encodeLine(reply{ID: id, Error: toError(err)}, MaxLine)
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	_ = c.f.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := c.f.Write(line); err != nil {
		c.f.Close()
		return false
	}
	_ = c.f.SetWriteDeadline(time.Time{})
	return true
}

// status answers info.
func (s *Server) status() Status {
	m, _ := s.machine()
	st := Status{Hello: s.hello, Started: s.run.Time, Console: s.console.ownerPID()}
	if m != nil {
		st.Info = m.Info()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m != s.m || s.counted {
		// Its counters are in those of the run already.
		st.CPUTime, st.Exits, st.Disks, st.NICs = 0, nil, nil, nil
	}
	st.Reboots = s.reboots
	if s.ended != nil {
		st.Ended, st.State = s.ended, StateEnded
		if s.ended.Reason == ReasonCrash {
			st.State = StateCrashed
		}
	}
	st.CPUTime += s.cpuTime
	st.Disks, st.NICs = sumOf(st.Disks, s.disks), sumOf(st.NICs, s.nics)
	if len(s.exits) > 0 {
		sum := make(map[string]uint64, len(s.exits))
		for k, n := range s.exits {
			sum[k] += n
		}
		for k, n := range st.Exits {
			sum[k] += n
		}
		st.Exits = sum
	}
	return st
}
