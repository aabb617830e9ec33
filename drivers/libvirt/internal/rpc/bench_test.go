package rpc_test

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc/rpctest"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/xdr"
)

// state makes a call of the size of DOMAIN_GET_STATE: a domain and flags one
// way, two numbers the other.
func state(ctx context.Context, c *rpc.Client, d *libvirt.Domain) (s, reason int32, err error) {
	err = c.Call(ctx, remote, getState, func(w *xdr.Writer) {
		w.String(d.Name)
		w.Fixed(d.UUID[:])
		w.Int32(d.ID)
		w.Uint32(0)
	}, func(r *xdr.Reader) { s, reason = r.Int32(), r.Int32() })
	return s, reason, err
}

// stateServer answers such calls, allocating nothing: what is counted is the
// client's.
func stateServer(conn net.Conn) {
	in := make([]byte, 64<<10)
	out := make([]byte, 0, 64<<10)
	have := 0
	for {
		n, err := conn.Read(in[have:])
		if err != nil {
			return
		}
		have += n
		used := 0
		out = out[:0]
		for have-used >= 4 {
			size, err := rpc.FrameLength(in[used:])
			if err != nil || have-used < size {
				break
			}
			h := rpc.ParseHeader(in[used:])
			h.Type = rpc.TypeReply
			out = rpc.AppendFrame(out, h, []byte{0, 0, 0, 1, 0, 0, 0, 5})
			used += size
		}
		have = copy(in, in[used:have])
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}

func TestCallAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for name, pair := range map[string]func(testing.TB) (net.Conn, *rpctest.Server){
		"socket": rpctest.Socket,
		"pipe":   func(testing.TB) (net.Conn, *rpctest.Server) { return rpctest.Pipe() },
	} {
		t.Run(name, func(t *testing.T) {
			conn, server := pair(t)
			var wg sync.WaitGroup
			wg.Go(func() { stateServer(server.Conn) })
			c := rpc.New(conn, rpc.Options{})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			d := &libvirt.Domain{Name: "a-domain", ID: 1}
			_, reason, err := state(ctx, c, d)
			require.NoError(t, err)
			assert.Equal(t, int32(5), reason)
			allocs := testing.AllocsPerRun(2000, func() { state(ctx, c, d) })
			t.Logf("%.2f allocations a call", allocs)
			assert.Zero(t, allocs)
			c.Close()
			server.Conn.Close()
			wg.Wait()
		})
	}
}

// The server of the benchmarks is a process of its own, as libvirtd is.
const serverVariable = "POLYVISOR_RPC_TEST_SERVER"

func serveForBenchmark(path string) {
	l, err := net.Listen("unix", path)
	if err != nil {
		panic(err)
	}
	conn, err := l.Accept()
	if err != nil {
		panic(err)
	}
	go func() { // ends when the benchmark does, whatever becomes of it
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	stateServer(conn)
}

func dialServer(b *testing.B) net.Conn {
	b.Helper()
	path := filepath.Join(b.TempDir(), "s")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverVariable+"="+path)
	stdin, err := cmd.StdinPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	b.Cleanup(func() { stdin.Close(); cmd.Wait() })
	for {
		conn, err := net.Dial("unix", path)
		if err == nil {
			b.Cleanup(func() { conn.Close() })
			return conn
		}
		time.Sleep(time.Millisecond)
	}
}

// BenchmarkFloor is what the machine does without a client: one goroutine
// writes a frame and reads the reply.
func BenchmarkFloor(b *testing.B) {
	conn := dialServer(b)
	f := rpc.AppendFrame(nil, rpc.Header{Program: remote, Version: 1, Procedure: getState, Serial: 1}, make([]byte, 40))
	in := make([]byte, 36)
	b.ReportAllocs()
	for b.Loop() {
		conn.Write(f)
		if _, err := io.ReadFull(conn, in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSerial(b *testing.B) {
	c := rpc.New(dialServer(b), rpc.Options{})
	defer c.Close()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	d := &libvirt.Domain{Name: "a-domain", ID: 1}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := state(ctx, c, d); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkConcurrent16(b *testing.B) {
	c := rpc.New(dialServer(b), rpc.Options{})
	defer c.Close()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	b.ReportAllocs()
	var wg sync.WaitGroup
	for i := range 16 {
		n := b.N / 16
		if i < b.N%16 {
			n++
		}
		wg.Go(func() {
			d := &libvirt.Domain{Name: "a-domain", ID: 1}
			for range n {
				if _, _, err := state(ctx, c, d); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
