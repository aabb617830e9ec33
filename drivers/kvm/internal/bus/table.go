package bus

import (
	"errors"
	"fmt"
	"slices"
)

// What a RangeError unwraps to.
var (
	// ErrOverlap: part of the range belongs to another device.
	ErrOverlap = errors.New("range overlaps another device")
	// ErrRange: the range is empty, or ends past the address space.
	ErrRange = errors.New("range is empty or outside the address space")
	// ErrNoRange: no device has exactly this range.
	ErrNoRange = errors.New("no device has this range")
)

// RangeError tells which range could not be added or removed, and why.
type RangeError struct {
	Space string // name of the address space
	Range Range  // the range asked for
	With  Range  // for ErrOverlap: the device that is in the way
	Err   error  // ErrOverlap, ErrRange or ErrNoRange
}

func (e *RangeError) Error() string {
	s := fmt.Sprintf("%s space: %q at %#x, size %#x: %v", e.Space, e.Range.Name, e.Range.Base, e.Range.Size, e.Err)
	if e.Err == ErrOverlap {
		s += fmt.Sprintf(": %q at %#x, size %#x", e.With.Name, e.With.Base, e.With.Size)
	}
	return s
}

func (e *RangeError) Unwrap() error { return e.Err }

// Add gives the range [base, base+size) to d. It may be called while vCPUs
// run; accesses that begin after Add returned reach d. The same device may be
// added with several ranges, but cannot tell by the offset which one an access
// came through.
//
// The error is a *RangeError for ErrRange or ErrOverlap; the table is then as
// before.
func (b *Bus) Add(base, size uint64, name string, d Device) error {
	r := Range{Name: name, Base: base, Size: size}
	if size == 0 || base > b.last || size-1 > b.last-base {
		return &RangeError{Space: b.name, Range: r, Err: ErrRange}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	old := *b.table.Load()
	w := window{base: base, last: base + size - 1, name: name, dev: d}
	i := search(old, base)
	if i < len(old) && old[i].base <= w.last {
		in := old[i]
		return &RangeError{Space: b.name, Range: r, Err: ErrOverlap,
			With: Range{Name: in.name, Base: in.base, Size: in.last - in.base + 1}}
	}
	// Clip: an insert in place would move entries under running lookups.
	t := slices.Insert(slices.Clip(slices.Clone(old)), i, w)
	b.table.Store(&t)
	return nil
}

// Remove takes the range out again; base and size are those given to Add. An
// access that began before Remove returned may still be inside the device, so
// its owner frees nothing the device touches until the vCPUs were stopped or
// kicked once.
//
// The error is a *RangeError for ErrNoRange.
func (b *Bus) Remove(base, size uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := *b.table.Load()
	i := search(old, base)
	if i == len(old) || old[i].base != base || old[i].last-base+1 != size {
		return &RangeError{Space: b.name, Range: Range{Base: base, Size: size}, Err: ErrNoRange}
	}
	t := slices.Delete(slices.Clone(old), i, i+1)
	b.table.Store(&t)
	return nil
}
