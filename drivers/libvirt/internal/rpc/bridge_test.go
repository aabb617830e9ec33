package rpc_test

import (
	"bytes"
	"context"
	"runtime"
	"slices"
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

const (
	register   = 316 // CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY
	deregister = 317
	lifecycle  = 318 // DOMAIN_EVENT_CALLBACK_LIFECYCLE
	download   = 209 // STORAGE_VOL_DOWNLOAD
	upload     = 208
	getVersion = 157 // CONNECT_GET_LIB_VERSION
)

// foreign is a go-libvirt handle over a bridge.
func foreign(t *testing.T, c *rpc.Client) *libvirt.Libvirt {
	t.Helper()
	l := libvirt.NewWithDialer(rpctest.Dialer(c.Bridge()))
	require.NoError(t, l.ConnectToURI("test:///default"))
	return l
}

func lifecycleEvent(callback int32, name string) rpctest.Frame {
	var w xdr.Writer
	w.Int32(callback)
	w.String(name)
	w.Fixed(make([]byte, 16))
	w.Int32(-1)
	w.Int32(2) // started
	w.Int32(0)
	return rpctest.Event(remote, lifecycle, w.Bytes())
}

func TestBridgeCalls(t *testing.T) {
	var mu sync.Mutex
	var seen []uint32
	c, _ := start(t, rpc.Options{}, func(s *rpctest.Server, f rpctest.Frame) {
		mu.Lock()
		seen = append(seen, f.Procedure)
		mu.Unlock()
		if f.Procedure == getVersion {
			s.Write(f.Reply([]byte{0, 0, 0, 0, 0, 0, 0x23, 0x28}))
		} else {
			rpctest.Echo(s, f)
		}
	})
	l := foreign(t, c)
	// Both count their calls from 1: the serials would clash.
	var wg sync.WaitGroup
	for n := range uint32(50) {
		wg.Go(func() {
			got, err := number(t.Context(), c, n)
			assert.NoError(t, err)
			assert.Equal(t, n, got)
		})
		wg.Go(func() {
			got, err := l.ConnectGetLibVersion()
			assert.NoError(t, err)
			assert.Equal(t, uint64(9000), got)
		})
	}
	wg.Wait()
	require.NoError(t, l.Disconnect())
	_, err := number(t.Context(), c, 1)
	assert.NoError(t, err, "its end is not ours")
	mu.Lock()
	defer mu.Unlock()
	for _, procedure := range seen {
		assert.Contains(t, []uint32{getVersion, getState}, procedure, "opening and closing stay here")
	}
}

func TestBridgeErrors(t *testing.T) {
	c, _ := start(t, rpc.Options{}, func(s *rpctest.Server, f rpctest.Frame) {
		s.Write(f.Error(&rpc.Error{Code: libvirt.ErrNoDomain, Level: libvirt.ErrError, Message: "Domain not found"}))
	})
	l := foreign(t, c)
	_, err := l.DomainLookupByName("x")
	assert.True(t, libvirt.IsNotFound(err), "%v", err)
	require.NoError(t, l.Disconnect())
}

// Events go to who asked for them, by the number of the callback.
func TestBridgeEvents(t *testing.T) {
	calls := make(chan rpctest.Frame, 10)
	ours := make(chan int32, 10)
	c, server := start(t, rpc.Options{Event: func(_, _ uint32, payload []byte) { ours <- xdr.NewReader(payload).Int32() }}, func(s *rpctest.Server, f rpctest.Frame) {
		switch f.Procedure {
		case register:
			s.Write(f.Reply([]byte{0, 0, 0, 5}), lifecycleEvent(5, "at once"))
		default:
			s.Write(f.Reply(nil))
		}
		calls <- f
	})
	l := foreign(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, err := l.SubscribeEvents(ctx, libvirt.DomainEventIDLifecycle, libvirt.OptDomain{})
	require.NoError(t, err)
	<-calls
	server.Write(lifecycleEvent(4, "ours"), lifecycleEvent(5, "theirs"), lifecycleEvent(5, "theirs"))
	assert.Equal(t, int32(4), <-ours)
	// The first may have come before go-libvirt listened to this callback.
	for got := range events {
		e := got.(*libvirt.DomainEventCallbackLifecycleMsg)
		assert.Equal(t, int32(5), e.CallbackID)
		if e.Msg.Dom.Name == "theirs" {
			break
		}
	}
	require.NoError(t, l.Disconnect())
	for range events { // go-libvirt waits for whoever asked to take them all
	}
	for f := range calls { // the server is told that nobody listens
		if f.Procedure == deregister {
			assert.Equal(t, []byte{0, 0, 0, 5}, f.Payload)
			break
		}
	}
	server.Write(lifecycleEvent(5, "late"))
	assert.Equal(t, int32(5), <-ours)
}

func TestBridgeStreams(t *testing.T) {
	var uploaded bytes.Buffer
	c, _ := start(t, rpc.Options{}, func(s *rpctest.Server, f rpctest.Frame) {
		switch {
		case f.Procedure == download && f.Type == rpc.TypeCall:
			s.Write(f.Reply(nil), f.Stream(rpc.StatusContinue, []byte("one ")), f.Stream(rpc.StatusContinue, []byte("two")), f.Stream(rpc.StatusOK, nil))
		case f.Procedure == upload && f.Type == rpc.TypeStream && f.Status == rpc.StatusContinue:
			uploaded.Write(f.Payload)
		case f.Procedure == upload && f.Type == rpc.TypeStream:
			s.Write(f.Stream(rpc.StatusOK, nil))
		default:
			s.Write(f.Reply(nil))
		}
	})
	l := foreign(t, c)
	var got bytes.Buffer
	require.NoError(t, l.StorageVolDownload(libvirt.StorageVol{}, &got, 0, 0, 0))
	assert.Equal(t, "one two", got.String())
	sent := bytes.Repeat([]byte("data"), 100_000)
	require.NoError(t, l.StorageVolUpload(libvirt.StorageVol{}, bytes.NewReader(sent), 0, 0, 0))
	require.NoError(t, l.Disconnect())
	require.NoError(t, c.Close())
	assert.True(t, bytes.Equal(sent, uploaded.Bytes()))
}

// sleeper is a reader of a stream that takes its time.
type sleeper struct{ wake chan struct{} }

func (s sleeper) Write(p []byte) (int, error) {
	<-s.wake
	return len(p), nil
}

// A reader over the bridge that sleeps loses its stream; we go on meanwhile.
func TestBridgeWithSlowReader(t *testing.T) {
	aborted := make(chan struct{})
	c, _ := start(t, rpc.Options{StreamQueue: 64 << 10}, func(s *rpctest.Server, f rpctest.Frame) {
		switch {
		case f.Procedure == download && f.Type == rpc.TypeCall:
			s.Write(f.Reply(nil))
			for range 100 {
				s.Write(f.Stream(rpc.StatusContinue, make([]byte, 32<<10)))
			}
		case f.Procedure == download && f.Type == rpc.TypeStream:
			assert.Equal(t, rpc.StatusError, f.Status)
			close(aborted)
		default:
			rpctest.Echo(s, f)
		}
	})
	l := foreign(t, c)
	s := sleeper{make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		err := l.StorageVolDownload(libvirt.StorageVol{}, s, 0, 0, 0)
		assert.ErrorContains(t, err, "stream dropped")
	})
	<-aborted
	for n := range uint32(10) {
		_, err := number(t.Context(), c, n)
		require.NoError(t, err)
	}
	close(s.wake)
	wg.Wait()
	require.NoError(t, l.Disconnect())
}

// A frame that the protocol does not allow ends the connection before it gets
// to go-libvirt, whose reader it would have crashed.
func TestHostileFrameDoesNotPassTheBridge(t *testing.T) {
	for _, wire := range [][]byte{{0, 0, 0, 10, 1, 2, 3, 4, 5, 6}, {0xff, 0xff, 0xff, 0xff}} {
		c, server := start(t, rpc.Options{}, func(*rpctest.Server, rpctest.Frame) {})
		l := foreign(t, c)
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := l.ConnectGetLibVersion()
			assert.Error(t, err)
		})
		time.Sleep(10 * time.Millisecond)
		server.Raw(wire)
		wg.Wait()
		<-l.Disconnected()
		assert.ErrorIs(t, c.Err(), rpc.ErrProtocol)
	}
}

