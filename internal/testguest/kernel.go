package testguest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const bootDir = "/boot"

// remedyKernel is what helps when there is no kernel.
const remedyKernel = "install one (on Debian: apt-get install linux-image-cloud-amd64)"

// ErrNoKernel means that no kernel image was found.
var ErrNoKernel = errors.New("no Linux kernel image")

// FindKernel returns the newest kernel image in /boot, by version order, and
// its release as uname -r would say it. The error wraps ErrNoKernel or what
// opening the image gave, and names the remedy.
func FindKernel() (path, release string, err error) { return findKernel(bootDir) }

func findKernel(dir string) (path, release string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", "", fmt.Errorf("look for a kernel: %w", err)
	}
	for _, e := range entries {
		r, ok := strings.CutPrefix(e.Name(), "vmlinuz-")
		// A rescue image of Fedora carries the machine id instead of a version.
		if !ok || r == "" || r[0] < '0' || r[0] > '9' || e.IsDir() || strings.HasSuffix(r, ".old") {
			continue
		}
		if release == "" || compareVersions(r, release) > 0 {
			release = r
		}
	}
	if release == "" {
		return "", "", fmt.Errorf("%w: no %s; %s", ErrNoKernel, filepath.Join(dir, "vmlinuz-*"), remedyKernel)
	}
	path = filepath.Join(dir, "vmlinuz-"+release)
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "", "", fmt.Errorf("%w; run as root, or copy the kernel to a place that you may read", err)
	case err != nil:
		return "", "", fmt.Errorf("%w; the entry in %s leads nowhere: %s", err, dir, remedyKernel)
	}
	return path, release, f.Close()
}

// compareVersions orders kernel releases: runs of digits count as numbers, the
// rest as text, and a pre-release (6.1-rc2, 6.1~rc2) comes before the release.
func compareVersions(a, b string) int {
	for a != "" || b != "" {
		pa, na, ra := nextPart(a)
		pb, nb, rb := nextPart(b)
		if c := strings.Compare(rank(pa), rank(pb)); c != 0 {
			return c
		}
		if len(na) != len(nb) {
			return len(na) - len(nb)
		}
		if c := strings.Compare(na, nb); c != 0 {
			return c
		}
		a, b = ra, rb
	}
	return 0
}

// nextPart cuts the text before the next number, and that number without
// leading zeros, off a version.
func nextPart(v string) (text, number, rest string) {
	digit := func(r rune) bool { return r >= '0' && r <= '9' }
	start := strings.IndexFunc(v, digit)
	if start < 0 {
		return v, "", ""
	}
	text, v = v[:start], v[start:]
	end := strings.IndexFunc(v, func(r rune) bool { return !digit(r) })
	if end < 0 {
		end = len(v)
	}
	return text, strings.TrimLeft(v[:end], "0"), v[end:]
}

// rank makes text comparable: a pre-release first, then nothing at all, then
// the rest in the order of its bytes.
func rank(text string) string {
	if strings.HasPrefix(text, "-rc") || strings.HasPrefix(text, "~") {
		return "0" + text
	}
	if text == "" {
		return "1"
	}
	return "2" + text
}
