package libvirttest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strings"
)

// writeSSH makes the keys, the server's configuration, and the client's for those who run an ssh of their own.
func (d *Daemon) writeSSH() error {
	keygen, err := find("ssh-keygen", "openssh-client")
	if err != nil {
		return err
	}
	me, err := user.Current()
	if err != nil {
		return err
	}
	d.user = me.Username
	t := d.tree
	for _, name := range []string{"ssh/host", "ssh/id"} {
		if out, err := exec.Command(keygen, "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", t.path(name)).CombinedOutput(); err != nil {
			return fmt.Errorf("ssh-keygen: %w: %s", err, bytes.TrimSpace(out))
		}
	}
	host, err := os.ReadFile(t.path("ssh/host.pub"))
	if err != nil {
		return err
	}
	id, err := os.ReadFile(t.path("ssh/id.pub"))
	if err != nil {
		return err
	}
	var env []string
	for _, v := range t.environment() {
		env = append(env, `"`+v+`"`)
	}
	ssh, err := find("ssh", "openssh-client")
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"ssh/authorized_keys": string(id),
		"ssh/known_hosts":     fmt.Sprintf("[127.0.0.1]:%d %s[localhost]:%[1]d %[2]s", d.sshPort, host),
		// No sftp, no PAM: accounts are those of the daemon's namespace.
		"ssh/sshd_config": fmt.Sprintf(`ListenAddress 127.0.0.1:%d
HostKey %s
AuthorizedKeysFile %s
PidFile none
StrictModes no
UsePAM no
UseDNS no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowStreamLocalForwarding yes
PrintMotd no
PrintLastLog no
MaxStartups 100
MaxSessions 100
SetEnv %s
`, d.sshPort, t.path("ssh/host"), t.path("ssh/authorized_keys"), strings.Join(env, " ")),
		"ssh/config": fmt.Sprintf(`Host *
IdentityFile %s
IdentitiesOnly yes
IdentityAgent none
UserKnownHostsFile %s
GlobalKnownHostsFile /dev/null
StrictHostKeyChecking yes
BatchMode yes
`, t.path("ssh/id"), t.path("ssh/known_hosts")),
		"ssh/ssh": fmt.Sprintf("#!/bin/sh\nexec %s -F %s \"$@\"\n", ssh, t.path("ssh/config")),
	} {
		if err := t.write(name, text); err != nil {
			return err
		}
	}
	return os.Chmod(t.path("ssh/ssh"), 0o700)
}

// startSSH starts the server, whose sessions live in the daemon's namespace.
func (d *Daemon) startSSH() error {
	sshd, err := find("sshd", "openssh-server")
	if err != nil {
		return err
	}
	p, err := d.ns.start("sshd", program{Path: sshd, Args: []string{"-D", "-e", "-f", d.tree.path("ssh/sshd_config")}, Env: d.tree.environment(), Log: d.tree.path("sshd.log")})
	if err != nil {
		return err
	}
	return d.waitFor(p, "sshd.log", func() error { return probeBanner(d.SSHAddr(), "SSH-2.0-") })
}
