package guestmem

// load16 is one load, which the processor does not reorder with later ones. That it is not inlined keeps the compiler from doing so:
// there are no atomic operations on two bytes, and one on the four around them waits until a write of two has left the
// processor that made it.
//
//go:noinline
func load16(p *uint16) uint16 { return *p }
