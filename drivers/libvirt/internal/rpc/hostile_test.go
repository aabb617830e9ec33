package rpc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc/rpctest"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/xdr"
)

// with is a frame with one of its header's fields changed.
func with(f rpctest.Frame, change func(*rpctest.Frame)) rpctest.Frame {
	change(&f)
	return f
}

func length(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// What a server may send in place of a reply, and what comes of it. The call is
// the first on its connection.
var hostile = []struct {
	name string
	send func(call rpctest.Frame) []byte
	// The call's error; nil: it gets its reply, which follows what was sent.
	err  error
	text string
}{
	{"length 0", func(rpctest.Frame) []byte { return length(0) }, rpc.ErrProtocol, "frame of 0 bytes"},
	{"length 4", func(rpctest.Frame) []byte { return length(4) }, rpc.ErrProtocol, "frame of 4 bytes"},
	{"length 27", func(rpctest.Frame) []byte { return length(27) }, rpc.ErrProtocol, "frame of 27 bytes"},
	{"length over the limit", func(rpctest.Frame) []byte { return length(rpc.MaxMessage + 5) }, rpc.ErrProtocol, "the limit is"},
	{"length 4 GiB", func(rpctest.Frame) []byte { return length(1<<32 - 1) }, rpc.ErrProtocol, "the limit is"},
	{"largest length and little more", func(f rpctest.Frame) []byte {
		b := f.Reply(nil).Bytes()
		binary.BigEndian.PutUint32(b, rpc.MaxMessage+4)
		return b
	}, io.EOF, "of a frame"},
	{"nothing", func(rpctest.Frame) []byte { return nil }, io.EOF, "closed"},
	{"half a length", func(rpctest.Frame) []byte { return []byte{0, 0} }, io.EOF, "in the middle"},
	{"serial of no call", func(f rpctest.Frame) []byte {
		return with(f.Reply(f.Payload), func(f *rpctest.Frame) { f.Serial += 1000 }).Bytes()
	}, rpc.ErrProtocol, "never made"},
	{"serial 0", func(f rpctest.Frame) []byte {
		return with(f.Reply(f.Payload), func(f *rpctest.Frame) { f.Serial = 0 }).Bytes()
	}, rpc.ErrProtocol, "never made"},
	{"another procedure", func(f rpctest.Frame) []byte {
		return with(f.Reply(f.Payload), func(f *rpctest.Frame) { f.Procedure++ }).Bytes()
	}, rpc.ErrProtocol, "another procedure"},
	{"another program", func(f rpctest.Frame) []byte {
		return with(f.Reply(f.Payload), func(f *rpctest.Frame) { f.Program = rpc.ProgramQEMU }).Bytes()
	}, rpc.ErrProtocol, "another procedure"},
	{"unknown program", func(f rpctest.Frame) []byte {
		return with(f.Reply(f.Payload), func(f *rpctest.Frame) { f.Program = 42 }).Bytes()
	}, rpc.ErrProtocol, "no such program"},
	{"reply of keepalive", func(f rpctest.Frame) []byte {
		return with(f.Reply(f.Payload), func(f *rpctest.Frame) { f.Program = rpc.ProgramKeepAlive }).Bytes()
	}, rpc.ErrProtocol, "no such program"},
	{"unknown version", func(f rpctest.Frame) []byte {
		return with(f.Reply(f.Payload), func(f *rpctest.Frame) { f.Version = 2 }).Bytes()
	}, rpc.ErrProtocol, "no such version"},
	{"unknown type", func(f rpctest.Frame) []byte {
		return with(f.Reply(f.Payload), func(f *rpctest.Frame) { f.Type = 7 }).Bytes()
	}, rpc.ErrProtocol, "no such type"},
	{"unknown status", func(f rpctest.Frame) []byte {
		return with(f.Reply(f.Payload), func(f *rpctest.Frame) { f.Status = 3 }).Bytes()
	}, rpc.ErrProtocol, "no such status"},
	{"reply that continues", func(f rpctest.Frame) []byte {
		return with(f.Reply(f.Payload), func(f *rpctest.Frame) { f.Status = rpc.StatusContinue }).Bytes()
	}, rpc.ErrProtocol, "cannot be continued"},
	{"a call", func(f rpctest.Frame) []byte { return f.Bytes() }, rpc.ErrProtocol, "makes no calls"},
	{"reply with descriptors", func(f rpctest.Frame) []byte {
		return with(f.Reply(f.Payload), func(f *rpctest.Frame) { f.Type = rpc.TypeReplyWithFDs }).Bytes()
	}, rpc.ErrProtocol, "descriptors"},
	{"data for a call without a stream", func(f rpctest.Frame) []byte { return f.Stream(rpc.StatusContinue, []byte("data")).Bytes() }, rpc.ErrProtocol, "opens none"},
	{"data for a stream that never was", func(f rpctest.Frame) []byte {
		return with(f.Stream(rpc.StatusContinue, []byte("data")), func(f *rpctest.Frame) { f.Serial += 5 }).Bytes()
	}, rpc.ErrProtocol, "never made"},
	{"event that failed", func(f rpctest.Frame) []byte {
		return with(rpctest.Event(remote, 318, nil), func(f *rpctest.Frame) { f.Status = rpc.StatusError }).Bytes()
	}, rpc.ErrProtocol, "no such status"},
	{"error without content", func(f rpctest.Frame) []byte {
		return with(f.Reply(nil), func(f *rpctest.Frame) { f.Status = rpc.StatusError }).Bytes()
	}, rpc.ErrProtocol, "error reply"},
	{"error of 4 GiB", func(f rpctest.Frame) []byte {
		return with(f.Reply(append(make([]byte, 11), 1, 0xff, 0xff, 0xff, 0xff)), func(f *rpctest.Frame) { f.Status = rpc.StatusError }).Bytes()
	}, rpc.ErrProtocol, "error reply"},
	{"reply of nothing", func(f rpctest.Frame) []byte { return f.Reply(nil).Bytes() }, rpc.ErrProtocol, "0 left"},
	{"array of 4 GiB", func(f rpctest.Frame) []byte { return f.Reply([]byte{0xff, 0xff, 0xff, 0xff}).Bytes() }, rpc.ErrProtocol, "array of 4294967295"},
	{"array longer than the reply", func(f rpctest.Frame) []byte { return f.Reply([]byte{0, 0, 0, 2, 0, 0, 0, 1}).Bytes() }, rpc.ErrProtocol, "array of 2"},

	{"unknown event", func(f rpctest.Frame) []byte { return rpctest.Event(remote, 99999, []byte("?")).Bytes() }, nil, ""},
	{"event of an unknown program", func(f rpctest.Frame) []byte { return rpctest.Event(42, 1, []byte("?")).Bytes() }, nil, ""},
	{"event of an unknown version", func(f rpctest.Frame) []byte {
		return with(rpctest.Event(remote, 318, nil), func(f *rpctest.Frame) { f.Version = 9 }).Bytes()
	}, nil, ""},
	{"unknown keepalive", func(f rpctest.Frame) []byte { return keepAlive(77).Bytes() }, nil, ""},
	{"pong nobody asked for", func(f rpctest.Frame) []byte { return keepAlive(pong).Bytes() }, nil, ""},
	{"ping", func(f rpctest.Frame) []byte { return keepAlive(ping).Bytes() }, nil, ""},
}

// list makes a call whose argument and reply are a number of numbers.
func list(ctx context.Context, c *rpc.Client) error {
	return c.Call(ctx, remote, getState, func(w *xdr.Writer) {
		w.Count(1)
		w.Uint32(7)
	}, func(r *xdr.Reader) {
		for range r.Count(1<<32-1, 4) {
			r.Uint32()
		}
	})
}

func TestHostileServer(t *testing.T) {
	for _, tt := range hostile {
		t.Run(tt.name, func(t *testing.T) {
			conn, server := rpctest.Socket(t)
			c := rpc.New(conn, rpc.Options{})
			defer c.Close()
			var wg sync.WaitGroup
			wg.Go(func() {
				f, err := server.Read()
				if !assert.NoError(t, err) {
					return
				}
				server.Raw(tt.send(f))
				if tt.err == nil {
					server.Write(f.Reply(f.Payload))
				}
				server.Conn.(*net.UnixConn).CloseWrite()
			})
			err := list(t.Context(), c)
			if tt.err == nil {
				assert.NoError(t, err)
			} else {
				assert.ErrorIs(t, err, tt.err)
				assert.ErrorContains(t, err, tt.text)
			}
			wg.Wait()
			<-c.Done()
			err = list(t.Context(), c)
			assert.ErrorIs(t, err, rpc.ErrLost)
		})
	}
}

// What is dropped silently: whoever asked has gone.
func TestSecondReplyIsDropped(t *testing.T) {
	c, _ := start(t, rpc.Options{}, func(s *rpctest.Server, f rpctest.Frame) {
		s.Write(f.Reply(f.Payload), f.Reply(f.Payload), f.Stream(rpc.StatusContinue, []byte("x")))
	})
	for n := range uint32(10) {
		got, err := number(t.Context(), c, n)
		require.NoError(t, err)
		require.Equal(t, n, got)
	}
}

// What a server may do to a stream that is being opened.
func TestHostileStream(t *testing.T) {
	for name, send := range map[string]func(f rpctest.Frame) []rpctest.Frame{
		"end before the reply":   func(f rpctest.Frame) []rpctest.Frame { return []rpctest.Frame{f.Stream(rpc.StatusOK, nil)} },
		"error before the reply": func(f rpctest.Frame) []rpctest.Frame { return []rpctest.Frame{f.Stream(rpc.StatusError, nil)} },
		"hole before the reply": func(f rpctest.Frame) []rpctest.Frame {
			return []rpctest.Frame{with(f.Stream(0, nil), func(f *rpctest.Frame) { f.Type = rpc.TypeStreamHole })}
		},
		"two replies": func(f rpctest.Frame) []rpctest.Frame { return []rpctest.Frame{f.Reply(nil), f.Reply(nil)} },
		"too much before the reply": func(f rpctest.Frame) []rpctest.Frame {
			return []rpctest.Frame{f.Stream(rpc.StatusContinue, make([]byte, 100)), f.Stream(rpc.StatusContinue, make([]byte, 100))}
		},
	} {
		for _, pause := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				c, _ := start(t, rpc.Options{StreamQueue: 100, PauseStreams: pause}, func(s *rpctest.Server, f rpctest.Frame) { s.Write(send(f)...) })
				s, err := c.CallStream(t.Context(), remote, console, nil, nil)
				if err == nil {
					_, err = s.Read(make([]byte, 1))
				}
				assert.ErrorIs(t, err, rpc.ErrProtocol)
				<-c.Done()
			})
		}
	}
}

