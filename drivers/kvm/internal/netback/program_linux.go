package netback

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	// ProgramName is the file name of the helper.
	ProgramName = "polyvisor-usernet"

	selfExe  = "/proc/self/exe"
	stageEnv = "POLYVISOR_USERNET_STAGE"
	stageOne = "descriptors" // mark what is not ours to be closed
	stageTwo = "serve"

	fdFrames  = 3
	fdControl = 4
	fdOthers  = 5
)

// ErrNoProgram is matched by the error of FindProgram if there is none.
var ErrNoProgram = errors.New("no program for network user")

// linked is set if the running program can be the helper itself.
var linked bool

// Program is a helper program, from FindProgram.
type Program struct{ path string }

// FindProgram gives the helper program: the one given, if one is; else
// polyvisor-usernet beside the running program; else the one in PATH; else the
// running program itself, if it links the package drivers/kvm/usernet.
//
// Errors: ErrNoProgram with the remedies.
func FindProgram(given string) (Program, error) {
	if given != "" {
		path, err := filepath.Abs(given)
		if err == nil {
			err = executable(path)
		}
		if err != nil {
			return Program{}, fmt.Errorf("%w: %s: %w; correct usernet= or leave it out", ErrNoProgram, given, err)
		}
		return Program{path}, nil
	}
	var dirs []string
	if self, err := os.Executable(); err == nil {
		dirs = append(dirs, filepath.Dir(self))
	}
	for _, d := range append(dirs, filepath.SplitList(os.Getenv("PATH"))...) {
		if path := filepath.Join(d, ProgramName); filepath.IsAbs(path) && executable(path) == nil {
			return Program{path}, nil
		}
	}
	if linked {
		return Program{selfExe}, nil
	}
	return Program{}, fmt.Errorf("%w: put %s beside this program or into PATH (or name it by usernet=), or import github.com/polyvisor/polyvisor/drivers/kvm/usernet",
		ErrNoProgram, ProgramName)
}

func executable(path string) error {
	fi, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case fi.IsDir():
		return errors.New("is a directory")
	}
	return unix.Access(path, unix.X_OK)
}
