package blk

import (
	"bytes"
	"sync"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk"
)

// memory is an image in memory. Before each operation it asks hook, which may wait or give an error.
type memory struct {
	mu   sync.Mutex
	data []byte
	hook func(op string, off, n int64) error
	done []string // operations, if traced is set
	log  bool
}

var _ disk.Image = (*memory)(nil)

func newMemory(size int) *memory { return &memory{data: make([]byte, size)} }

func (m *memory) begin(op string, off, n int64) error {
	if m.log {
		m.mu.Lock()
		m.done = append(m.done, op)
		m.mu.Unlock()
	}
	if m.hook == nil {
		return nil
	}
	return m.hook(op, off, n)
}

func (m *memory) Size() int64 { return int64(len(m.data)) }

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	if err := m.begin("read", off, int64(len(p))); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	copy(p, m.data[off:off+int64(len(p))])
	return len(p), nil
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if err := m.begin("write", off, int64(len(p))); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	copy(m.data[off:off+int64(len(p))], p)
	return len(p), nil
}

func (m *memory) Flush() error { return m.begin("flush", 0, 0) }

func (m *memory) Discard(off, n int64) error {
	if err := m.begin("discard", off, n); err != nil {
		return err
	}
	m.zero(off, n)
	return nil
}

func (m *memory) WriteZeroes(off, n int64, unmap bool) error {
	op := "zero"
	if unmap {
		op = "unmap"
	}
	if err := m.begin(op, off, n); err != nil {
		return err
	}
	m.zero(off, n)
	return nil
}

func (m *memory) zero(off, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.data[off : off+n])
}

func (m *memory) Close() error { return nil }

func (m *memory) operations() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.done...)
}

// contents is a copy of the disk.
func (m *memory) contents() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return bytes.Clone(m.data)
}