// Data before the reply is kept for the stream's reader.
func TestStreamDataBeforeTheReply(t *testing.T) {
	c, _ := start(t, rpc.Options{}, func(s *rpctest.Server, f rpctest.Frame) {
		s.Write(f.Stream(rpc.StatusContinue, []byte("early ")), f.Reply(nil), f.Stream(rpc.StatusContinue, []byte("late")), f.Stream(rpc.StatusContinue, nil))
	})
	s := open(t, c)
	got, err := io.ReadAll(s)
	require.NoError(t, err)
	assert.Equal(t, "early late", string(got))
}

// A conversation that arrives in pieces, cut at every byte.
func TestSplitAtEveryByte(t *testing.T) {
	f := rpctest.Frame{Header: rpc.Header{Program: remote, Version: 1, Procedure: getState, Serial: 1}, Payload: []byte{0, 0, 0, 1, 0, 0, 0, 7}}
	wire := slicesOf(rpctest.Event(remote, 318, []byte("event...")), keepAlive(pong), f.Reply(f.Payload))
	for cut := range len(wire) + 1 {
		synctest.Test(t, func(t *testing.T) {
			conn, server := rpctest.Pipe()
			events := 0
			c := rpc.New(conn, rpc.Options{Event: func(uint32, uint32, []byte) { events++ }})
			var wg sync.WaitGroup
			wg.Go(func() {
				server.Read()
				server.Raw(wire[:cut])
				synctest.Wait()
				server.Raw(wire[cut:])
			})
			assert.NoError(t, list(t.Context(), c))
			wg.Wait()
			assert.Equal(t, 1, events)
			c.Close()
			server.Conn.Close()
		})
	}
}

