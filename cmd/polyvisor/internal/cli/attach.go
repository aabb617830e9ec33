package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/polyvisor/polyvisor"
)

const (
	// detachKey is Ctrl-], the key that leaves a console.
	detachKey = 0x1d
	// typedAhead is how many reads of a terminal wait for a guest that takes
	// no input. What is typed beyond is dropped: the key to leave must work.
	typedAhead = 256
	// drainTime is how long a console may keep quiet after its domain has
	// stopped before it is given up.
	drainTime = 5 * time.Second
	// flushTime is how long Ctrl-] waits for a guest to take what was typed.
	flushTime = 300 * time.Millisecond
)

// endKind says how an attachment ended.
type endKind int

const (
	endClosed   endKind = iota // the console ended
	endDetached                // Ctrl-]
	endSignal                  // a signal, or the terminal is gone
	endOutput                  // standard output takes no more
	endContext                 // the command's context ended
)

type end struct {
	kind endKind
	sig  syscall.Signal // of endSignal
	err  error          // of endClosed, endOutput, endContext; io.EOF if the domain stopped
}

// attachment connects a console with standard input and output.
type attachment struct {
	con io.ReadWriteCloser
	out io.Writer
	in  *stdinReader
	tty *terminal // nil if standard input is not one
	// resized has one when the terminal may have another size; nil if the console
	// has none.
	resized chan struct{}

	ends   chan end      // the first one counts
	quit   chan struct{} // closed when the attachment is over
	panics chan string
	wg     sync.WaitGroup

	input   chan []byte   // from standard input to the console; nil is the end
	flushed chan struct{} // closed when the nil was reached

	// reading is when the Read of the console under way began, in Unix
	// nanoseconds, 0 while none is.
	reading atomic.Int64
}

// attach copies between the console and standard input and output until one
// of them ends. The console is closed afterwards and the terminal is as it was
// before. onSignal is told of SIGINT and SIGTERM and says whether the
// attachment ends; nil means yes. stopped, if not nil, is closed when the
// domain has stopped: a console that gives no end then is left after a while.
func (a *app) attach(ctx context.Context, con io.ReadWriteCloser, onSignal func(syscall.Signal) bool, stopped <-chan struct{}) (end, error) {
	in, err := newStdinReader(a.stdin)
	if err != nil {
		_ = con.Close()
		return end{}, err
	}
	at := &attachment{
		con: con, out: a.stdout, in: in,
		ends: make(chan end, 8), quit: make(chan struct{}), panics: make(chan string, 4),
		input: make(chan []byte, 1), flushed: make(chan struct{}),
	}
	tty, err := rawTerminal(a.stdin, a.stdout)
	if err != nil {
		_ = con.Close()
		in.close()
		return end{}, err
	}
	// SIGPIPE is taken so that a standard output that is gone is an error of
	// Write instead of the end of the process.
	more := []os.Signal{syscall.SIGPIPE}
	if tty != nil {
		at.tty = tty
		at.input = make(chan []byte, typedAhead)
		a.stderr.setRaw(true)
		defer func() {
			tty.restore()
			a.stderr.setRaw(false)
		}()
		more = append(more, syscall.SIGQUIT)
		if _, ok := con.(polyvisor.ConsoleResizer); ok {
			at.resized = make(chan struct{}, 1)
			at.resized <- struct{}{}
			more = append(more, syscall.SIGWINCH)
		}
	}
	defer a.signals.redirect(func(sig syscall.Signal) {
		switch sig {
		case syscall.SIGPIPE:
		case syscall.SIGWINCH:
			select {
			case at.resized <- struct{}{}:
			default:
			}
		case syscall.SIGINT, syscall.SIGTERM:
			if onSignal == nil || onSignal(sig) {
				at.end(end{kind: endSignal, sig: sig})
			}
		default:
			at.end(end{kind: endSignal, sig: sig})
		}
	}, more...)()
	at.spawn(at.copyOutput)
	at.spawn(at.readInput)
	at.spawn(at.writeInput)
	if at.resized != nil {
		at.spawn(func() { at.tellSize(ctx) })
	}
	e := at.wait(ctx, stopped)
	at.close()
	select {
	case text := <-at.panics:
		panic(text)
	default:
	}
	return e, nil
}

