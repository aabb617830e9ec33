package image

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk/qcow2"
)

// Description is what Info tells. All sizes are in bytes.
type Description struct {
	Path          string `json:"path"`
	Format        Format `json:"format"`
	Size          int64  `json:"size"`      // of the disk, as a guest sees it
	FileSize      int64  `json:"file_size"` // the end of the file
	Used          int64  `json:"used"`      // what the file takes on the host's file system
	ClusterSize   int64  `json:"cluster_size,omitempty"`
	Version       int    `json:"version,omitempty"` // of the format
	Compression   string `json:"compression,omitempty"`
	RefcountBits  int    `json:"refcount_bits,omitempty"`
	Backing       string `json:"backing,omitempty"`
	BackingFormat string `json:"backing_format,omitempty"`
	Snapshots     int    `json:"snapshots,omitempty"`
	Bitmaps       bool   `json:"bitmaps,omitempty"`
	Dirty         bool   `json:"dirty,omitempty"`
	Corrupt       bool   `json:"corrupt,omitempty"`
}

// Info describes an image. Backing files are named and not opened. The image may be in use: its size can be read at any time.
func Info(path string, format Format) (Description, error) {
	d := Description{Path: path}
	fi, err := os.Stat(path)
	if err != nil {
		return d, err
	}
	if !fi.Mode().IsRegular() && fi.Mode().Type() != os.ModeDevice {
		return d, fmt.Errorf("%s is neither a regular file nor a block device", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return d, err
	}
	defer f.Close()
	d.Used = used(fi)
	if d.FileSize, err = f.Seek(0, io.SeekEnd); err != nil {
		return d, err
	}
	if d.Format, err = format.settle(f, path); err != nil {
		return d, err
	}
	if d.Format == Raw {
		d.Size = d.FileSize
		return d, nil
	}
	im, err := qcow2.Open(f, qcow2.Options{ReadOnly: true, AnyState: true})
	if err != nil {
		return d, err
	}
	i := im.Info()
	d.Size, d.ClusterSize, d.Version, d.Compression, d.RefcountBits = i.Size, i.ClusterSize, i.Version, i.Compression, i.RefcountBits
	d.Backing, d.BackingFormat, d.Snapshots, d.Bitmaps, d.Dirty, d.Corrupt = i.Backing, i.BackingFormat, i.Snapshots, i.Bitmaps, i.Dirty, i.Corrupt
	return d, nil
}

// CheckResult is what Check found.
type CheckResult struct {
	Path        string   `json:"path"`
	Corruptions int64    `json:"corruptions"`
	Leaks       int64    `json:"leaks"`        // clusters
	Repaired    int64    `json:"repaired"`     // of the leaks
	Allocated   int64    `json:"allocated"`    // clusters of the disk with data
	Compressed  int64    `json:"compressed"`   // of them
	ClusterSize int64    `json:"cluster_size"` // bytes
	Problems    []string `json:"problems"`     // the first of them, in words
}

// Check verifies the tables of a qcow2 image, which must not be in use by a writer. With repair, which locks the image for
// writing, leaked clusters are given back if there is no corruption. Backing files are not opened.
func Check(ctx context.Context, path string, repair bool, progress Progress) (CheckResult, error) {
	r := CheckResult{Path: path, Problems: []string{}}
	f, err := openFile(path, repair)
	if err != nil {
		return r, err
	}
	format, err := Format("").settle(f, path)
	if err == nil && format != QCOW2 {
		err = fmt.Errorf("%s is a raw image: it has no tables that could be checked", path)
	}
	if err != nil {
		f.Close()
		return r, err
	}
	im, err := qcow2.Open(f, qcow2.Options{ReadOnly: !repair, AnyState: true, CacheBytes: 16 << 20})
	if err != nil {
		f.Close()
		return r, err
	}
	report, err := im.Check(ctx, repair, progress)
	if again := im.Close(); err == nil {
		err = again
	}
	r.Corruptions, r.Leaks, r.Repaired, r.Allocated, r.Compressed, r.ClusterSize = report.Corruptions, report.Leaks, report.Repaired, report.Allocated, report.Compressed, report.ClusterSize
	r.Problems = append(r.Problems, report.Problems...)
	return r, err
}

// ResizeOptions say how the size of a disk is changed.
type ResizeOptions struct {
	Format  Format
	Shrink  bool // agrees that what is beyond a smaller size is lost
	Backing bool // the image may be based on another
}

// Resize changes the size of a disk, in bytes. What comes in is zero. The image must not be in use.
func Resize(path string, size int64, o ResizeOptions) error {
	if size <= 0 || size%512 != 0 {
		return fmt.Errorf("a disk of %d bytes is not possible: the size is a positive multiple of 512", size)
	}
	f, err := openFile(path, true)
	if err != nil {
		return err
	}
	err = resize(f, path, size, o)
	if err != nil {
		f.Close()
	}
	return err
}

func resize(f *os.File, path string, size int64, o ResizeOptions) error {
	format, err := o.Format.settle(f, path)
	if err != nil {
		return err
	}
	grows := func(old int64) error {
		if size < old && !o.Shrink {
			return fmt.Errorf("%s has a disk of %d bytes: making it smaller loses what is beyond the new end, and must be asked for as such", path, old)
		}
		return nil
	}
	if format == Raw {
		fi, err := f.Stat()
		if err != nil {
			return err
		}
		if !fi.Mode().IsRegular() {
			return fmt.Errorf("%s is a block device, whose size is not the image's", path)
		}
		if err := grows(fi.Size()); err != nil {
			return err
		}
		if err := f.Truncate(size); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		return f.Close()
	}
	var q qcow2.Options
	if o.Backing {
		c := chain{allowed: true}
		q.Backing = func(name, format string) (qcow2.Backing, error) { return c.open(relative(path, name), Format(format)) }
	}
	q.Zstd = unzstd
	im, err := qcow2.Open(f, q)
	if err != nil {
		return err
	}
	if err := grows(im.Size()); err != nil {
		return err
	}
	if err := im.Resize(size); err != nil {
		return err
	}
	return im.Close()
}
