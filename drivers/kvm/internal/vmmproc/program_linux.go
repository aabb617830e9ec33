package vmmproc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ProgramName is the file name of the program that VM processes run.
const ProgramName = "polyvisor-vmm"

// selfExe is the program that is running, even if its file was replaced.
const selfExe = "/proc/self/exe"

// FindProgram gives the program for VM processes: the one given, if one is; else
// polyvisor-vmm beside the running program; else the one in PATH; else the
// running program itself, which must call MaybeMain.
func FindProgram(given string) (string, error) {
	if given != "" {
		path, err := filepath.Abs(given)
		if err == nil {
			err = executable(path)
		}
		if err != nil {
			return "", fmt.Errorf("the VM program %s: %w; correct vmm= or leave it out", given, err)
		}
		return path, nil
	}
	var dirs []string
	if self, err := os.Executable(); err == nil {
		dirs = append(dirs, filepath.Dir(self))
	}
	for _, d := range append(dirs, filepath.SplitList(os.Getenv("PATH"))...) {
		// As os/exec: never a program of the current directory.
		if path := filepath.Join(d, ProgramName); filepath.IsAbs(path) && executable(path) == nil {
			return path, nil
		}
	}
	return selfExe, nil
}

func executable(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
			return pe.Err
		}
		return err
	}
	if fi.IsDir() {
		return errors.New("is a directory")
	}
	if err := unix.Access(path, unix.X_OK); err != nil {
		return err
	}
	return nil
}

// title makes a domain's name fit for a list of processes.
func title(name string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, name)
}
