package disk

import "io"

// SectorSize is the unit of sizes and of a guest's requests, in bytes.
const SectorSize = 512

// Image is the contents of one virtual disk.
//
// All methods but Close may be called concurrently, and all but Size may block for as long as the storage does. Offsets and lengths are in
// bytes and need not be aligned; they lie within Size, which callers check. A slice may be guest memory: it is not kept
// after the call, and what is read from it may change while the call runs.
//
// Errors wrap the errno of the operating system where there is one, so that [Errno] finds it.
type Image interface {
	// Size is the size that the guest sees, a positive multiple of SectorSize. It does not change.
	Size() int64
	// ReadAt fills all of p or gives an error; there is no short read at the end.
	io.ReaderAt
	// WriteAt writes all of p or gives an error. What a failed write covers is undefined: old, new or part of each.
	io.WriterAt
	// Flush returns when every write, discard and zeroing that had returned before the call is on stable storage, the
	// format's own tables and the file's size included. After an error nothing may be assumed of them.
	Flush() error
	// Discard says that n bytes at off are no longer needed. Afterwards they read as zeroes or as before, never as
	// anything else. Where the storage cannot take space back it does nothing, without an error.
	Discard(off, n int64) error
	// WriteZeroes makes n bytes at off read as zeroes; unmap says that their space may be given back.
	WriteZeroes(off, n int64, unmap bool) error
	// Close releases the image and its lock. It does not flush. No other call may be under way or follow.
	Close() error
}

// Vectored is an Image that transfers several slices in one go. Like ReadAt and WriteAt, for the slices one after the
// other in memory and without a gap on the disk. The slices and what they lie in are not changed or kept.
type Vectored interface {
	ReadVec(p [][]byte, off int64) error
	WriteVec(p [][]byte, off int64) error
}

// Durable is an Image with a write that returns only when it is on stable storage, cheaper than a write and a Flush.
// An error has the meaning of an error of Flush too: writes before it may be lost.
type Durable interface {
	WriteDurable(p [][]byte, off int64) error
}