// end ends the attachment unless something else has before.
func (at *attachment) end(e end) {
	select {
	case at.ends <- e:
	default:
	}
}

// spawn runs f in a goroutine. A panic of it is raised again by attach, which
// restores the terminal.
func (at *attachment) spawn(f func()) {
	at.wg.Add(1)
	go func() {
		defer at.wg.Done()
		defer func() {
			if p := recover(); p != nil {
				at.panics <- fmt.Sprintf("%v\n%s", p, debug.Stack())
				at.end(end{kind: endClosed, err: io.EOF})
			}
		}()
		f()
	}()
}

func (at *attachment) wait(ctx context.Context, stopped <-chan struct{}) end {
	var tick <-chan time.Time
	for {
		select {
		case e := <-at.ends:
			return e
		case <-ctx.Done():
			return end{kind: endContext, err: ctx.Err()}
		case <-stopped:
			stopped = nil
			t := time.NewTicker(drainTime / 10)
			defer t.Stop()
			tick = t.C
		case <-tick:
			if since := at.reading.Load(); since != 0 && time.Since(time.Unix(0, since)) > drainTime {
				return end{kind: endClosed, err: io.EOF}
			}
		}
	}
}

// close ends the copying. It waits for it, but not for ever: a Write to a
// standard output that nobody reads cannot be ended.
func (at *attachment) close() {
	close(at.quit)
	_ = at.con.Close()
	at.in.interrupt()
	over := make(chan struct{})
	go func() {
		at.wg.Wait()
		at.in.close()
		close(over)
	}()
	select {
	case <-over:
	case <-time.After(time.Second):
	}
}

func (at *attachment) copyOutput() {
	buf := make([]byte, 64<<10)
	for {
		at.reading.Store(time.Now().UnixNano())
		n, err := at.con.Read(buf)
		at.reading.Store(0)
		if n > 0 {
			if _, werr := at.out.Write(buf[:n]); werr != nil {
				at.end(end{kind: endOutput, err: werr})
				return
			}
		}
		if err != nil {
			at.end(end{kind: endClosed, err: err})
			return
		}
	}
}

func (at *attachment) readInput() {
	buf := make([]byte, 4096)
	for {
		n, err := at.in.Read(buf)
		data := bytes.Clone(buf[:n])
		if at.tty != nil {
			if i := bytes.IndexByte(data, detachKey); i >= 0 {
				at.send(data[:i])
				at.flush()
				at.end(end{kind: endDetached})
				return
			}
		}
		at.send(data)
		if err == nil {
			continue
		}
		if at.tty != nil && !errors.Is(err, os.ErrClosed) {
			at.end(end{kind: endSignal, sig: syscall.SIGHUP})
		}
		// The end of another input does not end the machine.
		return
	}
}

// tellSize tells the guest the size of the terminal, now and whenever it changes.
func (at *attachment) tellSize(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	at.wg.Go(func() {
		select {
		case <-at.quit:
			cancel() // a call that is under way, too
		case <-ctx.Done():
		}
	})
	for {
		select {
		case <-at.resized:
		case <-at.quit:
			return
		}
		cols, rows, err := term.GetSize(at.tty.fd)
		if err == nil {
			err = at.con.(polyvisor.ConsoleResizer).Resize(ctx, uint16(cols), uint16(rows))
		}
		if err != nil {
			return // the terminal or the console is gone, which others tell
		}
	}
}

func (at *attachment) send(data []byte) {
	if len(data) == 0 {
		return
	}
	if at.tty != nil {
		select {
		case at.input <- data:
		default:
		}
		return
	}
	select {
	case at.input <- data:
	case <-at.quit:
	}
}

// flush waits a moment until what was typed has reached the guest.
func (at *attachment) flush() {
	select {
	case at.input <- nil:
	default:
		return
	}
	select {
	case <-at.flushed:
	case <-at.quit:
	case <-time.After(flushTime):
	}
}

func (at *attachment) writeInput() {
	for {
		select {
		case data := <-at.input:
			if data == nil {
				close(at.flushed)
				return
			}
			if _, err := at.con.Write(data); err != nil {
				return // the console ended, which copyOutput tells
			}
		case <-at.quit:
			return
		}
	}
}
