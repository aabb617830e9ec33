package host_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/internal/agent/host"
	"github.com/polyvisor/polyvisor/internal/agent/proto"
	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func frame(t proto.Type, stream uint8, payload string) string {
	b := []byte{byte(t), stream, 0, 0, 0, 0, 0, 0}
	binary.LittleEndian.PutUint32(b[4:], uint32(len(payload)))
	return string(b) + payload
}

// guest is a connection to a guest that says what it says, and takes all that it is told.
type guest struct {
	net.Conn
	said io.Reader
}

func (g *guest) Read(p []byte) (int, error)       { return g.said.Read(p) }
func (g *guest) Write(p []byte) (int, error)      { return len(p), nil }
func (g *guest) Close() error                     { return nil }
func (g *guest) SetDeadline(time.Time) error      { return nil }
func (g *guest) SetReadDeadline(time.Time) error  { return nil }
func (g *guest) SetWriteDeadline(time.Time) error { return nil }

func saying(said string) *host.Client {
	return &host.Client{Dial: func(context.Context) (net.Conn, error) { return &guest{said: strings.NewReader(said)}, nil }}
}

func run(c *host.Client, cmd *host.Command) (proto.Exit, error) {
	p, err := c.Start(context.Background(), cmd)
	if err != nil {
		return proto.Exit{}, err
	}
	defer p.Close()
	return p.Wait(context.Background())
}

// What a guest can say wrongly is told as its fault, or as a connection that broke.
func TestWrongGuests(t *testing.T) {
	answer := frame(proto.TypeAnswer, 0, `{"pid": 7}`)
	exit := frame(proto.TypeExit, 0, `{"code": 0}`)
	ends := frame(proto.TypeEnd, 1, "") + frame(proto.TypeEnd, 2, "")
	for _, tt := range []struct {
		name, said string
		want       error
	}{
		{"nothing", "", host.ErrBroken},
		{"half an answer", answer[:10], host.ErrBroken},
		{"no answer", frame(proto.TypeExit, 0, "{}"), proto.ErrProtocol},
		{"an answer that is none", frame(proto.TypeAnswer, 0, "[]"), proto.ErrProtocol},
		{"bytes in place of one", frame(proto.TypeData, 1, "x"), proto.ErrProtocol},
		{"no exit", answer + ends, host.ErrBroken},
		{"an exit that is none", answer + frame(proto.TypeExit, 0, "x"), proto.ErrProtocol},
		{"no ends", answer + exit, host.ErrBroken},
		{"one end", answer + frame(proto.TypeEnd, 1, "") + exit, host.ErrBroken},
		{"two exits", answer + exit + exit + ends, proto.ErrProtocol},
		{"a failure after the answer", answer + frame(proto.TypeFailure, 0, "{}"), proto.ErrProtocol},
		{"input from the guest", answer + frame(proto.TypeData, 0, "x"), proto.ErrProtocol},
		{"all as it should be", answer + frame(proto.TypeData, 1, "out") + exit + ends, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			_, err := run(saying(tt.said), &host.Command{Args: []string{"x"}, Stdout: &out, Stderr: io.Discard})
			if tt.want == nil {
				require.NoError(t, err)
				require.Equal(t, "out", out.String())
				return
			}
			require.ErrorIs(t, err, tt.want)
		})
	}
	var f *proto.Failure
	_, err := run(saying(frame(proto.TypeFailure, 0, `{"code": "not-found", "message": "none"}`)), &host.Command{Args: []string{"x"}})
	require.ErrorAs(t, err, &f)
	require.Equal(t, proto.FailNotFound, f.Code)
}

