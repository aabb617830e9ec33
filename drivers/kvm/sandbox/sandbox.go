// Package sandbox makes machines for commands: a Linux guest whose initial RAM disk, made on the fly, has a static busybox for a
// userland and polyvisor's agent for its first process. Commands run in it by Domain.Exec, and it is gone when it is destroyed:
//
//	cfg := &polyvisor.Config{Name: "job", Memory: 256 * polyvisor.MiB}
//	if err := sandbox.Prepare(cfg, sandbox.Options{}); err != nil { ... }
//	dom, err := conn.Create(ctx, cfg) // of kvm:///session?isolation=none: it does not outlive this process
//	...
//	defer dom.Destroy(context.Background())
//	err = sandbox.Ready(ctx, dom)
//	out, err := dom.ExecOutput(ctx, polyvisor.Cmd{Args: []string{"uname", "-r"}})
package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/internal/agent/proto"
	"github.com/polyvisor/polyvisor/internal/doctor"
	"github.com/polyvisor/polyvisor/internal/initramfs"
)

// Options say of what a machine is made. The zero value finds everything on this host.
type Options struct {
	// Kernel is the file of a kernel, named vmlinuz-VERSION, whose modules are in /lib/modules/VERSION. Empty: that of the
	// Config, if it names one, else the newest in /boot that can be read.
	Kernel string
	// Agent is polyvisor-vmm, a static program. Empty: the one beside this program, else the one in PATH.
	Agent string
	// Busybox is a static busybox. Empty: the one in PATH.
	Busybox string
	// Modules are further kernel modules by name; those of the Config's devices are there.
	Modules []string
}

// Prepare completes a Config: kernel, initial RAM disk, command line and socket device. The initial RAM disk is an open file
// without a name, which passes to the call that the Config is given to, as any open file of a Config; who does not give it to
// one closes Config.Boot.Initrd.Open.
//
// Errors: ErrNotFound for what this host does not have, with what helps; ErrInvalidConfig for a Config that boots something
// of its own.
func Prepare(cfg *polyvisor.Config, o Options) error {
	if !cfg.Boot.Initrd.IsZero() || !cfg.Boot.Firmware.IsZero() || cfg.Boot.Kernel.Open != nil {
		return fmt.Errorf("%w: a machine for commands has an initial RAM disk of its own; leave initrd, firmware and open kernels out", polyvisor.ErrInvalidConfig)
	}
	kernel, version, err := findKernel(o.Kernel, cfg.Boot.Kernel.Path)
	if err != nil {
		return err
	}
	disk, err := o.build(version, cfg)
	if err != nil {
		return err
	}
	f, err := unnamed(disk)
	if err != nil {
		return err
	}
	cfg.Boot.Kernel, cfg.Boot.Initrd = polyvisor.Path(kernel), polyvisor.OpenFile(f)
	if cfg.Boot.CommandLine == "" {
		cfg.Boot.CommandLine = "console=ttyS0 quiet panic=-1"
	}
	if cfg.Vsock == nil {
		cfg.Vsock = &polyvisor.VsockConfig{}
	}
	return nil
}

// Ready waits until the guest takes commands, and sets its network up if it has an interface, by DHCP. ctx bounds it.
func Ready(ctx context.Context, dom *polyvisor.Domain) error {
	if err := dom.WaitReady(ctx); err != nil {
		return err
	}
	cfg, err := dom.Config(ctx)
	if err != nil || len(cfg.NICs) == 0 {
		return err
	}
	_, err = dom.ExecOutput(ctx, polyvisor.Cmd{Args: []string{"/bin/sh", networkUp}})
	var exit *polyvisor.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%w: the guest gets no address: %s", polyvisor.ErrNoResource, strings.TrimSpace(string(exit.Stderr)))
	}
	return err
}

func findKernel(names ...string) (path, version string, err error) {
	for _, path = range names {
		if path != "" {
			break
		}
	}
	if path == "" {
		if path, err = doctor.NewestKernel("/"); err != nil {
			return "", "", fmt.Errorf("%w: %w; install one (on Debian linux-image-cloud-amd64), or name it", polyvisor.ErrNotFound, err)
		}
	}
	version, ok := strings.CutPrefix(filepath.Base(path), "vmlinuz-")
	if !ok || version == "" {
		return "", "", fmt.Errorf("%w: kernel %s: want a name such as vmlinuz-VERSION, which tells the directory of its modules", polyvisor.ErrInvalidConfig, path)
	}
	return path, version, nil
}

// build makes the initial RAM disk.
func (o Options) build(version string, cfg *polyvisor.Config) ([]byte, error) {
	agent, err := program(o.Agent, "polyvisor-vmm", "it comes with polyvisor and is the agent in the guest; put it beside this program or into PATH")
	if err != nil {
		return nil, err
	}
	busybox, err := program(o.Busybox, "busybox", "install a static one (on Debian busybox-static)")
	if err != nil {
		return nil, err
	}
	modules, err := initramfs.Modules(filepath.Join("/lib/modules", version), append(modulesOf(cfg), o.Modules...))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", polyvisor.ErrNotFound, err)
	}
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s --list: %w", polyvisor.ErrNoResource, busybox, err)
	}
	a := initramfs.New()
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "root", "etc"} {
		a.Dir(dir)
	}
	for name, path := range map[string]string{"init": agent, "bin/busybox": busybox} {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", polyvisor.ErrNotFound, err)
		}
		a.File(name, b)
	}
	for _, name := range strings.Fields(string(applets)) {
		if name != "busybox" {
			a.Link("bin/"+name, "busybox")
		}
	}
	a.File("etc/passwd", []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"))
	a.File("etc/group", []byte("root:x:0:\nnogroup:x:65534:\n"))
	a.File(networkUp, []byte(networkScript))
	config := proto.Config{Hostname: cfg.Name}
	for _, m := range modules {
		path := "/modules/" + m.Name
		a.File(path, m.Data)
		config.Modules = append(config.Modules, path)
	}
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	a.File(proto.ConfigPath, text)
	return a.Close()
}

// networkUp sets an interface up; called by udhcpc it does what that has found out.
const networkUp = "/etc/network-up"

const networkScript = `#!/bin/sh
case "$1" in
"") ip link set lo up; ip link set eth0 up && exec udhcpc -q -n -t 5 -i eth0 -s ` + networkUp + ` ;;
bound | renew)
	ip addr add "$ip/${mask:-24}" dev "$interface"
	for r in $router; do ip route add default via "$r"; done
	for d in $dns; do echo "nameserver $d"; done >/etc/resolv.conf ;;
esac
exit 0
`

// modulesOf are the drivers of the devices.
func modulesOf(cfg *polyvisor.Config) []string {
	list := []string{"virtio_pci", "vmw_vsock_virtio_transport"}
	for module, wanted := range map[string]bool{
		"virtio_blk": len(cfg.Disks) > 0, "virtio_net": len(cfg.NICs) > 0, "virtio_rng": cfg.RNG != nil,
		"virtio_console": cfg.Console.Virtio, "virtio_balloon": cfg.Balloon,
	} {
		if wanted {
			list = append(list, module)
		}
	}
	slices.Sort(list)
	return list
}

// unnamed puts bytes into a file that goes when nobody has it open.
func unnamed(b []byte) (*os.File, error) {
	f, err := os.CreateTemp("", "polyvisor-initrd-*")
	if err != nil {
		return nil, err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, os.Remove(f.Name())); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
