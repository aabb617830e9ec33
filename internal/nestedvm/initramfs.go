package nestedvm

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/cavaliergopher/cpio"
)

// initramfs writes an archive for the kernel. A host file that comes a second time becomes a hard link.
type initramfs struct {
	w     *cpio.Writer
	inode int64
	dirs  map[string]bool
	files map[string]bool
	seen  map[hostFile]linked
}

// maxFile is the largest size in bytes that the format has room for.
const maxFile = 1<<32 - 1

type hostFile struct{ dev, ino uint64 }

// linked is a file already in the archive.
type linked struct {
	inode int64
	mode  cpio.FileMode
}

func newInitramfs(w io.Writer) *initramfs {
	return &initramfs{
		w: cpio.NewWriter(w), dirs: map[string]bool{"/": true}, files: map[string]bool{}, seen: map[hostFile]linked{},
	}
}

// add puts f into the archive. Of two files of one path the first stays.
func (a *initramfs) add(f File) error {
	dst := path.Clean(f.Path)
	if !path.IsAbs(dst) || dst == "/" && f.Source == "" {
		return fmt.Errorf("file for the nested machine: path %q is not absolute", f.Path)
	}
	if f.Source == "" {
		return a.content(dst, f.Data, f.Mode)
	}
	info, err := os.Stat(f.Source)
	switch {
	case err != nil:
		return fmt.Errorf("file for the nested machine: %w", err)
	case info.IsDir():
		return a.tree(f.Source, dst)
	default:
		return a.hostFile(f.Source, dst, info, f.Mode)
	}
}

func (a *initramfs) tree(src, dst string) error {
	return filepath.WalkDir(src, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, p)
		if err != nil {
			return err
		}
		to := path.Join(dst, filepath.ToSlash(rel))
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			return a.mkdirAll(to)
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			return a.symlink(to, target)
		case d.Type().IsRegular():
			return a.hostFile(p, to, info, 0)
		}
		return nil // sockets, pipes and devices mean nothing in the machine
	})
}

func (a *initramfs) hostFile(src, dst string, info fs.FileInfo, mode uint32) error {
	if a.files[dst] {
		return nil
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("file for the nested machine: %s is neither a regular file nor a directory", src)
	}
	if mode == 0 {
		mode = uint32(info.Mode().Perm())
	}
	if info.Size() > maxFile {
		return fmt.Errorf("file for the nested machine: %s has %d bytes, at most %d are possible", src, info.Size(), int64(maxFile))
	}
	f, err := os.Open(src)
	if err != nil {
		return fmt.Errorf("file for the nested machine: %w", err)
	}
	defer f.Close()
	if err := a.mkdirAll(path.Dir(dst)); err != nil {
		return err
	}
	id, known := fileID(info)
	if l, ok := a.seen[id]; known && ok && l.mode == cpio.FileMode(mode) {
		return a.header(dst, &cpio.Header{Mode: cpio.TypeReg | l.mode, Inode: l.inode, Links: 2})
	}
	a.inode++
	if known {
		a.seen[id] = linked{a.inode, cpio.FileMode(mode)}
	}
	// The kernel looks for links of what is announced to have two.
	h := &cpio.Header{Mode: cpio.TypeReg | cpio.FileMode(mode), Inode: a.inode, Links: 2, Size: info.Size()}
	if err := a.header(dst, h); err != nil {
		return err
	}
	if _, err := io.CopyN(a.w, f, info.Size()); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("copy %s into the initramfs: %w", src, err)
	}
	return nil
}

func (a *initramfs) content(dst string, data []byte, mode uint32) error {
	if a.files[dst] {
		return nil
	}
	if mode == 0 {
		mode = 0o644
	}
	a.inode++
	h := &cpio.Header{Mode: cpio.TypeReg | cpio.FileMode(mode), Inode: a.inode, Links: 1, Size: int64(len(data))}
	if err := a.header(dst, h); err != nil {
		return err
	}
	_, err := a.w.Write(data)
	return err
}

func (a *initramfs) symlink(dst, target string) error {
	if a.files[dst] {
		return nil
	}
	a.inode++
	h := &cpio.Header{Mode: cpio.TypeSymlink | 0o777, Inode: a.inode, Links: 1, Size: int64(len(target)), Linkname: target}
	if err := a.header(dst, h); err != nil {
		return err
	}
	_, err := io.WriteString(a.w, target)
	return err
}

func (a *initramfs) mkdirAll(dir string) error {
	if a.dirs[dir] {
		return nil
	}
	if a.files[dir] {
		return fmt.Errorf("file for the nested machine: %s is a file already, and a directory is wanted", dir)
	}
	if err := a.mkdirAll(path.Dir(dir)); err != nil {
		return err
	}
	a.dirs[dir] = true
	a.inode++
	return a.w.WriteHeader(&cpio.Header{Name: dir[1:], Mode: cpio.TypeDir | 0o755, Inode: a.inode, Links: 2})
}

// header writes the header of a file that is no directory, after its directories.
func (a *initramfs) header(dst string, h *cpio.Header) error {
	if a.dirs[dst] {
		return fmt.Errorf("file for the nested machine: %s is a directory already, and a file is wanted", dst)
	}
	if err := a.mkdirAll(path.Dir(dst)); err != nil {
		return err
	}
	a.files[dst] = true
	h.Name = dst[1:]
	return a.w.WriteHeader(h)
}

func (a *initramfs) close() error { return a.w.Close() }
