package rpc

import (
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/digitalocean/go-libvirt"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/xdr"
)

// bridgeBound is how many bytes of replies and events a bridge holds for a
// user that does not read; one frame is taken whatever its size.
const bridgeBound = 8 << 20

// Bridge gives a connection for another client of the protocol, such as
// *libvirt.Libvirt of go-libvirt, that shares this one: its calls, streams and
// events travel beside our own, under serials of ours. The connection is
// authenticated and open already, so what such a client says first (AUTH_LIST,
// CONNECT_OPEN) is answered here, and so is its CONNECT_CLOSE; the events it
// asks for go to it and not to Options.Event.
//
// Only frames that this package has checked get there. Payloads are passed as
// they are, or become an error if go-libvirt could not decode them (see fits). A user that does not read what it asked for loses its stream, or
// this bridge, and stalls nobody. The bridge ends with the client, or when the
// other end is closed; several may exist.
func (c *Client) Bridge() net.Conn {
	outer, inner := net.Pipe()
	b := &bridge{c: c, conn: inner, gone: make(chan struct{}), streams: map[uint32]*bridgeCall{}}
	b.change.L = &b.mu
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		inner.Close()
		return outer
	}
	c.bridges[b] = struct{}{}
	c.wg.Go(b.fromUser)
	c.wg.Go(b.toUser)
	return outer
}

type bridge struct {
	c    *Client
	conn net.Conn      // our end
	gone chan struct{} // closed when closed is set

	mu      sync.Mutex
	change  sync.Cond
	queue   []byte // frames for the user
	closed  bool
	streams map[uint32]*bridgeCall // by the user's serial
}

// bridgeCall is a call of a bridge's user.
type bridgeCall struct {
	b          *bridge
	h          Header // as the user sent it
	serial     uint32 // ours
	streaming  bool   // opens a stream
	id         int32  // of the callback that is deregistered
	register   bool   // of events
	deregister bool

	replied, dropped bool // guarded by bridge.mu; dropped: the user has gone
}

// claim says whose the events of a callback are. Callbacks are numbered by the
// server, for each program on its own.
type claim struct {
	program uint32
	id      int32
}

// Procedures that a bridge treats in a way of its own (remote_protocol.x,
// qemu_protocol.x).
const (
	procConnectOpen  = 1
	procConnectClose = 2
	procAuthList     = 66
	procSASLInit     = 67
	procSASLStart    = 68
	procSASLStep     = 69
	procAuthPolkit   = 70

	procEventRegister   = 316 // CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY
	procEventDeregister = 317

	procMonitorRegister   = 4 // QEMU_PROC_CONNECT_DOMAIN_MONITOR_EVENT_REGISTER
	procMonitorDeregister = 5
	procMonitorEvent      = 6
)

// opensStream tells the procedures of the remote program that come with a
// stream ("@readstream", "@writestream" in remote_protocol.x).
func opensStream(h Header) bool {
	if h.Program != ProgramRemote {
		return false
	}
	switch h.Procedure {
	case 148, 215, 304, // DOMAIN_MIGRATE_PREPARE_TUNNEL, _TUNNEL3, _TUNNEL3_PARAMS
		201, 296, // DOMAIN_OPEN_CONSOLE, _CHANNEL
		208, 209, // STORAGE_VOL_UPLOAD, _DOWNLOAD
		211: // DOMAIN_SCREENSHOT
		return true
	}
	return false
}

// hasCallback tells the events whose payload begins with the number of the
// callback that asked for them.
func hasCallback(program, procedure uint32) bool {
	switch program {
	case ProgramQEMU:
		return procedure == procMonitorEvent
	case ProgramRemote:
		switch {
		case procedure >= 318 && procedure <= 333: // DOMAIN_EVENT_CALLBACK_LIFECYCLE to _DEVICE_REMOVED
			return true
		}
		switch procedure {
		case 346, 348, 354, 359, 363, 367, 379, // DOMAIN_EVENT_CALLBACK_TUNABLE, _AGENT_LIFECYCLE, _DEVICE_ADDED, _MIGRATION_ITERATION, _JOB_COMPLETED, _DEVICE_REMOVAL_FAILED, _METADATA_CHANGE
			385, 423, 438, 453: // DOMAIN_EVENT_BLOCK_THRESHOLD, _MEMORY_FAILURE, _MEMORY_DEVICE_SIZE_CHANGE, _NIC_MAC_CHANGE
			return true
		}
	}
	return false
}

// bridgeEvent gives an event to the bridge that asked for it. False: none did.
func (c *Client) bridgeEvent(h Header, payload []byte) bool {
	if !c.claimed.Load() || !hasCallback(h.Program, h.Procedure) {
		return false
	}
	r := xdr.NewReader(payload)
	key := claim{h.Program, r.Int32()}
	c.mu.Lock()
	b := c.claims[key]
	c.mu.Unlock()
	if r.Err() != nil || b == nil {
		return false
	}
	if fits(h, payload) == nil { // go-libvirt drops what it cannot decode
		b.push(h, payload)
	}
	return true
}

