// Package initramfs makes initial RAM disks for Linux guests: cpio archives in the "newc" format
// (Documentation/driver-api/early-userspace/buffer-format.rst), and the kernel modules that go into them.
package initramfs

import (
	"bytes"
	"fmt"
	"path"
	"strings"

	"github.com/cavaliergopher/cpio"
)

// Archive collects a cpio archive in memory. The first error stays, and Close tells it.
type Archive struct {
	buf  bytes.Buffer
	w    *cpio.Writer
	made map[string]bool // directories
	err  error
}

// New begins an archive.
func New() *Archive {
	a := &Archive{made: map[string]bool{}}
	a.w = cpio.NewWriter(&a.buf)
	return a
}

// Dir adds a directory and those above it, once.
func (a *Archive) Dir(name string) {
	if name == "." || a.made[name] {
		return
	}
	a.Dir(path.Dir(name))
	a.made[name] = true
	a.add(&cpio.Header{Name: name, Mode: cpio.TypeDir | 0o755, Links: 2}, nil)
}

// File adds an executable file and the directories above it.
func (a *Archive) File(name string, data []byte) {
	if clean, ok := a.place(name); ok {
		a.add(&cpio.Header{Name: clean, Mode: cpio.TypeReg | 0o755, Links: 1, Size: int64(len(data))}, data)
	}
}

// Link adds a symbolic link and the directories above it.
func (a *Archive) Link(name, target string) {
	if clean, ok := a.place(name); ok {
		a.add(&cpio.Header{Name: clean, Mode: cpio.TypeSymlink | 0o777, Links: 1, Size: int64(len(target))}, []byte(target)) // cpio has the target for its content
	}
}

// place makes the directories above a name.
func (a *Archive) place(name string) (clean string, ok bool) {
	clean = path.Clean(strings.TrimLeft(name, "/"))
	if clean == "." || clean == ".." || strings.HasPrefix(clean, "../") || strings.IndexByte(clean, 0) >= 0 {
		if a.err == nil {
			a.err = fmt.Errorf("bad file name %q", name)
		}
		return "", false
	}
	a.Dir(path.Dir(clean))
	return clean, true
}

func (a *Archive) add(h *cpio.Header, data []byte) {
	if a.err != nil {
		return
	}
	if a.err = a.w.WriteHeader(h); a.err == nil && len(data) != 0 {
		_, a.err = a.w.Write(data)
	}
}

// Close ends the archive and gives it.
func (a *Archive) Close() ([]byte, error) {
	if a.err != nil {
		return nil, a.err
	}
	if err := a.w.Close(); err != nil {
		return nil, err
	}
	return a.buf.Bytes(), nil
}
