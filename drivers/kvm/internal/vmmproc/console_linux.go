package vmmproc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	consoleFlush  = 2 * time.Second        // for the owner to read the last output
	inputPatience = 250 * time.Millisecond // between looks whether a stuck owner is still there
	inputChunk    = 4 << 10
	keptReasons   = 16 // ended sessions whose reason is remembered
)

// console is what stands between the guest's serial port and whoever is attached
// to it. The guest side (Write) never waits for a reader.
type console struct {
	log *consoleLog // nil for none
	// input gives bytes to the guest, blocking; see Machine.Input.
	input func(ctx context.Context, p []byte) (int, error)
	// machine is the one that there is; nil if there is none.
	machine func() Machine

	mu         sync.Mutex // guards the following
	ring       ring
	owner      *session
	last       uint64 // session numbers given out
	ended      [keptReasons]endedSession
	final      bool // nothing more will be written
	cols, rows uint16

	sessions sync.WaitGroup
}

type endedSession struct {
	session uint64
	why     *Error
}

// session is one attachment.
type session struct {
	id   uint64
	pid  int
	conn *os.File
	wake chan struct{} // output has come, or the end; holds one
	ctx  context.Context
	end  context.CancelFunc

	// For patience alone; they end with ctx.
	patient   context.Context
	impatient context.CancelFunc
	until     time.Time
}

// Write takes output of the guest. It is the io.Writer of Env.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.ring.write(p)
	if c.owner != nil {
		c.owner.poke()
	}
	c.mu.Unlock()
	if c.log != nil {
		c.log.write(p)
	}
	return len(p), nil
}

func (s *session) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// attach makes conn the owner of the console, taking it from the one before if
// force is set. The session begins with serve; conn must then have had its reply.
func (c *console) attach(conn *os.File, pid int, force bool) (*session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.owner; old != nil {
		if !force && !hungUp(old.conn) {
			return nil, &Error{CodeBusy, fmt.Sprintf("the console is in use by process %d; detach it there, or take it over by force", old.pid)}
		}
		c.endLocked(old, &Error{CodeTakenOver, fmt.Sprintf("the console was taken over by process %d", pid)})
	}
	if c.final {
		return nil, ErrGone
	}
	c.last++
	s := &session{id: c.last, pid: pid, conn: conn, wake: make(chan struct{}, 1)}
	s.ctx, s.end = context.WithCancel(context.Background())
	c.owner = s
	c.sessions.Add(1)
	return s, nil
}

// endLocked detaches s. why, which may be nil, is on record before its peer sees
// the end of the stream.
func (c *console) endLocked(s *session, why *Error) {
	if c.owner != s {
		return
	}
	c.owner = nil
	c.ended[s.id%keptReasons] = endedSession{s.id, why}
	s.end()
	hangUp(s.conn) // its connection closes it
}

func (c *console) detach(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked(s, nil)
}

// resize is for the owner. Two of them at the same time, or with a reboot, come
// in one order everywhere.
func (c *console) resize(a sizeArgs) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.owner == nil || c.owner.id != a.Session {
		if e := c.ended[a.Session%keptReasons]; e.session == a.Session && e.why != nil {
			return e.why
		}
		return &Error{CodeInvalidArgument, "the size of the terminal is set by the owner of the console; attach to it first"}
	}
	if m := c.machine(); m != nil {
		if err := m.ResizeConsole(a.Cols, a.Rows); err != nil {
			return err
		}
	}
	c.cols, c.rows = a.Cols, a.Rows
	return nil
}

// tellSize tells a machine that has taken the place of another.
func (c *console) tellSize(m Machine) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cols == 0 && c.rows == 0 {
		return nil
	}
	return m.ResizeConsole(c.cols, c.rows)
}

// whyEnded gives the reason for which a session was ended by the server.
func (c *console) whyEnded(id uint64) *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.ended[id%keptReasons]; e.session == id {
		return e.why
	}
	return nil
}

func (c *console) ownerPID() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.owner == nil {
		return 0
	}
	return c.owner.pid
}

// serve carries bytes both ways until the session ends. early is input that came
// with the request.
func (c *console) serve(s *session, early []byte) {
	defer c.sessions.Done()
	var in sync.WaitGroup
	in.Go(func() { c.serveInput(s, early) })
	c.serveOutput(s)
	c.detach(s)
	in.Wait()
}

func (c *console) serveOutput(s *session) {
	var (
		pos      uint64
		flushing bool
		buf      = make([]byte, inputChunk)
	)
	for {
		c.mu.Lock()
		var n int
		n, pos = c.ring.read(buf, pos)
		final := c.final
		c.mu.Unlock()
		if final && !flushing {
			flushing = true
			_ = s.conn.SetWriteDeadline(time.Now().Add(consoleFlush))
		}
		if n > 0 {
			if _, err := s.conn.Write(buf[:n]); err != nil {
				return
			}
			continue
		}
		if final {
			return
		}
		select {
		case <-s.wake:
		case <-s.ctx.Done():
			return
		}
	}
}