// The end of a context ends a request that nobody answers.
func TestNoAnswer(t *testing.T) {
	silent := &host.Client{Dial: func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		return ours, nil
	}}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := silent.Ping(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = silent.Start(ctx, &host.Command{Args: []string{"x"}})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, silent.Put(ctx, "/x", 0o644, strings.NewReader("x")), context.DeadlineExceeded)
	_, err = silent.Get(ctx, "/x", io.Discard)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	refused := &host.Client{Dial: func(context.Context) (net.Conn, error) { return nil, os.ErrPermission }}
	_, err = refused.Ping(t.Context())
	require.ErrorIs(t, err, os.ErrPermission)
	_, err = silent.Start(t.Context(), &host.Command{Args: []string{strings.Repeat("x", proto.MaxRequest)}})
	require.ErrorContains(t, err, "at most")
}

// Whatever a guest says, every request ends, and gives no more than was said.
func FuzzHost(f *testing.F) {
	answer := frame(proto.TypeAnswer, 0, `{"pid": 7, "size": 3, "mode": 420}`)
	f.Add(uint8(0), []byte(answer+frame(proto.TypeData, 1, "out")+frame(proto.TypeExit, 0, `{"code": 7}`)+frame(proto.TypeEnd, 1, "")+frame(proto.TypeEnd, 2, "")))
	f.Add(uint8(1), []byte(answer+frame(proto.TypeData, 1, "abc")+frame(proto.TypeEnd, 1, "")+answer))
	f.Add(uint8(2), []byte(answer+frame(proto.TypeCredit, 0, "\x01\x00\x00\x00")+frame(proto.TypeStop, 0, "")+answer))
	f.Add(uint8(3), []byte(frame(proto.TypeAnswer, 0, `{"version": 1, "problems": ["x"]}`)))
	f.Add(uint8(0), []byte(frame(proto.TypeFailure, 0, `{"code": "other", "message": "\u001b"}`)))
	f.Fuzz(func(t *testing.T, op uint8, said []byte) {
		c, ctx := saying(string(said)), context.Background()
		var out, stderr bytes.Buffer
		var err error
		switch op % 4 {
		case 0:
			var e proto.Exit
			e, err = run(c, &host.Command{Args: []string{"x"}, Stdin: strings.NewReader("input"), Stdout: &out, Stderr: &stderr})
			if err == nil && e.Signal == 0 && !bytes.Contains(said, []byte{byte(proto.TypeExit)}) {
				t.Fatal("a command has ended of which nobody said so")
			}
		case 1:
			_, err = c.Get(ctx, "/x", &out)
		case 2:
			err = c.Put(ctx, "/x", 0o644, strings.NewReader("content"))
		default:
			_, err = c.Ping(ctx)
		}
		var failure *proto.Failure
		if err != nil && !errors.Is(err, proto.ErrProtocol) && !errors.Is(err, host.ErrBroken) && !errors.As(err, &failure) {
			t.Fatalf("an error of no kind: %v", err)
		}
		if failure != nil && strings.ContainsRune(failure.Message, 0x1b) {
			t.Fatalf("a terminal would obey %q", failure.Message)
		}
		if out.Len()+stderr.Len() > len(said) {
			t.Fatalf("%d bytes out of %d", out.Len()+stderr.Len(), len(said))
		}
	})
}

// The end of the context with which a command was started is not what broke its connection later.
func TestContextOfStartIsForgotten(t *testing.T) {
	r, w := io.Pipe()
	go func() { _, _ = io.WriteString(w, frame(proto.TypeAnswer, 0, `{"pid": 7}`)) }()
	c := &host.Client{Dial: func(context.Context) (net.Conn, error) { return &guest{said: r}, nil }}
	ctx, cancel := context.WithCancel(context.Background())
	p, err := c.Start(ctx, &host.Command{Args: []string{"x"}})
	require.NoError(t, err)
	defer p.Close()
	cancel()
	_ = w.CloseWithError(errors.New("connection reset by peer"))
	_, err = p.Wait(context.Background())
	require.ErrorIs(t, err, host.ErrBroken)
	require.NotErrorIs(t, err, context.Canceled)
}
