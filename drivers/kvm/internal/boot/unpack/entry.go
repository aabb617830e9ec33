package unpack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/linux"
)

// Names in the cache directory: <digest>.vmlinux is an unpacked kernel,
// <digest>.json describes it and is touched at each use, id-<hash> maps the
// identity of a bzImage to its digest, tmp-* are being written.
const (
	entrySuffix = ".vmlinux"
	metaSuffix  = ".json"
	indexPrefix = "id-"
	tempPrefix  = "tmp-"
	metaMax     = 4096
)

// entryMeta describes an entry as it was written. As long as the identity of
// the file is the recorded one, nobody has written to it since; otherwise
// (the directory was copied, or the file damaged) the checksum decides.
type entryMeta struct {
	Size     int64  `json:"size"`
	Sum      uint32 `json:"crc32c"`
	Identity string `json:"identity"`
}

var errStale = errors.New("cache entry is missing or damaged")

func (c *Cache) entryPath(digest string) string { return filepath.Join(c.Dir, digest+entrySuffix) }
func (c *Cache) metaPath(digest string) string  { return filepath.Join(c.Dir, digest+metaSuffix) }

// open delivers an entry if it is sound. Damaged ones are left to be replaced.
func (c *Cache) open(ctx context.Context, digest string) (*Kernel, error) {
	b, err := readSmall(c.metaPath(digest))
	if err != nil {
		return nil, err
	}
	var meta entryMeta
	if err := json.Unmarshal(b, &meta); err != nil {
		return nil, errStale
	}
	path := c.entryPath(digest)
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := c.check(ctx, f, meta, digest); err != nil {
		f.Close()
		return nil, err
	}
	now := time.Now()
	_ = os.Chtimes(c.metaPath(digest), now, now) // for eviction only
	return &Kernel{File: f, Size: meta.Size, Path: path, Origin: Cached}, nil
}

func (c *Cache) check(ctx context.Context, f *os.File, meta entryMeta, digest string) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() || st.Size() != meta.Size {
		return errStale
	}
	if ident := identityOf(st); ident == "" || ident != meta.Identity {
		sum := crc32.New(castagnoli)
		src := &source{ctx: ctx, r: io.NewSectionReader(f, 0, meta.Size)}
		if _, err := io.CopyBuffer(struct{ io.Writer }{sum}, src, make([]byte, copyBuffer)); err != nil {
			return err
		}
		if sum.Sum32() != meta.Sum {
			return errStale
		}
		meta.Identity = ident
		_ = c.writeMeta(digest, meta) // spares the checksum next time
	}
	return linux.VerifyELF(linux.Image{R: f, Size: meta.Size, Name: f.Name()})
}

func (c *Cache) writeMeta(digest string, meta entryMeta) error {
	b, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	return c.replace(c.metaPath(digest), b)
}

// replace writes a small file in one step.
func (c *Cache) replace(path string, b []byte) error {
	tmp, err := os.CreateTemp(c.Dir, tempPrefix)
	if err != nil {
		return err
	}
	_, err = tmp.Write(b)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name())
	}
	return err
}

// readSmall reads a file of the cache's own making.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, metaMax+1))
	if err == nil && len(b) > metaMax {
		err = fmt.Errorf("%s: %w", path, errStale)
	}
	return b, err
}
