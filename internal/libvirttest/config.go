package libvirttest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// settingsFile writes libvirt's configuration format.
func settingsFile(settings ...map[string]string) string {
	all := map[string]string{}
	for _, s := range settings {
		maps.Copy(all, s)
	}
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s = %s\n", key, all[key])
	}
	return b.String()
}

// daemonSettings are those of libvirtd.conf.
func (d *Daemon) daemonSettings(o Options) map[string]string {
	level := o.LogLevel
	if level == 0 {
		level = 3
	}
	s := map[string]string{
		"listen_tls": "0", "listen_tcp": "0", "listen_addr": `"127.0.0.1"`,
		"auth_unix_ro": `"none"`, "auth_unix_rw": `"none"`, "auth_tcp": `"none"`, "auth_tls": `"none"`,
		// Its log is what it prints.
		"log_level": strconv.Itoa(level), "log_outputs": strconv.Quote(fmt.Sprintf("%d:stderr", level)),
	}
	if o.TCP {
		s["listen_tcp"], s["tcp_port"] = "1", strconv.Quote(strconv.Itoa(d.tcpPort))
	}
	if o.TLS {
		s["listen_tls"], s["tls_port"] = "1", strconv.Quote(strconv.Itoa(d.tlsPort))
		for key, file := range map[string]string{"key_file": "serverkey.pem", "cert_file": "servercert.pem", "ca_file": "cacert.pem"} {
			s[key] = strconv.Quote(filepath.Join(d.tree.path("pki"), file))
		}
	}
	if a := o.SASL; a != nil {
		for key, asked := range map[string]bool{"auth_unix_ro": a.Unix, "auth_unix_rw": a.Unix, "auth_tcp": a.TCP, "auth_tls": a.TLS} {
			if asked {
				s[key] = `"sasl"`
			}
		}
	}
	return s
}

// qemuSettings let a root daemon run QEMU with nothing but what it needs, and leave no trace on files of the host.
func (t *tree) qemuSettings() map[string]string {
	s := map[string]string{"stdio_handler": `"file"`, "security_driver": `"none"`, "cgroup_controllers": "[]", "namespaces": "[]"}
	if t.system {
		s["user"], s["group"] = `"root"`, `"root"`
		s["dynamic_ownership"], s["remember_owner"] = "0", "0"
	}
	return s
}

// configure writes all files that the daemon reads.
func (d *Daemon) configure(o Options) error {
	drivers := o.Drivers
	if drivers == nil {
		drivers = []string{"qemu"}
	}
	for _, name := range drivers {
		module, err := findModule(name)
		if err != nil {
			return err
		}
		if err := os.Symlink(module, d.tree.path("drivers/"+filepath.Base(module))); err != nil {
			return err
		}
	}
	if err := d.tree.write("libvirtd.conf", settingsFile(d.daemonSettings(o), o.Settings)); err != nil {
		return err
	}
	if err := d.tree.write("config/libvirt/qemu.conf", settingsFile(d.tree.qemuSettings(), o.QEMUSettings)); err != nil {
		return err
	}
	if err := d.tree.writeCapabilities(); err != nil {
		return err
	}
	if o.TLS {
		if err := WritePKI(d.tree.path("pki")); err != nil {
			return err
		}
	}
	if o.SASL != nil {
		if err := d.tree.writeSASL(*o.SASL); err != nil {
			return err
		}
	}
	if o.SSH {
		return d.writeSSH()
	}
	return nil
}
