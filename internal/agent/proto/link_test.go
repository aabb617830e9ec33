package proto_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/internal/agent/proto"
)

// frame makes the bytes of one.
func frame(t proto.Type, stream uint8, payload string) string {
	b := []byte{byte(t), stream, 0, 0, 0, 0, 0, 0}
	binary.LittleEndian.PutUint32(b[4:], uint32(len(payload)))
	return string(b) + payload
}

func number(n uint32) string { return string(binary.LittleEndian.AppendUint32(nil, n)) }

// script is a connection whose other side has said all it will, and that keeps what it is
// told.
type script struct {
	io.Reader
	said bytes.Buffer
}

func (s *script) Write(p []byte) (int, error) { return s.said.Write(p) }
func (s *script) Close() error                { return nil }

func nothing(proto.Type, []byte) error { return nil }

// What breaks the protocol ends the connection.
func TestBreaches(t *testing.T) {
	full := strings.Repeat(frame(proto.TypeData, 1, strings.Repeat("x", proto.MaxData)), 4)
	rest := proto.Window - 4*proto.MaxData
	for name, said := range map[string]string{
		"no type":                   frame(0, 0, ""),
		"an unknown type":           frame(11, 0, ""),
		"an unknown stream":         frame(proto.TypeData, 3, "x"),
		"not zero":                  "\x04\x01\x01\x00\x00\x00\x00\x00",
		"too long":                  "\x04\x01\x00\x00" + number(proto.MaxData+1),
		"a length of 4 GiB":         "\x01\x00\x00\x00" + number(1<<32-1),
		"an end that has bytes":     frame(proto.TypeEnd, 1, "x"),
		"a stop that has bytes":     frame(proto.TypeStop, 0, "x"),
		"a short number":            frame(proto.TypeCredit, 0, "abc"),
		"bytes that nobody reads":   frame(proto.TypeData, 2, "x"),
		"credit for nobody":         frame(proto.TypeCredit, 2, number(1)),
		"too much credit":           frame(proto.TypeCredit, 0, number(1)),
		"two ends":                  frame(proto.TypeEnd, 1, "") + frame(proto.TypeEnd, 1, ""),
		"bytes after the end":       frame(proto.TypeEnd, 1, "") + frame(proto.TypeData, 1, "x"),
		"bytes beyond the window":   full + frame(proto.TypeData, 1, strings.Repeat("x", rest+1)),
		"one byte, the window full": full + frame(proto.TypeData, 1, strings.Repeat("x", rest)) + frame(proto.TypeData, 1, "x"),
	} {
		t.Run(name, func(t *testing.T) {
			l := proto.NewLink(&script{Reader: strings.NewReader(said)})
			l.Inbox(1)
			out := l.Outbox(0, nil)
			require.ErrorIs(t, l.Serve(nothing), proto.ErrProtocol)
			_, err := out.Write([]byte("x"))
			require.ErrorIs(t, err, proto.ErrProtocol)
		})
	}
}

// A connection that ends inside a frame is told from one that ends between two.
func TestEnds(t *testing.T) {
	whole := frame(proto.TypeData, 1, "some bytes")
	for n := range len(whole) + 1 {
		l := proto.NewLink(&script{Reader: strings.NewReader(whole[:n])})
		in := l.Inbox(1)
		err := l.Serve(nothing)
		got, rerr := io.ReadAll(in)
		require.ErrorIs(t, rerr, io.ErrUnexpectedEOF, "the stream has no end")
		if n == 0 || n == len(whole) {
			require.NoError(t, err)
			require.Equal(t, whole[min(n, 8):n], string(got))
		} else {
			require.ErrorIs(t, err, io.ErrUnexpectedEOF, n)
			require.Empty(t, got)
		}
	}
}

// Streams in both directions, of sizes about the bounds, with readers of all kinds.
func TestStreams(t *testing.T) {
	for _, size := range []int{0, 1, proto.MaxData - 1, proto.MaxData, proto.MaxData + 1, proto.Window, proto.Window + 1, 3*proto.Window + 12345} {
		data := bytes.Repeat([]byte("0123456789abcdef!"), size/17+1)[:size]
		a, b := net.Pipe()
		left, right := proto.NewLink(a), proto.NewLink(b)
		in, back := right.Inbox(0), left.Inbox(1)
		out, answer := left.Outbox(0, nil), right.Outbox(1, nil)
		served := make(chan error, 2)
		for _, l := range []*proto.Link{left, right} {
			go func() { served <- l.Serve(nothing) }()
		}
		go func() {
			_, _ = out.Write(data)
			_ = out.Close()
		}()
		go func() { // gives back what comes
			_, _ = answer.ReadFrom(in)
			_ = answer.Close()
		}()
		var got bytes.Buffer
		n, err := back.WriteTo(&got)
		require.NoError(t, err)
		require.EqualValues(t, size, n)
		require.True(t, bytes.Equal(data, got.Bytes()))
		require.NoError(t, left.Close())
		require.NoError(t, right.Close())
		<-served
		<-served
	}
}

