package rpctest

import (
	"errors"
	"net"
	"sync"
	"testing"

	"github.com/digitalocean/go-libvirt"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/xdr"
)

// Answer says what the server replies to a call: a payload, or an error.
type Answer func(call Frame) (payload []byte, e *rpc.Error)

// Refuse answers with an error, so that nothing has to be decoded.
func Refuse(Frame) ([]byte, *rpc.Error) {
	return nil, &rpc.Error{Code: libvirt.ErrOperationFailed, Level: libvirt.ErrError, Message: "this server only listens"}
}

// Oracle has go-libvirt make calls to a server that answers as told, and gives
// the frames it sent, without those that open and close its connection. What
// the calls returned is for use to look at; with the answer Refuse they all
// fail.
func Oracle(t testing.TB, answer Answer, use func(*libvirt.Libvirt)) []Frame {
	t.Helper()
	client, server := Pipe()
	frames, stop := record(server, answer)
	l := libvirt.NewWithDialer(once{client})
	if err := l.ConnectToURI("test:///default"); err != nil {
		t.Fatal(err)
	}
	use(l)
	if err := l.Disconnect(); err != nil {
		t.Error(err)
	}
	stop()
	return frames()
}

// Sent has a client of ours make calls to a server that answers as told, and
// gives the frames it sent.
func Sent(t testing.TB, answer Answer, use func(*rpc.Client)) []Frame {
	t.Helper()
	client, server := Pipe()
	frames, stop := record(server, answer)
	c := rpc.New(client, rpc.Options{})
	use(c)
	c.Close()
	stop()
	return frames()
}

// Dialer makes a dialer for go-libvirt of a connection that exists.
func Dialer(conn net.Conn) interface{ Dial() (net.Conn, error) } { return once{conn} }

type once struct{ conn net.Conn }

func (o once) Dial() (net.Conn, error) {
	if o.conn == nil {
		return nil, errors.New("no connection")
	}
	return o.conn, nil
}

// record serves until the connection ends, and keeps what the client sends.
func record(s *Server, answer Answer) (frames func() []Frame, stop func()) {
	var (
		mu   sync.Mutex
		kept []Frame
		done = make(chan struct{})
	)
	go func() {
		defer close(done)
		s.Serve(func(s *Server, f Frame) {
			if f.Program == rpc.ProgramRemote && f.Type == rpc.TypeCall {
				switch f.Procedure {
				case 1, 2: // CONNECT_OPEN, CONNECT_CLOSE
					s.Write(f.Reply(nil))
					return
				case 66: // AUTH_LIST
					var w xdr.Writer
					w.Count(1)
					w.Int32(0)
					s.Write(f.Reply(w.Bytes()))
					return
				}
			}
			mu.Lock()
			kept = append(kept, f)
			mu.Unlock()
			if f.Type != rpc.TypeCall {
				return
			}
			payload, e := answer(f)
			if e != nil {
				s.Write(f.Error(e))
			} else {
				s.Write(f.Reply(payload))
			}
		})
	}()
	return func() []Frame {
			mu.Lock()
			defer mu.Unlock()
			return kept
		}, func() {
			s.Conn.Close()
			<-done
		}
}