// fromUser reads what the user sends until one of both is gone.
func (b *bridge) fromUser() {
	defer b.shut()
	head := make([]byte, HeaderSize)
	for {
		if _, err := io.ReadFull(b.conn, head); err != nil {
			return
		}
		n, err := FrameLength(head)
		if err != nil {
			return
		}
		payload := make([]byte, n-HeaderSize)
		if _, err := io.ReadFull(b.conn, payload); err != nil {
			return
		}
		if !b.handle(ParseHeader(head), payload) {
			return
		}
	}
}

// handle deals with one frame of the user's. False: it is not of the protocol.
func (b *bridge) handle(h Header, payload []byte) bool {
	switch h.Type {
	case TypeCall:
		if b.answer(h) {
			return true
		}
		return b.forward(h, payload)
	case TypeStream:
		b.mu.Lock()
		k := b.streams[h.Serial]
		b.mu.Unlock()
		if k != nil {
			h.Serial = k.serial
			b.c.out.send(stop(b.gone), h, payload)
		}
		return true // for a stream that is over: the server would drop it, too
	case TypeMessage: // keepalive is ours to do
		return true
	}
	return false
}

// answer answers what concerns the connection as such.
func (b *bridge) answer(h Header) bool {
	if h.Program != ProgramRemote {
		return false
	}
	var w xdr.Writer
	status := StatusOK
	switch h.Procedure {
	case procConnectOpen, procConnectClose:
	case procAuthList:
		w.Count(1)
		w.Int32(0) // REMOTE_AUTH_NONE
	case procAuthPolkit:
		w.Int32(1) // complete
	case procSASLInit, procSASLStart, procSASLStep:
		status = StatusError
		EncodeError(&w, &Error{Code: libvirt.ErrAuthFailed, Level: libvirt.ErrError, Message: "the connection is authenticated already"})
	default:
		return false
	}
	h.Type, h.Status = TypeReply, status
	b.push(h, w.Bytes())
	return true
}

// forward makes a call for the user.
func (b *bridge) forward(h Header, payload []byte) bool {
	k := &bridgeCall{b: b, h: h, streaming: opensStream(h)}
	switch {
	case h.Program == ProgramRemote && h.Procedure == procEventRegister, h.Program == ProgramQEMU && h.Procedure == procMonitorRegister:
		k.register = true
	case h.Program == ProgramRemote && h.Procedure == procEventDeregister, h.Program == ProgramQEMU && h.Procedure == procMonitorDeregister:
		k.deregister = true
		k.id = xdr.NewReader(payload).Int32()
	}
	// Known before the reply can come.
	b.mu.Lock()
	if k.streaming {
		b.streams[h.Serial] = k
	}
	serial, err := b.c.register(k)
	k.serial = serial
	b.mu.Unlock()
	if err != nil {
		return false
	}
	h.Serial = serial
	if !b.c.out.send(stop(b.gone), h, payload) {
		return false
	}
	b.c.in.takeBack()
	return true
}

func (k *bridgeCall) matches(h Header) bool {
	return h.Program == k.h.Program && h.Procedure == k.h.Procedure
}

func (k *bridgeCall) stays(h Header) bool { return k.streaming && h.Status == StatusOK }

func (k *bridgeCall) reply(h Header, payload []byte, _ bool) error {
	b := k.b
	b.mu.Lock()
	again, dropped := k.replied, k.dropped
	k.replied = true
	b.mu.Unlock()
	if again {
		return fmt.Errorf("%w: %s is a second reply", ErrProtocol, h)
	}
	if dropped {
		k.abort(h.Serial)
		return nil
	}
	if h.Status == StatusOK {
		switch {
		case k.register:
			r := xdr.NewReader(payload)
			id := r.Int32()
			if err := r.Err(); err != nil {
				return fmt.Errorf("%w: %s: %w", ErrProtocol, h, err)
			}
			b.claim(claim{h.Program, id})
		case k.deregister:
			b.c.mu.Lock()
			delete(b.c.claims, claim{h.Program, k.id})
			b.c.mu.Unlock()
		}
	}
	if !k.streaming || h.Status != StatusOK {
		b.forget(k)
	}
	h.Serial = k.h.Serial
	if err := fits(h, payload); err != nil {
		h.Status, payload = StatusError, errorPayload(err)
	}
	b.push(h, payload)
	return nil
}

// errorPayload is an error of this side for the user.
func errorPayload(err error) []byte {
	var w xdr.Writer
	EncodeError(&w, &Error{Code: libvirt.ErrRPC, Level: libvirt.ErrError, Message: err.Error()})
	return w.Bytes()
}