// A connection that ends at every byte of a reply.
func TestCloseAtEveryByte(t *testing.T) {
	f := rpctest.Frame{Header: rpc.Header{Program: remote, Version: 1, Procedure: getState, Serial: 1}, Payload: []byte{0, 0, 0, 1, 0, 0, 0, 7}}
	wire := slicesOf(rpctest.Event(remote, 318, []byte("event...")), f.Reply(f.Payload))
	for cut := range len(wire) + 1 {
		synctest.Test(t, func(t *testing.T) {
			conn, server := rpctest.Pipe()
			c := rpc.New(conn, rpc.Options{})
			var wg sync.WaitGroup
			wg.Go(func() {
				server.Read()
				server.Raw(wire[:cut])
				server.Conn.Close()
			})
			err := list(t.Context(), c)
			if cut == len(wire) {
				assert.NoError(t, err)
			} else {
				assert.ErrorIs(t, err, rpc.ErrLost)
				assert.ErrorIs(t, err, io.EOF)
			}
			wg.Wait()
			<-c.Done()
			c.Close()
		})
	}
}

func slicesOf(frames ...rpctest.Frame) (wire []byte) {
	for _, f := range frames {
		wire = append(wire, f.Bytes()...)
	}
	return wire
}

// A length is only a claim: memory grows with what has come.
func TestMemoryFollowsWhatHasCome(t *testing.T) {
	const clients = 20
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range clients {
		conn, server := rpctest.Socket(t)
		c := rpc.New(conn, rpc.Options{})
		defer c.Close()
		claim := with(rpctest.Event(remote, 318, nil), func(*rpctest.Frame) {}).Bytes()
		binary.BigEndian.PutUint32(claim, rpc.MaxMessage+4)
		require.NoError(t, server.Raw(claim))
		require.NoError(t, server.Raw(make([]byte, 1<<10)))
	}
	time.Sleep(100 * time.Millisecond) // for the readers to take it up
	runtime.ReadMemStats(&after)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(clients*(1<<20)))
}