// A count of elements that have not come is an error: go-libvirt would make room for
// all of them first, which is more than there is.
func TestHostileCountDoesNotPassTheBridge(t *testing.T) {
	count := []byte{0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0}
	hostile := true
	c, _ := start(t, rpc.Options{}, func(s *rpctest.Server, f rpctest.Frame) {
		switch {
		case !hostile:
			s.Write(f.Reply(make([]byte, 8)))
		case f.Procedure == getVersion:
			f.Header.Type, f.Header.Status, f.Payload = rpc.TypeReply, rpc.StatusError, slices.Concat(make([]byte, 12), count)
			s.Write(f)
		default:
			s.Write(f.Reply(count))
		}
	})
	l := foreign(t, c)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, err := l.ConnectListAllDomains(1, 0)
	require.ErrorContains(t, err, "2147483647 elements")
	_, err = l.ConnectGetType()
	require.ErrorContains(t, err, "2147483647 bytes")
	_, err = l.ConnectGetLibVersion()
	require.Error(t, err)
	runtime.ReadMemStats(&after)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16<<20))
	hostile = false
	_, _, err = l.ConnectListAllDomains(1, 0)
	require.NoError(t, err, "the handle goes on")
}

// A user that sends what is no frame loses its bridge, nothing more.
func TestBridgeWithHostileUser(t *testing.T) {
	c, _ := start(t, rpc.Options{}, rpctest.Echo)
	for _, wire := range [][]byte{
		{0, 0, 0, 0},
		{0xff, 0xff, 0xff, 0xff},
		rpctest.Frame{Header: rpc.Header{Type: rpc.TypeReply}}.Bytes(),
		rpctest.Frame{Header: rpc.Header{Type: rpc.TypeCallWithFDs}}.Bytes(),
		rpctest.Frame{Header: rpc.Header{Type: rpc.TypeStream, Serial: 99}}.Bytes()[:20],
	} {
		b := c.Bridge()
		wire = append(wire, make([]byte, 28)...)
		b.Write(wire)
		b.Close()
		_, err := number(t.Context(), c, 1)
		require.NoError(t, err)
	}
}

func TestBridgeEndsWithTheClient(t *testing.T) {
	c, _ := start(t, rpc.Options{}, rpctest.Echo)
	l := foreign(t, c)
	c.Close()
	<-l.Disconnected()
	_, err := c.Bridge().Read(make([]byte, 1))
	assert.Error(t, err)
}
