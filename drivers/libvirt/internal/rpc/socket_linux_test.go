package rpc

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// ownPair gives a socket of ours and its other end.
func ownPair(t *testing.T) (*socket, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	s, ok := ownSocket(conn).(*socket)
	require.True(t, ok)
	t.Cleanup(func() { _ = s.Close() })
	other, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = other.Close() })
	return s, other
}

// A reader, patient or not, is woken by data, by the end, by a deadline and by Close.
func TestOwnSocketReads(t *testing.T) {
	for name, of := range map[string]func(*socket) io.Reader{
		"parked":  func(s *socket) io.Reader { return s },
		"patient": func(s *socket) io.Reader { return patiently{s} },
	} {
		t.Run(name, func(t *testing.T) {
			s, other := ownPair(t)
			r, p := of(s), make([]byte, 16)
			for range 3 {
				time.AfterFunc(5*time.Millisecond, func() { _, _ = other.Write([]byte("abc")) })
				n, err := r.Read(p)
				require.NoError(t, err)
				assert.Equal(t, "abc", string(p[:n]))
				time.AfterFunc(5*time.Millisecond, func() { _ = s.SetReadDeadline(longAgo) })
				_, err = r.Read(p)
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				_, err = r.Read(p)
				require.ErrorIs(t, err, os.ErrDeadlineExceeded, "until it is taken back")
				require.NoError(t, s.SetReadDeadline(time.Time{}))
			}
			time.AfterFunc(5*time.Millisecond, func() { _ = other.Close() })
			_, err := r.Read(p)
			require.Equal(t, io.EOF, err)

			s, _ = ownPair(t)
			r = of(s)
			time.AfterFunc(5*time.Millisecond, func() { _ = s.Close() })
			_, err = r.Read(p)
			require.Error(t, err)
			_, err = r.Read(p)
			require.Error(t, err)
			require.ErrorIs(t, s.Close(), net.ErrClosed)
		})
	}
}

// Write waits for room, and for no longer than until Close.
func TestOwnSocketWrites(t *testing.T) {
	s, other := ownPair(t)
	const size = 16 << 20
	done := make(chan error, 1)
	go func() { _, err := s.Write(bytes.Repeat([]byte("x"), size)); done <- err }()
	got, err := io.CopyN(io.Discard, other, size)
	require.NoError(t, err)
	require.EqualValues(t, size, got)
	require.NoError(t, <-done)

	go func() { _, err := s.Write(make([]byte, size)); done <- err }()
	_, err = io.ReadFull(other, make([]byte, 1))
	require.NoError(t, err)
	require.NoError(t, s.Close())
	err = <-done
	require.Error(t, err)
	assert.False(t, errors.Is(err, io.EOF))

	s, other = ownPair(t)
	require.NoError(t, other.Close())
	require.Eventually(t, func() bool { _, err := s.Write([]byte("x")); return err != nil }, time.Minute, time.Millisecond)
}

// What is no kernel's socket stays as it is.
func TestOwnSocketLeavesOthers(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	assert.Same(t, a, ownSocket(a))
}
