package doctor

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const kernelPrefix = "vmlinuz-"

// NewestKernel gives the path of the newest kernel /boot/vmlinuz-* under root,
// by the order of versions, that this user may read. The error matches
// fs.ErrNotExist if there is none, fs.ErrPermission if none may be read.
func NewestKernel(root string) (string, error) { return newestKernel(root, readable) }

func newestKernel(root string, readable func(path string) error) (string, error) {
	dir := filepath.Join(root, "boot")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("no kernel in %s: %w", dir, cause(err))
	}
	var versions []string
	for _, e := range entries {
		version, found := strings.CutPrefix(e.Name(), kernelPrefix)
		if found && version != "" && !strings.HasSuffix(version, ".old") {
			versions = append(versions, version)
		}
	}
	if len(versions) == 0 {
		return "", fmt.Errorf("no kernel: %w: %s", fs.ErrNotExist, filepath.Join(dir, kernelPrefix+"*"))
	}
	slices.SortFunc(versions, func(a, b string) int { return compareVersions(b, a) })
	var first error
	for _, v := range versions {
		path := filepath.Join(dir, kernelPrefix+v)
		err := readable(path)
		if err == nil {
			return path, nil
		}
		if first == nil {
			first = err
		}
	}
	return "", fmt.Errorf("no kernel in %s can be read: %w", dir, first)
}

// readable reports why a file cannot be read as a kernel.
func readable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: errors.New("not a regular file")}
	}
	return err
}

// kernel looks for something that "--kernel auto" can boot.
func (h Host) kernel() Check {
	path, err := NewestKernel(h.Root)
	switch {
	case err == nil:
		return ok("kernel", path)
	case errors.Is(err, fs.ErrPermission):
		return warn("kernel", err.Error(), "sudo chmod a+r /boot/vmlinuz-*, or give a copy that you can read to --kernel")
	}
	return missing("kernel", err.Error(), "the built-in guest needs none; for Linux guests install one, such as linux-image-cloud-amd64 on Debian, or give --kernel PATH")
}

// compareVersions orders the versions of kernels: runs of digits by their
// value, the rest by its letters. A release candidate comes before its release.
func compareVersions(a, b string) int {
	a, b = strings.ReplaceAll(a, "-rc", "~rc"), strings.ReplaceAll(b, "-rc", "~rc")
	for a != "" || b != "" {
		var wa, wb, na, nb string
		wa, a = cutRun(a, false)
		wb, b = cutRun(b, false)
		if c := compareWords(wa, wb); c != 0 {
			return c
		}
		na, a = cutRun(a, true)
		nb, b = cutRun(b, true)
		na, nb = strings.TrimLeft(na, "0"), strings.TrimLeft(nb, "0")
		if c := cmp.Or(cmp.Compare(len(na), len(nb)), strings.Compare(na, nb)); c != 0 {
			return c
		}
	}
	return 0
}

// cutRun splits the leading run of digits, or of anything else, off.
func cutRun(s string, digits bool) (run, rest string) {
	i := strings.IndexFunc(s, func(r rune) bool { return ('0' <= r && r <= '9') != digits })
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i:]
}

// compareWords compares letters; "~" comes before everything, also the end.
func compareWords(a, b string) int {
	ta, tb := strings.HasPrefix(a, "~"), strings.HasPrefix(b, "~")
	switch {
	case ta && !tb:
		return -1
	case tb && !ta:
		return 1
	}
	return strings.Compare(a, b)
}
