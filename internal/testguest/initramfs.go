package testguest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// initPackage is the import path of the guest's init.
const initPackage = "github.com/polyvisor/polyvisor/internal/testguest/init"

// Options say what goes into an initial RAM disk.
type Options struct {
	// Init is a file with a built init program; empty: it is built, which
	// takes the go command and a working directory inside this module.
	Init string
	// Release is the kernel release that Modules belong to.
	Release string
	// Modules are kernel modules by name. What they depend on is added,
	// what is built into the kernel left out. They are loaded in this order,
	// before the first command.
	Modules []string
	// DeviceModules are loaded after them in a machine that has virtio devices, which
	// the others shall not wait for.
	DeviceModules []string
	// ModulesRoot replaces /lib/modules.
	ModulesRoot string
	// Files are further files: path in the guest to contents, mode 0755.
	Files map[string][]byte
}

// Initramfs builds an initial RAM disk, an uncompressed cpio archive. ctx
// bounds the build of init, which takes seconds the first time.
func Initramfs(ctx context.Context, o Options) ([]byte, error) {
	prog, err := initProgram(ctx, o.Init)
	if err != nil {
		return nil, err
	}
	var mods, deviceMods []module
	if len(o.Modules)+len(o.DeviceModules) != 0 {
		if o.Release == "" {
			return nil, errors.New("initramfs: modules without a kernel release; set Options.Release")
		}
		root := o.ModulesRoot
		if root == "" {
			root = "/lib/modules"
		}
		root = filepath.Join(root, o.Release)
		if mods, err = modules(root, o.Modules); err == nil {
			deviceMods, err = modules(root, o.DeviceModules)
		}
		if err != nil {
			return nil, fmt.Errorf("initramfs: %w", err)
		}
	}
	a := newArchive()
	for _, dir := range []string{"dev", "proc", "sys", "modules"} {
		a.dir(dir)
	}
	a.file("init", prog)
	written := map[string]bool{}
	for _, l := range []struct {
		file string
		mods []module
	}{{"modules/list", mods}, {"modules/devices", deviceMods}} {
		var list strings.Builder
		for _, m := range l.mods {
			if !written[m.name] {
				a.file("modules/"+m.name, m.data)
				written[m.name] = true
			}
			fmt.Fprintln(&list, m.name)
		}
		a.file(l.file, []byte(list.String()))
	}
	for _, name := range sortedKeys(o.Files) {
		a.file(name, o.Files[name])
	}
	img, err := a.close()
	if err != nil {
		return nil, fmt.Errorf("initramfs: %w", err)
	}
	return img, nil
}

// WriteInitramfs is Initramfs into a new file in dir, whose path it returns.
func WriteInitramfs(ctx context.Context, dir string, o Options) (path string, err error) {
	img, err := Initramfs(ctx, o)
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp(dir, "initramfs-*.cpio")
	if err != nil {
		return "", err
	}
	_, err = f.Write(img)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

func initProgram(ctx context.Context, path string) ([]byte, error) {
	if path != "" {
		return os.ReadFile(path)
	}
	dir, err := os.MkdirTemp("", "testguest-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path = filepath.Join(dir, "init")
	if err := BuildInit(ctx, path); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// BuildInit builds the guest's init for Linux on x86-64 into a file, for
// Options.Init where the go command is not at hand later. It takes the go
// command and a working directory inside this module.
func BuildInit(ctx context.Context, path string) error {
	gocmd, err := exec.LookPath("go")
	if err != nil {
		return fmt.Errorf("build the guest's init: %w; install Go, or build it beforehand and name the file", err)
	}
	cmd := exec.CommandContext(ctx, gocmd, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", path, initPackage)
	// A build for the race detector or for coverage of the caller is not meant for the guest.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return fmt.Errorf("build the guest's init: %w", ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("build the guest's init: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