// A server that does not read: callers return when their contexts end, and
// those that come later do, too, whatever is queued by then.
func TestServerThatDoesNotRead(t *testing.T) {
	for name, pair := range map[string]func(testing.TB) (net.Conn, *rpctest.Server){
		"socket": rpctest.Socket,
		"pipe":   func(testing.TB) (net.Conn, *rpctest.Server) { return rpctest.Pipe() },
	} {
		t.Run(name, func(t *testing.T) {
			conn, server := pair(t)
			c := rpc.New(conn, rpc.Options{})
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() {
					for ctx.Err() == nil {
						err := c.Call(ctx, remote, getState, func(w *xdr.Writer) { w.Opaque(make([]byte, 100<<10)) }, nil)
						assert.Equal(t, context.DeadlineExceeded, err)
					}
				})
			}
			wg.Wait()
			require.NoError(t, c.Err())
			c.Close()
			server.Conn.Close()
		})
	}
}

// What was sent before the server stopped reading is whole when it goes on.
func TestServerThatReadsLate(t *testing.T) {
	conn, server := rpctest.Socket(t)
	c := rpc.New(conn, rpc.Options{})
	defer c.Close()
	const calls = 40
	var wg sync.WaitGroup
	for n := range calls {
		wg.Go(func() {
			want := bytes.Repeat([]byte{byte(n)}, 50<<10)
			var got []byte
			err := c.Call(t.Context(), remote, getState, func(w *xdr.Writer) { w.Opaque(want) }, func(r *xdr.Reader) { got = bytes.Clone(r.Opaque(1 << 20)) })
			assert.NoError(t, err)
			assert.True(t, bytes.Equal(want, got))
		})
	}
	time.Sleep(50 * time.Millisecond)
	wg.Go(func() { server.Serve(rpctest.Echo) })
	for range calls {
		assert.NoError(t, list(t.Context(), c))
	}
	server.Conn.(*net.UnixConn).CloseRead()
	c.Close()
	wg.Wait()
}

// FuzzServer has a server send whatever it likes, in pieces, while calls, a
// stream and a bridge are open. Nothing panics, and everybody returns.
func FuzzServer(f *testing.F) {
	call := rpctest.Frame{Header: rpc.Header{Program: remote, Version: 1, Procedure: getState, Serial: 1}, Payload: []byte{0, 0, 0, 1, 0, 0, 0, 7}}
	stream := rpctest.Frame{Header: rpc.Header{Program: remote, Version: 1, Procedure: console, Serial: 2}}
	for _, tt := range hostile {
		f.Add(tt.send(call), uint8(3))
	}
	f.Add(slicesOf(call.Reply(call.Payload), stream.Reply(nil), stream.Stream(rpc.StatusContinue, []byte("data")), stream.Stream(rpc.StatusOK, nil)), uint8(29))
	f.Add(slicesOf(stream.Stream(rpc.StatusContinue, []byte("early")), stream.Reply(nil), stream.Stream(rpc.StatusError, nil)), uint8(0))
	f.Add(slicesOf(keepAlive(ping), keepAlive(ping), rpctest.Event(rpc.ProgramQEMU, 6, []byte{0, 0, 0, 1})), uint8(100))
	f.Fuzz(func(t *testing.T, wire []byte, piece uint8) {
		synctest.Test(t, func(t *testing.T) {
			conn, server := rpctest.Pipe()
			c := rpc.New(conn, rpc.Options{Event: func(uint32, uint32, []byte) {}, KeepAlive: time.Second, KeepAliveCount: 2, StreamQueue: 64})
			var wg sync.WaitGroup
			defer wg.Wait()
			defer server.Conn.Close()
			defer c.Close()
			wg.Go(func() { io.Copy(io.Discard, server.Conn) })
			wg.Go(func() { list(t.Context(), c) })
			synctest.Wait() // the order is the seeds'
			wg.Go(func() {
				s, err := c.CallStream(t.Context(), remote, console, nil, nil)
				if err == nil {
					io.Copy(io.Discard, s)
					s.Close()
				}
			})
			synctest.Wait()
			bridge := c.Bridge()
			wg.Go(func() { io.Copy(io.Discard, bridge) })
			bridge.Write(rpctest.Frame{Header: rpc.Header{Program: remote, Version: 1, Procedure: 316, Serial: 9}, Payload: make([]byte, 8)}.Bytes())
			step := int(piece) + 1
			for rest := wire; len(rest) > 0; rest = rest[min(step, len(rest)):] {
				if server.Raw(rest[:min(step, len(rest))]) != nil {
					break
				}
			}
			<-c.Done() // keepalive ends what the bytes do not
		})
	})
}
