package linux

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// lseek(2) modes that the standard library does not name.
const (
	seekData = 3
	seekHole = 4
)

// nextData says how many of the n bytes at off lie in a hole of the file, and
// how many bytes of data follow the hole. A file that cannot tell is all data.
func nextData(r io.ReaderAt, off, n int64) (hole, data int64) {
	f, ok := r.(*os.File)
	if !ok {
		return 0, n
	}
	start, err := f.Seek(off, seekData)
	if errors.Is(err, syscall.ENXIO) {
		// Nothing but a hole up to the end of the file. The bounds check of
		// the caller has seen that the file is long enough.
		return n, 0
	}
	if err != nil || start < off {
		return 0, n
	}
	if start-off >= n {
		return n, 0
	}
	end, err := f.Seek(start, seekHole)
	if err != nil || end <= start {
		return start - off, n - (start - off)
	}
	return start - off, min(end, off+n) - start
}
