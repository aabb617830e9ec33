package pci

import (
	"encoding/binary"
	"sync"
)

const (
	capMSIX = 0x11

	msixEnable  = 1 << 15
	msixMaskAll = 1 << 14

	entrySize   = 16
	entryMasked = 1
)

// MSIX is the interrupts of a function (PCI Local Bus Specification 3.0, section 6.8.2): a table in which the guest says
// for each vector which write to which address it is, and may mask it. Its methods are for any goroutine.
type MSIX struct {
	send func(addr uint64, data uint32)

	mu      sync.Mutex
	table   []entry
	pending []byte // a bit for each vector
	enabled bool
	masked  bool
}

type entry struct {
	addr    uint64
	data    uint32
	control uint32
}

// AddMSIX gives the function a number of vectors, with the table and the pending bits at these offsets of its BAR. send
// delivers an interrupt; it must not block.
func (f *Function) AddMSIX(vectors int, table, pending uint32, send func(addr uint64, data uint32)) *MSIX {
	m := &MSIX{send: send, table: make([]entry, vectors), pending: make([]byte, (vectors+63)/64*8)}
	for i := range m.table {
		m.table[i].control = entryMasked
	}
	body := make([]byte, 10)
	le := binary.LittleEndian
	le.PutUint16(body, uint16(vectors-1))
	le.PutUint32(body[2:], table)
	le.PutUint32(body[6:], pending)
	f.msix, f.msixAt = m, f.AddCapability(capMSIX, body, []byte{0, (msixEnable | msixMaskAll) >> 8}, nil)
	return m
}

// Vectors is how many there are.
func (m *MSIX) Vectors() int { return len(m.table) }

// Signal sends an interrupt, now or when the guest unmasks it. A vector that does not exist, or one while the guest has not
// enabled MSI-X, is nothing.
func (m *MSIX) Signal(vector int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if vector < 0 || vector >= len(m.table) || !m.enabled {
		return
	}
	e := &m.table[vector]
	if m.masked || e.control&entryMasked != 0 {
		m.pending[vector/8] |= 1 << (vector % 8)
		return
	}
	m.send(e.addr, e.data)
}

// control is what the guest says for all vectors.
func (m *MSIX) control(enabled, masked bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.enabled, m.masked = enabled, masked
	for v := range m.table {
		m.release(v)
	}
}

// release sends what is pending and no longer masked. m.mu is held.
func (m *MSIX) release(vector int) {
	bit := byte(1) << (vector % 8)
	e := &m.table[vector]
	if m.pending[vector/8]&bit == 0 || !m.enabled || m.masked || e.control&entryMasked != 0 {
		return
	}
	m.pending[vector/8] &^= bit
	m.send(e.addr, e.data)
}

// ReadTable reads the table; off counts from its beginning.
func (m *MSIX) ReadTable(off uint64, p []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(p)
	v := off / entrySize
	if v >= uint64(len(m.table)) {
		return
	}
	var b [entrySize]byte
	m.table[v].encode(&b)
	copy(p, b[off%entrySize:])
}

// WriteTable writes to one vector of it, in whole fields of four or eight bytes (section 6.8.2).
func (m *MSIX) WriteTable(off uint64, p []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := off / entrySize
	if v >= uint64(len(m.table)) || off%4 != 0 || len(p) != 4 && len(p) != 8 {
		return
	}
	var b [entrySize]byte
	e := &m.table[v]
	e.encode(&b)
	copy(b[off%entrySize:], p)
	le := binary.LittleEndian
	e.addr, e.data, e.control = le.Uint64(b[:]), le.Uint32(b[8:]), le.Uint32(b[12:])&entryMasked
	m.release(int(v))
}

func (e *entry) encode(b *[entrySize]byte) {
	le := binary.LittleEndian
	le.PutUint64(b[:], e.addr)
	le.PutUint32(b[8:], e.data)
	le.PutUint32(b[12:], e.control)
}

// ReadPending reads the pending bits, which the guest cannot write.
func (m *MSIX) ReadPending(off uint64, p []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(p)
	if off < uint64(len(m.pending)) {
		copy(p, m.pending[off:])
	}
}
