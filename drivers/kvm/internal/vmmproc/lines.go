package vmmproc

import (
	"bytes"
	"fmt"
	"io"
)

// lineReader cuts a stream into lines of bounded length. A read that fails, by a
// deadline for example, loses nothing: the next call goes on where it stopped.
type lineReader struct {
	r     io.Reader
	limit int
	buf   []byte // buf[start:] is not yet returned
	start int
	seen  int // bytes of buf[start:] known to have no newline
}

func newLineReader(r io.Reader, limit int) *lineReader {
	return &lineReader{r: r, limit: limit}
}

// next gives the next line without its newline; it is valid until the next call.
// Bytes after the last newline at the end of the stream are io.ErrUnexpectedEOF.
func (l *lineReader) next() ([]byte, error) {
	for {
		pending := l.buf[l.start:]
		if i := bytes.IndexByte(pending[l.seen:], '\n'); i >= 0 {
			i += l.seen
			l.start += i + 1
			l.seen = 0
			if i+1 > l.limit {
				return nil, l.tooLong()
			}
			return pending[:i], nil
		}
		l.seen = len(pending)
		if l.seen >= l.limit {
			return nil, l.tooLong()
		}
		if err := l.fill(); err != nil {
			if err == io.EOF && len(l.buf) > l.start {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

func (l *lineReader) tooLong() error {
	return &Error{CodeProtocol, fmt.Sprintf("a line is longer than %d bytes", l.limit)}
}

// fill reads at least one byte. The buffer grows only with what came, so silent
// connections stay small.
func (l *lineReader) fill() error {
	if l.start > 0 {
		l.buf = l.buf[:copy(l.buf, l.buf[l.start:])]
		l.start = 0
	}
	if len(l.buf) == cap(l.buf) {
		grown := make([]byte, len(l.buf), min(max(512, 2*cap(l.buf)), l.limit+512))
		copy(grown, l.buf)
		l.buf = grown
	}
	for range 100 {
		n, err := l.r.Read(l.buf[len(l.buf):cap(l.buf)])
		l.buf = l.buf[:len(l.buf)+n]
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// rest gives what was read beyond the last line.
func (l *lineReader) rest() []byte {
	b := l.buf[l.start:]
	l.buf, l.start, l.seen = nil, 0, 0
	return b
}
