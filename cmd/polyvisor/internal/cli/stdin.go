package cli

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// stdinReader reads standard input so that a Read under way can be ended.
// Closing the file would not do it: files that block have no deadlines.
type stdinReader struct {
	r      io.Reader
	fd     int // -1 if r is not a file
	wakeR  *os.File
	wakeW  *os.File
	polled []unix.PollFd
}

func newStdinReader(r io.Reader) (*stdinReader, error) {
	s := &stdinReader{r: r, fd: -1}
	f, ok := r.(*os.File)
	if !ok {
		return s, nil
	}
	var err error
	if s.wakeR, s.wakeW, err = os.Pipe(); err != nil {
		return nil, err
	}
	s.fd = int(f.Fd())
	s.polled = []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}, {Fd: int32(s.wakeR.Fd()), Events: unix.POLLIN}}
	return s, nil
}

// Read returns os.ErrClosed after interrupt.
func (s *stdinReader) Read(p []byte) (int, error) {
	if s.fd < 0 {
		return s.r.Read(p)
	}
	for {
		_, err := unix.Poll(s.polled, -1)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, fmt.Errorf("standard input: poll: %w", err)
		case s.polled[1].Revents != 0:
			return 0, os.ErrClosed
		case s.polled[0].Revents == 0:
			continue
		}
		n, err := unix.Read(s.fd, p)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return 0, fmt.Errorf("standard input: %w", err)
		case n <= 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// interrupt ends a Read under way on a file and all later ones.
func (s *stdinReader) interrupt() {
	if s.wakeW != nil {
		// A full pipe is as good: it is readable.
		_, _ = s.wakeW.Write([]byte{0})
	}
}

// close releases what the reader needs, not standard input itself. No Read
// may be under way.
func (s *stdinReader) close() {
	if s.wakeW != nil {
		_ = s.wakeW.Close()
		_ = s.wakeR.Close()
	}
}