// A reader that has gone lets the writer know, and what comes all the same is dropped.
func TestStop(t *testing.T) {
	a, b := net.Pipe()
	left, right := proto.NewLink(a), proto.NewLink(b)
	in := right.Inbox(1)
	told := make(chan struct{})
	out := left.Outbox(1, func() { close(told) })
	served := make(chan error, 2)
	for _, l := range []*proto.Link{left, right} {
		go func() { served <- l.Serve(nothing) }()
	}
	_, err := out.Write([]byte("before"))
	require.NoError(t, err)
	require.NoError(t, in.Close())
	<-told
	_, err = out.Write([]byte("after"))
	require.ErrorIs(t, err, proto.ErrStopped)
	require.NoError(t, out.Close(), "it has ended")
	_, err = in.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.ErrClosedPipe)
	require.NoError(t, left.Close())
	<-served
	<-served
}

// A reader or a writer that fails is told apart from the connection.
func TestOwnErrors(t *testing.T) {
	broken := errors.New("broken")
	l := proto.NewLink(&script{Reader: strings.NewReader(frame(proto.TypeData, 1, "x"))})
	in, out := l.Inbox(1), l.Outbox(0, nil)
	require.NoError(t, l.Serve(nothing))
	_, err := in.WriteTo(failing{broken})
	var werr *proto.WriteError
	require.ErrorAs(t, err, &werr)
	require.ErrorIs(t, err, broken)
	_, err = out.ReadFrom(failing{broken})
	require.ErrorIs(t, err, io.EOF, "the connection is over first")

	l = proto.NewLink(&script{Reader: strings.NewReader("")})
	_, err = l.Outbox(0, nil).ReadFrom(failing{broken})
	var rerr *proto.ReadError
	require.ErrorAs(t, err, &rerr)
	_, err = l.Outbox(1, nil).ReadFrom(lying{})
	require.ErrorAs(t, err, &rerr)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error)  { return 0, f.err }
func (f failing) Write([]byte) (int, error) { return 0, f.err }

// lying gives more than there is place for.
type lying struct{}

func (lying) Read(p []byte) (int, error) { return len(p) + 1, nil }

// What the other side says is shown to people without what a terminal obeys.
func TestDecode(t *testing.T) {
	var f proto.Failure
	require.NoError(t, proto.Decode([]byte(`{"code": "other", "message": "red \u001b[31m and\nmore", "later": 1}`), &f))
	require.Equal(t, "red \ufffd[31m and\ufffdmore", f.Message)
	require.NoError(t, proto.Decode([]byte(`{"message": "`+strings.Repeat("x", 5000)+`"}`), &f))
	require.Less(t, len(f.Message), 1100)
	var a proto.Answer
	require.NoError(t, proto.Decode([]byte(`{"problems": ["\u0007"]}`), &a))
	require.Equal(t, []string{"\ufffd"}, a.Problems)
	require.ErrorIs(t, proto.Decode([]byte(`[]`), &a), proto.ErrProtocol)
}

func TestParseConfig(t *testing.T) {
	c, err := proto.ParseConfig([]byte(`{"modules": ["/a.ko"], "mounts": [{"type": "virtiofs", "source": "tag", "target": "/work", "options": "ro"}], "root": "/root"}`))
	require.NoError(t, err)
	require.Equal(t, &proto.Config{Modules: []string{"/a.ko"}, Mounts: []proto.Mount{{Type: "virtiofs", Source: "tag", Target: "/work", Options: "ro"}}, Root: "/root"}, c)
	_, err = proto.ParseConfig([]byte(`{"module": []}`))
	require.ErrorContains(t, err, proto.ConfigPath)
}

// Whatever comes, a stream gives the bytes of its frames in order and no others, and all
// ends.
func FuzzLink(f *testing.F) {
	f.Add([]byte(frame(proto.TypeData, 1, "abc") + frame(proto.TypeCredit, 0, number(3)) + frame(proto.TypeEnd, 1, "")))
	f.Add([]byte(frame(proto.TypeStop, 0, "") + frame(proto.TypeExit, 0, "{}") + frame(proto.TypeData, 1, strings.Repeat("x", 500))))
	f.Add([]byte("\x04\x01\x00\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, said []byte) {
		s := &script{Reader: bytes.NewReader(said)}
		l := proto.NewLink(s)
		in, out := l.Inbox(1), l.Outbox(0, nil)
		var handled int
		err := l.Serve(func(_ proto.Type, b []byte) error { handled += len(b); return nil })
		got, _ := io.ReadAll(in)
		if handled+len(got) > len(said) {
			t.Fatalf("%d bytes of messages and %d of a stream out of %d", handled, len(got), len(said))
		}
		var want []byte
		for rest := said; len(rest) >= 8; {
			n := int(binary.LittleEndian.Uint32(rest[4:]))
			if rest[0] == 4 && rest[1] == 1 && len(rest) >= 8+n {
				want = append(want, rest[8:8+n]...)
			}
			if len(want) >= len(got) || len(rest) < 8+n {
				break
			}
			rest = rest[8+n:]
		}
		if !bytes.Equal(got, want[:min(len(got), len(want))]) {
			t.Fatalf("the stream gives %q, its frames have %q", got, want)
		}
		if _, werr := out.Write([]byte("x")); werr == nil {
			t.Fatalf("a stream goes on after the connection, which ended with %v", err)
		}
	})
}
