//go:build linux

package main

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// maxLine bounds a command; what is longer is dropped up to its end.
const maxLine = 4096

// lines cuts what is read from a descriptor into lines.
type lines struct {
	buf  []byte
	skip bool // inside a line that was too long
}

// next returns the next line without its end; ok is false at the end of input.
func (l *lines) next(fd int) (line string, ok bool) {
	chunk := make([]byte, 512)
	for {
		if i := bytes.IndexAny(l.buf, "\r\n"); i >= 0 {
			line, drop := string(l.buf[:i]), l.skip
			l.buf, l.skip = l.buf[i+1:], false
			if drop || line == "" {
				continue
			}
			return line, true
		}
		if len(l.buf) > maxLine {
			l.buf, l.skip = nil, true
		}
		n, err := unix.Read(fd, chunk)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return "", false
		}
		l.buf = append(l.buf, chunk[:n]...)
	}
}
