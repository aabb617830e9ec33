package testguest

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/cavaliergopher/cpio"
)

// archive collects a cpio archive in memory. The first error stays.
type archive struct {
	buf  bytes.Buffer
	w    *cpio.Writer
	made map[string]bool // directories
	err  error
}

func newArchive() *archive {
	a := &archive{made: map[string]bool{}}
	a.w = cpio.NewWriter(&a.buf)
	return a
}

// dir adds a directory and those above it, once.
func (a *archive) dir(name string) {
	if name == "." || a.made[name] {
		return
	}
	a.dir(path.Dir(name))
	a.made[name] = true
	a.add(&cpio.Header{Name: name, Mode: cpio.TypeDir | 0o755, Links: 2}, nil)
}

// file adds an executable file and the directories above it.
func (a *archive) file(name string, data []byte) {
	clean := path.Clean(strings.TrimLeft(name, "/"))
	if clean == "." || clean == ".." || strings.HasPrefix(clean, "../") || strings.IndexByte(clean, 0) >= 0 {
		if a.err == nil {
			a.err = fmt.Errorf("bad file name %q", name)
		}
		return
	}
	a.dir(path.Dir(clean))
	a.add(&cpio.Header{Name: clean, Mode: cpio.TypeReg | 0o755, Links: 1, Size: int64(len(data))}, data)
}

func (a *archive) add(h *cpio.Header, data []byte) {
	if a.err != nil {
		return
	}
	if a.err = a.w.WriteHeader(h); a.err == nil && len(data) != 0 {
		_, a.err = a.w.Write(data)
	}
}

func (a *archive) close() ([]byte, error) {
	if a.err != nil {
		return nil, a.err
	}
	if err := a.w.Close(); err != nil {
		return nil, err
	}
	return a.buf.Bytes(), nil
}

func sortedKeys(m map[string][]byte) []string { return slices.Sorted(maps.Keys(m)) }
