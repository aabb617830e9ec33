package rpctest

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/xdr"
)

// Frame is one message of the protocol.
type Frame struct {
	rpc.Header
	Payload []byte
}

// Bytes are the frame as it is on the wire.
func (f Frame) Bytes() []byte { return rpc.AppendFrame(nil, f.Header, f.Payload) }

// Reply is the reply to a call with this payload.
func (f Frame) Reply(payload []byte) Frame {
	f.Type, f.Status, f.Payload = rpc.TypeReply, rpc.StatusOK, payload
	return f
}

// Error is the reply to a call that failed.
func (f Frame) Error(e *rpc.Error) Frame {
	var w xdr.Writer
	rpc.EncodeError(&w, e)
	f.Type, f.Status, f.Payload = rpc.TypeReply, rpc.StatusError, w.Bytes()
	return f
}

// Stream is a frame of the stream that a call opened: rpc.StatusContinue with
// data, or its end.
func (f Frame) Stream(status uint32, data []byte) Frame {
	f.Type, f.Status, f.Payload = rpc.TypeStream, status, data
	return f
}

// Event is a frame of the type message.
func Event(program, procedure uint32, payload []byte) Frame {
	return Frame{rpc.Header{Program: program, Version: 1, Procedure: procedure, Type: rpc.TypeMessage}, payload}
}

// Server is the server's end of a connection. Its methods may be called from
// several goroutines; a Read, and a Write, at a time each has its turn.
type Server struct {
	Conn net.Conn

	reading, writing sync.Mutex
}

// Pipe gives both ends of a connection without a socket (net.Pipe), which
// testing/synctest can wait for. Whoever calls it closes both.
func Pipe() (client net.Conn, server *Server) {
	a, b := net.Pipe()
	return a, &Server{Conn: b}
}

// Socket gives both ends of a connection over a unix socket. They are closed
// when the test ends, if they are not then.
func Socket(t testing.TB) (client net.Conn, server *Server) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("unix", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); conn.Close() })
	return client, &Server{Conn: conn}
}

// Read takes the next frame from the client.
func (s *Server) Read() (Frame, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	head := make([]byte, rpc.HeaderSize)
	if _, err := io.ReadFull(s.Conn, head); err != nil {
		return Frame{}, err
	}
	n, err := rpc.FrameLength(head)
	if err != nil {
		return Frame{}, fmt.Errorf("from the client: %w", err)
	}
	f := Frame{rpc.ParseHeader(head), make([]byte, n-len(head))}
	_, err = io.ReadFull(s.Conn, f.Payload)
	return f, err
}

// Write sends frames.
func (s *Server) Write(frames ...Frame) error {
	var all []byte
	for _, f := range frames {
		all = append(all, f.Bytes()...)
	}
	return s.Raw(all)
}

// Raw sends bytes.
func (s *Server) Raw(p []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	_, err := s.Conn.Write(p)
	return err
}

// Serve calls handle for each frame from the client, in the order of arrival,
// until the connection ends.
func (s *Server) Serve(handle func(*Server, Frame)) {
	for {
		f, err := s.Read()
		if err != nil {
			return
		}
		handle(s, f)
	}
}

// Echo replies to each call with its own arguments.
func Echo(s *Server, f Frame) {
	if f.Type == rpc.TypeCall {
		s.Write(f.Reply(f.Payload))
	}
}
