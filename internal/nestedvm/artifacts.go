//go:build linux

package nestedvm

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// unpacker takes the archive of artifacts as it comes. What it gets is not trusted: names stay below the
// places given, through no symbolic link.
type unpacker struct {
	w      *io.PipeWriter
	result chan error
}

func newUnpacker(artifacts map[string]string) *unpacker {
	r, w := io.Pipe()
	u := &unpacker{w: w, result: make(chan error, 1)}
	go func() {
		err := unpackTar(r, artifacts)
		if err == nil {
			_, err = io.Copy(io.Discard, r) // the padding after the end of the archive
		}
		r.CloseWithError(err)
		u.result <- err
	}()
	return u
}

// write hands on a piece; an error comes out at finish.
func (u *unpacker) write(p []byte) { _, _ = u.w.Write(p) }

func (u *unpacker) finish() error {
	u.w.Close()
	if err := <-u.result; err != nil {
		return fmt.Errorf("artifacts of the nested machine: %w", err)
	}
	return nil
}

func (u *unpacker) abort(err error) {
	u.w.CloseWithError(err)
	<-u.result
}

func unpackTar(r io.Reader, artifacts map[string]string) error {
	var roots []string
	for _, p := range artifactPaths(artifacts) {
		roots = append(roots, artifacts[p])
	}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		first, rest, _ := strings.Cut(strings.TrimSuffix(h.Name, "/"), "/")
		i, err := strconv.Atoi(first)
		if err != nil || i < 0 || i >= len(roots) {
			return fmt.Errorf("name %q is not one that was asked for", h.Name)
		}
		for key := range h.PAXRecords {
			if strings.HasPrefix(key, "GNU.sparse.") { // a few bytes that stand for any size
				return fmt.Errorf("%q is a sparse file, which is never sent", h.Name)
			}
		}
		if err := unpackOne(tr, h, roots[i], rest); err != nil {
			return err
		}
	}
}

// unpackOne writes one file; rest is its name below dst, or "" if it is dst itself.
func unpackOne(r io.Reader, h *tar.Header, dst, rest string) error {
	dir, name := dst, rest
	if rest == "" && h.Typeflag == tar.TypeReg {
		dir, name = filepath.Split(filepath.Clean(dst))
		if dir == "" {
			dir = "."
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if name == "" {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o755)
	case tar.TypeReg:
	default:
		return fmt.Errorf("%q is neither a file nor a directory", h.Name)
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fs.FileMode(h.Mode)&0o777|0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
