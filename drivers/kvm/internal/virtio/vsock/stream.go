//go:build linux

package vsock

import "golang.org/x/sys/unix"

// firstHostPort is where the numbers of host programs that connect begin, above those that programs listen on.
const firstHostPort = 1 << 30

// bufferSize is how much of the guest's data a connection holds for a host program that does not read, and the credit told.
const bufferSize = 64 << 10

// address tells the connections of a guest from each other.
type address struct{ host, guest uint32 }

// phase of a stream.
type phase uint8

const (
	greeting  phase = iota // a host program has connected and not said to which port
	requested              // the guest was asked
	open
	closing // the socket is closed; the guest has not acknowledged
	ended   // no part of the table any more
)

// todo is what is to be told to the guest about a stream, most urgent first.
type todo uint8

const (
	tellReset todo = 1 << iota
	tellRequest
	tellResponse
	tellShutdown
	tellCredit
	askCredit
)

// stream is a connection.
type stream struct {
	addr   address
	phase  phase
	fd     int // -1 once closed
	slot   int
	serial uint32 // tells it from others that had the slot

	// To the guest. Counters wrap (section 5.10.6.3).
	sent                uint32 // bytes
	guestAlloc, guestFw uint32 // the guest's buffer, and what has left that
	asked               bool   // for credit, and none came yet
	readable            bool   // the socket may have data
	eof                 bool   // the host program sends no more
	hungUp              bool   // nor will it receive
	shut                uint32 // flags of opShutdown that the guest was told or is to be told
	todo                todo

	// From the guest.
	delivered, told uint32 // bytes that have left our buffer; what of them the guest knows
	pending         buffer // what the socket did not take
	watched         bool   // the poller tells when the socket takes more
	guestShut       uint32 // flags of opShutdown that the guest has sent
	guestGone       bool   // it has forgotten the stream; what is pending is still delivered

	queued bool
	next   *stream
}

// credit is how much the guest can take.
func (s *stream) credit() uint32 {
	if used := s.sent - s.guestFw; used < s.guestAlloc {
		return s.guestAlloc - used
	}
	return 0
}

// hasData says whether there may be data to send that may be sent.
func (s *stream) hasData() bool {
	return s.phase == open && s.readable && !s.eof && !s.guestGone && s.shut&shutSend == 0 && s.guestShut&shutReceive == 0
}

// wants says whether the stream has something for the guest now.
func (s *stream) wants() bool {
	return !s.guestGone && (s.todo != 0 || s.hasData() && s.credit() > 0)
}

// queue is a list of streams in turn.
type queue struct{ first, last *stream }

func (q *queue) push(s *stream) {
	if s.queued {
		return
	}
	s.queued, s.next = true, nil
	if q.last == nil {
		q.first = s
	} else {
		q.last.next = s
	}
	q.last = s
}

func (q *queue) pop() *stream {
	s := q.first
	if s == nil {
		return nil
	}
	if q.first = s.next; q.first == nil {
		q.last = nil
	}
	s.queued, s.next = false, nil
	return s
}

// table has the streams of a guest, by slot and by address.
type table struct {
	slots     []*stream
	free      []int
	byAddress map[address]*stream
	greetings int
	serial    uint32
}

func (t *table) count() int { return len(t.slots) - len(t.free) }

// add gives a stream its slot. There must be fewer than MaxConnections.
func (t *table) add(s *stream) {
	t.serial++
	s.serial = t.serial
	if n := len(t.free); n > 0 {
		s.slot, t.free = t.free[n-1], t.free[:n-1]
		t.slots[s.slot] = s
	} else {
		s.slot = len(t.slots)
		t.slots = append(t.slots, s)
	}
}

// name makes a stream known by its address.
func (t *table) name(s *stream, a address) {
	if t.byAddress == nil {
		t.byAddress = map[address]*stream{}
	}
	s.addr = a
	t.byAddress[a] = s
}

func (t *table) unname(s *stream) {
	if t.byAddress[s.addr] == s {
		delete(t.byAddress, s.addr)
	}
}

func (t *table) remove(s *stream) {
	t.unname(s)
	t.slots[s.slot] = nil
	t.free = append(t.free, s.slot)
}

// resetList is a bounded list of refusals.
type resetList struct {
	list     [maxResets]address
	first, n int
}

func (r *resetList) full() bool { return r.n == len(r.list) }

func (r *resetList) push(a address) {
	r.list[(r.first+r.n)%len(r.list)] = a
	r.n++
}

func (r *resetList) pop() address {
	a := r.list[r.first]
	r.first = (r.first + 1) % len(r.list)
	r.n--
	return a
}

// closeSocket closes the socket of a stream, which leaves the poller by that.
func (s *stream) closeSocket() {
	if s.fd >= 0 {
		unix.Close(s.fd)
		s.fd = -1
	}
	s.readable, s.watched = false, false
}