func (c *console) serveInput(s *session, early []byte) {
	if c.give(s, early) != nil {
		return
	}
	early = nil
	buf := make([]byte, inputChunk)
	for {
		n, err := s.conn.Read(buf)
		if n > 0 && c.give(s, buf[:n]) != nil {
			return
		}
		if err == io.EOF {
			// The peer may only have ended its input: it owns the console until
			// it closes the connection.
			awaitHangup(s.conn)
		}
		if err != nil {
			c.detach(s)
			return
		}
	}
}

// give hands input to the guest. While the guest takes none, nothing more is read
// from the peer; if the peer then goes away, what it sent is dropped.
func (c *console) give(s *session, p []byte) error {
	for len(p) > 0 {
		n, err := c.input(s.patience(), p)
		p = p[n:]
		if s.ctx.Err() != nil {
			return s.ctx.Err()
		}
		if err == nil {
			continue
		}
		if hungUp(s.conn) {
			c.detach(s)
			return err
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			// Not expected of a machine; do not spin on it.
			if err := pause(s.ctx, inputPatience); err != nil {
				return err
			}
		}
	}
	return nil
}

// patience gives a context that ends within inputPatience, but not at once. It is
// used for more than one call, so that a flood of input makes no garbage.
func (s *session) patience() context.Context {
	if s.patient == nil || time.Until(s.until) < inputPatience/2 {
		s.until = time.Now().Add(inputPatience)
		if s.impatient != nil {
			s.impatient()
		}
		s.patient, s.impatient = context.WithDeadline(s.ctx, s.until)
	}
	return s.patient
}

// finish lets the owner read what was printed last, for a bounded time, and ends
// its session. Nothing is written after it is called.
func (c *console) finish() {
	c.mu.Lock()
	c.final = true
	s := c.owner
	if s != nil {
		_ = s.conn.SetWriteDeadline(time.Now().Add(consoleFlush))
		s.poke()
	}
	c.mu.Unlock()
	c.sessions.Wait()
	if c.log != nil {
		c.log.close()
	}
}

// consoleLog appends what the guest prints to a file. Output is collected, and
// written at the latest after logDelay or when the buffer is full: then the guest
// waits for the page cache, not for a reader. When the file cannot be written,
// output is dropped and the first error is logged.
type consoleLog struct {
	path string
	max  int64
	log  Logger

	mu     sync.Mutex // guards the following
	f      *os.File
	size   int64
	device bool // such as /dev/null, which is not to be renamed
	buf    []byte
	timer  *time.Timer
	failed bool
}

const (
	logDelay          = 20 * time.Millisecond
	logBuffer         = 16 << 10
	defaultConsoleLog = 16 << 20
)

func openConsoleLog(path string, limit int64, log Logger) (*consoleLog, error) {
	if limit <= 0 {
		limit = defaultConsoleLog
	}
	l := &consoleLog{path: path, max: limit, log: log}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("console log: %w", err)
	}
	l.timer = time.AfterFunc(time.Hour, l.flush)
	l.timer.Stop()
	return l, nil
}

func (l *consoleLog) open() error {
	// Not to wait for the other end of a pipe.
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NONBLOCK, 0o600)
	if errors.Is(err, unix.ENXIO) {
		return errPipe(l.path)
	}
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err == nil && fi.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0 {
		err = errPipe(l.path)
	}
	if err != nil {
		f.Close()
		return err
	}
	l.f, l.size, l.device = f, fi.Size(), !fi.Mode().IsRegular()
	return nil
}

// errPipe: the guest would wait for who reads the pipe.
func errPipe(path string) error {
	return &Error{CodeInvalidArgument, fmt.Sprintf("%s is a pipe or a socket; name a file, or attach to the console", path)}
}

func (l *consoleLog) write(p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(p) > 0 {
		if l.buf == nil {
			l.buf = make([]byte, 0, logBuffer)
		}
		if len(l.buf) == 0 {
			l.timer.Reset(logDelay)
		}
		n := min(len(p), cap(l.buf)-len(l.buf))
		l.buf = append(l.buf, p[:n]...)
		p = p[n:]
		if len(l.buf) == cap(l.buf) {
			l.flushLocked()
		}
	}
}

func (l *consoleLog) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushLocked()
}

func (l *consoleLog) flushLocked() {
	if len(l.buf) == 0 || l.f == nil {
		l.buf = l.buf[:0]
		return
	}
	n, err := l.f.Write(l.buf)
	l.size += int64(n)
	l.buf = l.buf[:0]
	if err == nil && l.size >= l.max && !l.device {
		l.f.Close()
		l.f = nil
		if err = os.Rename(l.path, l.path+".1"); err == nil {
			err = l.open()
		}
	}
	if err != nil && !l.failed {
		l.log.Error("output of the guest is missing from the console log", "err", err)
	}
	l.failed = err != nil
}

// flush writes what the guest printed to the log.
func (c *console) flush() {
	if c.log != nil {
		c.log.flush()
	}
}

func (l *consoleLog) close() {
	l.timer.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushLocked()
	if l.f != nil {
		l.f.Close()
		l.f = nil
	}
}
