//go:build linux

package nestedvm

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/polyvisor/polyvisor/internal/nestedvm/wire"
)

// The modules that the machine itself loads.
var (
	transportModules = []string{"virtio_pci", "virtio_console"}
	kvmModules       = []string{"kvm-amd", "tun", "bridge"}
)

// system is what every machine has beside its init and modules.
var system = []File{
	{Path: "/etc/passwd", Data: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n")},
	{Path: "/etc/group", Data: []byte("root:x:0:\ntty:x:5:\nnogroup:x:65534:\n")},
	{Path: "/etc/hosts", Data: []byte("127.0.0.1 localhost nested\n::1 localhost\n")},
	{Path: "/etc/nsswitch.conf", Data: []byte("passwd: files\ngroup: files\nhosts: files\n")},
}

// makeImage writes the initramfs to an open file that has no name any more, so that nothing can be left behind.
func makeImage(h *host, cfg Config, initBinary []byte) (*os.File, error) {
	f, err := os.CreateTemp("", "nestedvm-*.cpio")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	b := bufio.NewWriterSize(f, 1<<20)
	err = fillImage(newInitramfs(b), h, cfg, initBinary)
	if err == nil {
		err = b.Flush()
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("initramfs of the nested machine: %w", err)
	}
	return f, nil
}

func fillImage(a *initramfs, h *host, cfg Config, initBinary []byte) error {
	files := append([]File{{Path: "/init", Data: initBinary, Mode: 0o755}}, cfg.Files...)
	for _, f := range append(files, system...) {
		if err := a.add(f); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/proc", "/sys", "/dev", "/run", "/tmp", "/root", "/bin", "/usr/bin", "/var/lib"} {
		if err := a.mkdirAll(dir); err != nil {
			return err
		}
	}
	for _, c := range cfg.Commands {
		if c.Dir == "" {
			continue
		}
		if !path.IsAbs(c.Dir) {
			return fmt.Errorf("working directory %q is not absolute", c.Dir)
		}
		if err := a.mkdirAll(path.Clean(c.Dir)); err != nil {
			return err
		}
	}
	for list, names := range map[string][]string{"transport": transportModules, "kvm": kvmModules, "": cfg.Modules} {
		if err := addModules(a, h, list, names); err != nil {
			return err
		}
	}
	if len(cfg.Modules) > 0 {
		if err := addIndex(a, h); err != nil {
			return err
		}
	}
	return a.close()
}

// addIndex puts in what depmod(8) knows of all modules, for programs that look there for those of a guest.
func addIndex(a *initramfs, h *host) error {
	for _, name := range []string{"modules.dep", "modules.builtin"} {
		b, err := os.ReadFile(filepath.Join(h.modules.dir, name))
		if err != nil {
			return err
		}
		text := strings.ReplaceAll(string(b), ".ko.xz", ".ko") // as they are packed here
		if err := a.add(File{Path: path.Join("/lib/modules", h.release, name), Data: []byte(text)}); err != nil {
			return err
		}
	}
	return nil
}

// addModules puts the modules with what they need under /lib/modules, and their list, if it has a name, where init looks.
func addModules(a *initramfs, h *host, list string, names []string) error {
	paths, err := h.modules.order(names...)
	if err != nil {
		return err
	}
	var lines strings.Builder
	for _, p := range paths {
		data, err := h.modules.read(p)
		if err != nil {
			return err
		}
		dst := path.Join("/lib/modules", h.release, strings.TrimSuffix(p, ".xz"))
		if err := a.add(File{Path: dst, Data: data}); err != nil {
			return err
		}
		fmt.Fprintln(&lines, dst)
	}
	if list == "" {
		return nil
	}
	return a.add(File{Path: path.Join(wire.ModuleLists, list), Data: []byte(lines.String())})
}
