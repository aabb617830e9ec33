package doctor

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// InitrdOf gives the initial RAM disk that a distribution has made for a kernel, vmlinuz-VERSION, and put beside it. The
// error matches fs.ErrNotExist if there is none, fs.ErrPermission if it may not be read.
func InitrdOf(kernel string) (string, error) {
	dir, name := filepath.Split(kernel)
	version, ok := strings.CutPrefix(name, kernelPrefix)
	if !ok || version == "" {
		return "", fmt.Errorf("%s is not named %sVERSION, so that no initial RAM disk is known to be its own: %w", kernel, kernelPrefix, fs.ErrNotExist)
	}
	names := []string{"initrd.img-" + version, "initramfs-" + version + ".img", "initrd-" + version} // of Debian, Fedora, openSUSE
	var first error
	for _, n := range names {
		path := filepath.Join(dir, n)
		err := readable(path)
		if err == nil {
			return path, nil
		}
		if first == nil {
			first = err
		}
	}
	return "", fmt.Errorf("no initial RAM disk for %s: %w", kernel, first)
}
