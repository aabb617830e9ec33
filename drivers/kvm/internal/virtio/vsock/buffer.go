package vsock

// buffer holds what a socket did not take. It grows to bufferSize and no further; a full cycle of filling and emptying
// allocates nothing once it has grown.
type buffer struct {
	data []byte
	read int
}

// keepBuffer is the largest memory that an empty buffer keeps.
const keepBuffer = 16 << 10

func (b *buffer) len() int { return len(b.data) - b.read }

func (b *buffer) bytes() []byte { return b.data[b.read:] }

// add appends p. The caller has checked that it fits.
func (b *buffer) add(p []byte) {
	if b.read > 0 && len(b.data)+len(p) > cap(b.data) {
		b.data = b.data[:copy(b.data, b.data[b.read:])]
		b.read = 0
	}
	b.data = append(b.data, p...)
}

// drop forgets the first n bytes.
func (b *buffer) drop(n int) {
	b.read += n
	if b.read < len(b.data) {
		return
	}
	b.read, b.data = 0, b.data[:0]
	if cap(b.data) > keepBuffer {
		b.data = nil
	}
}