func (k *bridgeCall) stream(h Header, payload []byte, _ bool) error {
	if !k.streaming {
		return fmt.Errorf("%w: %s is data of a stream for a call that opens none", ErrProtocol, h)
	}
	serial := h.Serial
	h.Serial = k.h.Serial
	if h.Type == TypeStream && h.Status == StatusContinue {
		if k.b.pushStream(h, payload) {
			return nil
		}
		// Its reader is too slow.
		k.abort(serial)
		h.Status, payload = StatusError, errorPayload(ErrStreamOverflow)
	} else if err := fits(h, payload); err != nil && h.Status == StatusError {
		payload = errorPayload(err)
	}
	k.b.c.unregister(serial, k)
	k.b.forget(k)
	k.b.push(h, payload)
	return nil
}

// abort ends a stream that the server has opened.
func (k *bridgeCall) abort(serial uint32) {
	if k.b.c.unregister(serial, k) {
		k.b.c.out.control(Header{Program: k.h.Program, Version: version, Procedure: k.h.Procedure, Type: TypeStream, Serial: serial, Status: StatusError}, nil)
	}
}

func (k *bridgeCall) lost(error) {} // the bridge ends with the connection

// claim notes that events of this number are for b, or tells the server that
// nobody wants them any more.
func (b *bridge) claim(key claim) {
	b.c.mu.Lock()
	_, alive := b.c.bridges[b]
	if alive {
		b.c.claims[key] = b
		b.c.claimed.Store(true)
	}
	b.c.mu.Unlock()
	if !alive {
		b.c.deregister(key)
	}
}

// discard takes the reply of a call nobody waits for.
type discard struct{ program, procedure uint32 }

func (d *discard) matches(h Header) bool             { return h.Program == d.program && h.Procedure == d.procedure }
func (d *discard) stays(Header) bool                 { return false }
func (d *discard) reply(Header, []byte, bool) error  { return nil }
func (d *discard) stream(Header, []byte, bool) error { return nil }
func (d *discard) lost(error)                        {}

// deregister asks for no more events of this number, without waiting.
func (c *Client) deregister(key claim) {
	d := &discard{key.program, procEventDeregister}
	if key.program == ProgramQEMU {
		d.procedure = procMonitorDeregister
	}
	serial, err := c.register(d)
	if err != nil {
		return
	}
	var w xdr.Writer
	w.Int32(key.id)
	c.out.control(Header{Program: d.program, Version: version, Procedure: d.procedure, Type: TypeCall, Serial: serial}, w.Bytes())
}

// forget drops a call that is over.
func (b *bridge) forget(k *bridgeCall) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.streams[k.h.Serial] == k {
		delete(b.streams, k.h.Serial)
	}
}

// push queues a frame for the user. A user that does not read loses its bridge.
func (b *bridge) push(h Header, payload []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	if len(b.queue) > 0 && len(b.queue)+len(payload) > bridgeBound {
		b.closeLocked()
		return
	}
	b.queue = AppendFrame(b.queue, h, payload)
	b.change.Broadcast()
}

// pushStream is push for the data of a stream, of which less may wait. False:
// there is too much already.
func (b *bridge) pushStream(h Header, payload []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return true
	}
	if len(b.queue) > 0 && len(b.queue)+len(payload) > b.c.opt.StreamQueue {
		return false
	}
	b.queue = AppendFrame(b.queue, h, payload)
	b.change.Broadcast()
	return true
}

// toUser writes what is queued until the bridge is closed.
func (b *bridge) toUser() {
	var spare []byte
	for {
		b.mu.Lock()
		for len(b.queue) == 0 && !b.closed {
			b.change.Wait()
		}
		if b.closed {
			b.mu.Unlock()
			return
		}
		batch := b.queue
		b.queue = spare
		b.mu.Unlock()
		if _, err := b.conn.Write(batch); err != nil {
			b.close()
			return
		}
		spare = nil
		if cap(batch) <= keepBuffer {
			spare = batch[:0]
		}
	}
}

// close ends both goroutines.
func (b *bridge) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closeLocked()
}

func (b *bridge) closeLocked() {
	if !b.closed {
		b.closed = true
		close(b.gone)
	}
	b.queue = nil
	b.conn.Close()
	b.change.Broadcast()
}

// shut cleans up behind a user that has gone: its streams are aborted, its
// events not asked for any more. Replies that still come are dropped by push.
func (b *bridge) shut() {
	b.close()
	c := b.c
	c.mu.Lock()
	delete(c.bridges, b)
	var claims []claim
	for key, owner := range c.claims {
		if owner == b {
			claims = append(claims, key)
			delete(c.claims, key)
		}
	}
	c.mu.Unlock()
	for _, key := range claims {
		c.deregister(key)
	}
	b.mu.Lock()
	var open []*bridgeCall
	for _, k := range b.streams {
		k.dropped = true // if its reply is still to come, reply aborts it
		if k.replied {
			open = append(open, k)
		}
	}
	b.streams = nil
	b.mu.Unlock()
	for _, k := range open {
		k.abort(k.serial)
	}
}
