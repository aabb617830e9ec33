package unpack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/linux"
)

// DefaultCacheBytes bounds a [Cache] that names no bound of its own.
const DefaultCacheBytes = 1 << 30

// Cache keeps unpacked kernels in a directory, by the SHA-256 of the bzImage.
// An index by file identity (device, inode, size, times) spares hashing a
// bzImage that was seen before.
//
// A Cache is safe for concurrent use, also by several processes on the same
// directory: files appear in it by rename only, and those that are removed stay
// readable for who has them open. Entries are checked when they are used, and
// damaged ones are made anew. The cache is an optimisation only: whatever is
// wrong with the directory, a kernel is still delivered, unpacked into a
// nameless file, and [Kernel.CacheErr] says why.
type Cache struct {
	// Dir is made if missing. It must belong to this user and be writable by
	// nobody else, because what is in it gets booted. Empty means no cache.
	Dir string
	// MaxBytes bounds the size of all entries; when one is added, the least
	// recently used are removed. 0 means DefaultCacheBytes. The entry in use stays even
	// if it alone is larger.
	MaxBytes int64
}

// Origin says where a [Kernel] came from.
type Origin int

// Origins of a kernel.
const (
	Original Origin = iota // the file itself is an ELF vmlinux
	Cached                 // found in the cache
	Unpacked               // unpacked into the cache just now
	Uncached               // unpacked into a file without a name
)

func (o Origin) String() string {
	switch o {
	case Original:
		return "original"
	case Cached:
		return "cached"
	case Unpacked:
		return "unpacked"
	case Uncached:
		return "uncached"
	}
	return fmt.Sprintf("Origin(%d)", int(o))
}

// Kernel is an open ELF vmlinux, whose headers have been verified.
type Kernel struct {
	File *os.File // to be read; the caller closes it
	Size int64    // bytes
	// Path names the file; "" for Uncached. A cached file may be removed at
	// any time by other users of the cache: use File.
	Path     string
	Origin   Origin
	CacheErr error // why the cache was not used, if it should have been
}

// Close closes File.
func (k *Kernel) Close() error { return k.File.Close() }

// Vmlinux opens the kernel file at path and delivers an ELF vmlinux: the file
// itself, or for a bzImage what is inside it. It blocks for as long as reading,
// unpacking and writing take and ends early with ctx.Err().
//
// Failures to open or read path wrap linux.ErrRead and the cause, refused
// images are *linux.Error values, and ErrStorage says that neither the cache
// nor the temporary directory nor memory can hold the result.
func (c *Cache) Vmlinux(ctx context.Context, path string) (*Kernel, error) {
	f, _, err := linux.OpenPath(path)
	if err != nil {
		return nil, err
	}
	k, err := c.VmlinuxFrom(ctx, f)
	if err != nil || k.File != f {
		f.Close()
	}
	return k, err
}

// VmlinuxFrom is [Cache.Vmlinux] for a file that is open already; its position
// does not matter. The file stays the caller's, except that it becomes part of
// a returned Kernel of the Original kind: then closing either closes both.
func (c *Cache) VmlinuxFrom(ctx context.Context, f *os.File) (*Kernel, error) {
	img, err := linux.Open(f)
	if err != nil {
		return nil, err
	}
	format, err := linux.Detect(img)
	if err != nil {
		return nil, err
	}
	if format == linux.ELF {
		if err := linux.VerifyELF(img); err != nil {
			return nil, err
		}
		return &Kernel{File: f, Size: img.Size, Path: f.Name(), Origin: Original}, nil
	}
	// Refuse a broken bzImage before the cache has any part in it.
	if _, err := Find(img); err != nil {
		return nil, err
	}
	k, err := c.cached(ctx, f, img)
	if err == nil {
		return k, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var bad *linux.Error
	if errors.As(err, &bad) {
		return nil, err
	}
	k, fallbackErr := nameless(ctx, img)
	if fallbackErr != nil {
		return nil, fallbackErr
	}
	if !errors.Is(err, errNoCache) {
		k.CacheErr = err
	}
	return k, nil
}

var errNoCache = errors.New("no cache directory")

// cached delivers from the cache, filling it if need be. Errors that are not
// about the image (*linux.Error) or ctx are about the cache.
func (c *Cache) cached(ctx context.Context, f *os.File, img linux.Image) (*Kernel, error) {
	if c.Dir == "" {
		return nil, errNoCache
	}
	if err := prepareDir(c.Dir); err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	ident := identityOf(st)
	if digest, ok := c.lookup(ident); ok {
		k, err := c.open(ctx, digest)
		if err == nil || ctx.Err() != nil {
			return k, err
		}
	}
	digest, err := hashFile(ctx, img)
	if err != nil {
		return nil, err
	}
	k, err := c.open(ctx, digest)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if k, err = c.fill(ctx, img, f, ident, digest); err != nil {
			return nil, err
		}
		c.evict(digest)
	}
	// Without the index the next start hashes the file again: no reason to fail.
	if settled(st, time.Now()) {
		_ = c.remember(ident, digest)
	}
	return k, nil
}

