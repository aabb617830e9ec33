package libvirttest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// find returns the path of a program; those of daemons are often not in the PATH of users.
func find(name, pkg string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return filepath.Abs(path)
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: no program %s; on Debian: apt-get install %s", ErrMissing, name, pkg)
}

// findModule returns the path of a driver module of libvirtd.
func findModule(driver string) (string, error) {
	for _, pattern := range []string{"/usr/lib/*/libvirt", "/usr/lib64/libvirt", "/usr/lib/libvirt", "/usr/local/lib*/libvirt"} {
		found, err := filepath.Glob(pattern + "/connection-driver/libvirt_driver_" + driver + ".so")
		if err != nil {
			return "", err
		}
		if len(found) > 0 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("%w: no driver module %s of libvirtd; on Debian: apt-get install libvirt-daemon", ErrMissing, driver)
}
