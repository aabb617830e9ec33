package testguest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/polyvisor/polyvisor/internal/initramfs"
)

// The import paths of the guest's init, of what tests run in guests, and of the agent.
const (
	initPackage  = "github.com/polyvisor/polyvisor/internal/testguest/init"
	toolPackage  = "github.com/polyvisor/polyvisor/internal/testguest/tool"
	agentPackage = "github.com/polyvisor/polyvisor/cmd/polyvisor-vmm"
)

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
	// Agent is a file with a built polyvisor-vmm that is to be the first process in place
	// of Init, with all the modules to load; Init is not there then.
	Agent string
	// Files are further files: path in the guest to contents, mode 0755.
	Files map[string][]byte
}

// Initramfs builds an initial RAM disk, an uncompressed cpio archive. ctx
// bounds the build of init, which takes seconds the first time.
func Initramfs(ctx context.Context, o Options) ([]byte, error) {
	first := o.Agent
	if first == "" {
		first = o.Init
	}
	prog, err := initProgram(ctx, first)
	if err != nil {
		return nil, err
	}
	var mods, deviceMods []initramfs.Module
	if len(o.Modules)+len(o.DeviceModules) != 0 {
		if o.Release == "" {
			return nil, errors.New("initramfs: modules without a kernel release; set Options.Release")
		}
		root := o.ModulesRoot
		if root == "" {
			root = "/lib/modules"
		}
		root = filepath.Join(root, o.Release)
		if mods, err = initramfs.Modules(root, o.Modules); err == nil {
			deviceMods, err = initramfs.Modules(root, o.DeviceModules)
		}
		if err != nil {
			return nil, fmt.Errorf("initramfs: %w", err)
		}
	}
	a := initramfs.New()
	for _, dir := range []string{"dev", "proc", "sys", "modules"} {
		a.Dir(dir)
	}
	a.File("init", prog)
	if o.Agent != "" {
		config, err := agentConfig(append(mods, deviceMods...))
		if err != nil {
			return nil, err
		}
		a.File("agent.json", config)
	}
	written := map[string]bool{}
	for _, l := range []struct {
		file string
		mods []initramfs.Module
	}{{"modules/list", mods}, {"modules/devices", deviceMods}} {
		var list strings.Builder
		for _, m := range l.mods {
			if !written[m.Name] {
				a.File("modules/"+m.Name, m.Data)
				written[m.Name] = true
			}
			fmt.Fprintln(&list, m.Name)
		}
		a.File(l.file, []byte(list.String()))
	}
	for _, name := range slices.Sorted(maps.Keys(o.Files)) {
		a.File(name, o.Files[name])
	}
	img, err := a.Close()
	if err != nil {
		return nil, fmt.Errorf("initramfs: %w", err)
	}
	return img, nil
}

// agentConfig is what the agent reads at its start as the first process.
func agentConfig(mods []initramfs.Module) ([]byte, error) {
	var c struct {
		Modules []string `json:"modules"`
	}
	for _, m := range mods {
		if path := "/modules/" + m.Name; !slices.Contains(c.Modules, path) {
			c.Modules = append(c.Modules, path)
		}
	}
	return json.Marshal(c)
}

// AgentInitramfs is Initramfs with the agent as the first process and the tool of tests as
// /bin/tool. Both are built in dir.
func AgentInitramfs(ctx context.Context, dir string, o Options) ([]byte, error) {
	o.Agent = filepath.Join(dir, "agent")
	tool := filepath.Join(dir, "tool")
	if err := BuildAgent(ctx, o.Agent); err != nil {
		return nil, err
	}
	if err := BuildTool(ctx, tool); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(tool)
	if err != nil {
		return nil, err
	}
	o.Files = maps.Clone(o.Files)
	if o.Files == nil {
		o.Files = map[string][]byte{}
	}
	o.Files["bin/tool"] = b
	return Initramfs(ctx, o)
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
func BuildInit(ctx context.Context, path string) error { return build(ctx, path, initPackage) }

// BuildTool builds the program that tests run in guests (directory tool), as BuildInit.
func BuildTool(ctx context.Context, path string) error { return build(ctx, path, toolPackage) }

// BuildAgent builds polyvisor-vmm, which is the agent of guests, as BuildInit.
func BuildAgent(ctx context.Context, path string) error { return build(ctx, path, agentPackage) }

func build(ctx context.Context, path, pkg string) error {
	gocmd, err := exec.LookPath("go")
	if err != nil {
		return fmt.Errorf("build %s: %w; install Go, or build it beforehand and name the file", pkg, err)
	}
	cmd := exec.CommandContext(ctx, gocmd, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", path, pkg)
	// A build for the race detector or for coverage of the caller is not meant for the guest.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return fmt.Errorf("build %s: %w", pkg, ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("build %s: %w: %s", pkg, err, bytes.TrimSpace(out))
	}
	return nil
}
