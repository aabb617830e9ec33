//go:build linux && amd64

package kvm

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vmm"
)

// Names of the open files of a firmware; the second is also that of the file in the state directory.
const (
	firmwareFile  = "firmware"
	variablesFile = "nvram"

	// No image of a PC's firmware leaves more of the 16 MiB that it may lie in.
	maxVariables = 16 << 20
)

// prepareFirmware opens the image that the machine is to start with, and what keeps
// its variables: a file in the state directory of a persistent domain, which its
// Undefine removes, or memory, which is gone with the machine.
func prepareFirmware(c *polyvisor.Config, boot *vmm.Boot, stateDir string, files map[string]*os.File) error {
	f, err := openFile("firmware", c.Boot.Firmware)
	if err != nil {
		return err
	}
	boot.Kind = vmm.BootFirmware
	files[firmwareFile], boot.Firmware = f, firmwareFile
	template := ""
	if c.Boot.Firmware.Open == nil {
		template = templateOf(c.Boot.Firmware.Path)
	}
	var v *os.File
	if stateDir == "" {
		v, err = variablesInMemory(template)
	} else {
		v, err = variablesInFile(filepath.Join(stateDir, variablesFile), template)
	}
	if err != nil {
		return fmt.Errorf("variables of the firmware: %w", err)
	}
	files[variablesFile], boot.Variables = v, variablesFile
	return nil
}

// templateOf names the file with the variables that an image begins with, as the
// packages of OVMF do: OVMF_CODE_4M.fd has OVMF_VARS_4M.fd beside it. Images that
// differ from it in what they enforce have that of the plain one. It is empty if
// there is none; the firmware then makes its variables in erased memory.
func templateOf(image string) string {
	dir, name := filepath.Split(image)
	i := strings.LastIndex(name, "CODE")
	if i < 0 {
		return ""
	}
	name = name[:i] + "VARS" + name[i+len("CODE"):]
	for _, n := range []string{name, strings.Replace(name, ".secboot", "", 1)} {
		if fi, err := os.Stat(filepath.Join(dir, n)); err == nil && fi.Mode().IsRegular() {
			return filepath.Join(dir, n)
		}
	}
	return ""
}

// variablesInMemory gives a copy of the template that nobody else sees.
func variablesInMemory(template string) (*os.File, error) {
	fd, err := unix.MemfdCreate("polyvisor-nvram", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), variablesFile)
	if err := copyTemplate(f, template); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// variablesInFile opens the file, and makes it at the domain's first start.
func variablesInFile(path, template string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	// Under another name until it is whole: a start that is killed leaves no half of one.
	f, err = os.CreateTemp(filepath.Dir(path), variablesFile+".*")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w (the domain's state directory is gone; define the domain again)", err)
	}
	if err != nil {
		return nil, err
	}
	err = copyTemplate(f, template)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		f.Close()
		return nil, errors.Join(err, os.Remove(f.Name()))
	}
	return f, nil
}

func copyTemplate(to *os.File, template string) error {
	if template == "" {
		return nil
	}
	from, err := os.Open(template)
	if err != nil {
		return withRemedy(err)
	}
	defer from.Close()
	n, err := io.Copy(to, io.LimitReader(from, maxVariables+1))
	if err == nil && n > maxVariables {
		err = fmt.Errorf("%w: %s has more than %d bytes, so it is none", polyvisor.ErrInvalidConfig, template, maxVariables)
	}
	return err
}