// fill unpacks the image into a new entry.
func (c *Cache) fill(ctx context.Context, img linux.Image, f *os.File, ident, digest string) (k *Kernel, err error) {
	tmp, err := os.CreateTemp(c.Dir, tempPrefix)
	if err != nil {
		return nil, err
	}
	defer func() {
		tmp.Close()
		if err != nil {
			os.Remove(tmp.Name()) // gone already after the rename
		}
	}()
	out, err := unpackTo(ctx, img, tmp)
	if err != nil {
		return nil, err
	}
	// What was hashed and what was unpacked must be the same file content.
	if st, err := f.Stat(); err != nil || identityOf(st) != ident {
		return nil, &linux.Error{File: img.Name, Offset: -1, Err: linux.ErrRead,
			Reason: "it changed while it was unpacked", Remedy: "start again"}
	}
	if err := tmp.Chmod(0o400); err != nil {
		return nil, err
	}
	if err := tmp.Sync(); err != nil {
		return nil, err
	}
	path := c.entryPath(digest)
	if err := os.Rename(tmp.Name(), path); err != nil {
		return nil, err
	}
	// From here on the entry may be another process's, with the same content.
	// It is opened anew because nobody who boots it needs to write to it.
	r, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	st, err := r.Stat()
	if err == nil {
		err = c.writeMeta(digest, entryMeta{Size: out.size, Sum: out.sum.Sum32(), Identity: identityOf(st)})
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	return &Kernel{File: r, Size: out.size, Path: path, Origin: Unpacked}, nil
}

// unpackTo unpacks into a file and verifies that the result is a kernel.
func unpackTo(ctx context.Context, img linux.Image, f *os.File) (*sparseFile, error) {
	out := newSparseFile(f)
	if _, err := Unpack(ctx, img, out); err != nil {
		return nil, err
	}
	if err := out.finish(); err != nil {
		return nil, err
	}
	err := linux.VerifyELF(linux.Image{R: f, Size: out.size, Name: img.Name + " (unpacked)"})
	return out, err
}

// nameless unpacks into a file that vanishes when it is closed.
func nameless(ctx context.Context, img linux.Image) (*Kernel, error) {
	var causes []error
	for _, create := range []func() (*os.File, error){unlinkedTemp, memoryFile} {
		f, err := create()
		if err != nil {
			causes = append(causes, err)
			continue
		}
		out, err := unpackTo(ctx, img, f)
		if err == nil {
			return &Kernel{File: f, Size: out.size, Origin: Uncached}, nil
		}
		f.Close()
		var bad *linux.Error
		if ctx.Err() != nil || errors.As(err, &bad) {
			return nil, err
		}
		causes = append(causes, err)
	}
	return nil, &linux.Error{File: img.Name, Offset: -1,
		Err:    fmt.Errorf("%w: %w", ErrStorage, errors.Join(causes...)),
		Remedy: "make room in " + os.TempDir() + ", or " + remedyGuest}
}

func unlinkedTemp() (*os.File, error) {
	f, err := os.CreateTemp("", "polyvisor-vmlinux-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// hashFile returns the SHA-256 of an image in hex.
func hashFile(ctx context.Context, img linux.Image) (string, error) {
	h := sha256.New()
	src := &source{ctx: ctx, r: io.NewSectionReader(img.R, 0, img.Size)}
	buf := make([]byte, copyBuffer)
	n, err := io.CopyBuffer(struct{ io.Writer }{h}, src, buf)
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil:
		return "", &linux.Error{File: img.Name, Offset: n, Err: fmt.Errorf("%w: %w", linux.ErrRead, err)}
	case n != img.Size:
		return "", &linux.Error{File: img.Name, Offset: n, Err: linux.ErrTruncated,
			Reason: "the file ended while it was read", Remedy: "start again"}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
