package image

import (
	"fmt"
	"io"
	"os"
)

// raw is a file without a format.
type raw struct {
	*os.File
	size int64
}

func rawOf(f *os.File) (*raw, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	if size == 0 {
		return nil, fmt.Errorf("%s is empty", f.Name())
	}
	return &raw{f, size}, nil
}

func (r *raw) Size() int64 { return r.size }
