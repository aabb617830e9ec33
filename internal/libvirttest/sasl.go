package libvirttest

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
)

// writeSASL makes the configuration and the users of the daemon.
func (t *tree) writeSASL(s SASL) error {
	program, err := find("saslpasswd2", "sasl2-bin libsasl2-modules")
	if err != nil {
		return err
	}
	users := t.path("sasl/users.db")
	conf := "mech_list: " + strings.ToLower(strings.Join(s.Mechanisms, " ")) + "\npwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: " + users + "\n"
	if err := t.write("sasl/libvirt.conf", conf); err != nil {
		return err
	}
	for user, password := range s.Users {
		cmd := exec.Command(program, "-p", "-c", "-a", "libvirt", "-f", users, user)
		cmd.Stdin = strings.NewReader(password)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("saslpasswd2 %s: %w: %s", user, err, bytes.TrimSpace(out))
		}
	}
	return nil
}
