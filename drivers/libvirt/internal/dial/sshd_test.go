package dial

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

// sshd is a private OpenSSH server: own keys, own configuration, a loopback port.
type sshd struct {
	port   string
	keyTo  string // file of the key that may log in
	env    string // directory with known_hosts in .ssh
	public ssh.PublicKey
	bin    string // first in the PATH of its sessions
}

func startSSHD(t *testing.T, config string) *sshd {
	t.Helper()
	program, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		t.Skip("needs libvirt: its ssh transport is tried with sshd; apt-get install openssh-server")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: sshd logs others in")
	}
	require.NoError(t, os.MkdirAll("/run/sshd", 0o755)) // where it locks itself up
	dir := t.TempDir()
	hostKey, client := newSSHKey(t), newSSHKey(t)
	s := &sshd{port: unusedPort(t), keyTo: client.write(t, filepath.Join(dir, "client"), ""), public: hostKey.signer.PublicKey(), bin: filepath.Join(dir, "bin")}
	require.NoError(t, os.Mkdir(s.bin, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "authorized"), client.authorized(), 0o600))
	file := filepath.Join(dir, "sshd_config")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `ListenAddress 127.0.0.1:%s
HostKey %s
AuthorizedKeysFile %s
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv PATH=%s:/usr/bin:/bin
%s
`, s.port, hostKey.write(t, filepath.Join(dir, "hostkey"), ""), filepath.Join(dir, "authorized"), s.bin, config), 0o600))
	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	defer log.Close()
	cmd := exec.Command(program, "-D", "-e", "-f", file)
	cmd.Stderr = log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("sshd: %s", text)
		}
	})
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+s.port)
		if err == nil {
			c.Close()
		}
		return err == nil
	}, patience, 20*time.Millisecond, "sshd does not listen")
	return s
}

func (s *sshd) uri(t *testing.T, path, more string) string {
	return "qemu+ssh://root@127.0.0.1:" + s.port + path + "?keyfile=" + s.keyTo + "&known_hosts=" + knownAs(t, s.port, s.public) + more
}

// program puts a script into the PATH of the sessions.
func (s *sshd) program(t *testing.T, name, script string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(s.bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
}

func needs(t *testing.T, program, pkg string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("needs %s: apt-get install %s", program, pkg)
	}
}

func TestSSHD(t *testing.T) {
	s := startSSHD(t, "")
	socket := filepath.Join(t.TempDir(), "a 'quoted' sock")
	serveUnix(t, socket, echo)
	sock := "&socket=" + strings.ReplaceAll(socket, " ", "%20")

	conn, err := dialURI(within(t), t, s.uri(t, "/system", sock), Options{})
	mustEcho(t, conn, err)

	t.Run("netcat", func(t *testing.T) {
		needs(t, "nc", "netcat-openbsd")
		conn, err := dialURI(within(t), t, s.uri(t, "/system", sock+"&proxy=netcat"), Options{})
		mustEcho(t, conn, err)
		conn, err = dialURI(within(t), t, s.uri(t, "/system", sock+"&netcat=/usr/bin/nc"), Options{})
		mustEcho(t, conn, err)
	})
	t.Run("native", func(t *testing.T) {
		s.program(t, "virt-ssh-helper", `printf '[%s]' "$@"; exec cat`)
		conn, err := dialURI(within(t), t, s.uri(t, "/session", "&proxy=native&x=it's"), Options{ReadOnly: true})
		require.NoError(t, err)
		want := "[-r][qemu:///session?x=it%27s]"
		got := make([]byte, len(want))
		_, err = conn.Read(got)
		require.NoError(t, err)
		assert.Equal(t, want, string(got))
		mustEcho(t, conn, nil)
		// A user's own daemon has no fixed socket, so the helper finds it.
		conn, err = dialURI(within(t), t, s.uri(t, "/session", ""), Options{})
		require.NoError(t, err)
		want = "[qemu:///session]"
		got = make([]byte, len(want))
		_, err = conn.Read(got)
		require.NoError(t, err)
		assert.Equal(t, want, string(got))
		mustEcho(t, conn, nil)
	})
	t.Run("no daemon", func(t *testing.T) {
		conn, err := dialURI(within(t), t, s.uri(t, "/system", "&socket=/nowhere/sock"), Options{})
		require.NoError(t, err)
		_, err = conn.Read(make([]byte, 1))
		mustFail(t, conn, err, ErrUnreachable, "no libvirt daemon here: looked for /nowhere/sock", "its sshd opens no socket: /nowhere/sock: open failed")
	})
}

func TestSSHDWithoutForwarding(t *testing.T) {
	needs(t, "nc", "netcat-openbsd")
	s := startSSHD(t, "AllowStreamLocalForwarding no")
	socket := filepath.Join(t.TempDir(), "sock")
	serveUnix(t, socket, echo)
	conn, err := dialURI(within(t), t, s.uri(t, "/system", "&socket="+socket), Options{})
	mustEcho(t, conn, err)
}

func TestSSHProgram(t *testing.T) {
	needs(t, "ssh", "openssh-client")
	needs(t, "nc", "netcat-openbsd")
	s := startSSHD(t, "")
	socket := filepath.Join(t.TempDir(), "sock")
	serveUnix(t, socket, echo)
	conn, err := dialURI(within(t), t, s.uri(t, "/system", "&no_tty=1&command=ssh&socket="+socket), Options{})
	mustEcho(t, conn, err)

	// Its own words say why it could not.
	unknown := "qemu+ssh://root@127.0.0.1:" + s.port + "/system?no_tty=1&command=ssh&known_hosts=/dev/null&keyfile=" + s.keyTo
	conn, err = dialURI(within(t), t, unknown, Options{})
	require.NoError(t, err)
	_, err = conn.Read(make([]byte, 1))
	mustFail(t, conn, err, ErrPermission, "ssh ended with exit status 255", "Host key verification failed")
	stranger := newSSHKey(t).write(t, filepath.Join(t.TempDir(), "key"), "")
	conn, err = dialURI(within(t), t, "qemu+ssh://root@127.0.0.1:"+s.port+"/system?no_tty=1&command=ssh&known_hosts="+knownAs(t, s.port, s.public)+"&keyfile="+stranger, Options{})
	require.NoError(t, err)
	_, err = conn.Read(make([]byte, 1))
	mustFail(t, conn, err, ErrPermission, "Permission denied (publickey")
	conn, err = dialURI(within(t), t, unknown+"&no_verify=1&socket="+socket, Options{})
	mustEcho(t, conn, err)

	// Close ends the program, and interrupts a reader.
	conn, err = dialURI(context.Background(), t, s.uri(t, "/system", "&no_tty=1&command=ssh&socket="+socket), Options{})
	require.NoError(t, err)
	pid := conn.(*process).cmd.Process.Pid
	read := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		read <- err
	}()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Millisecond)))
	require.ErrorIs(t, <-read, os.ErrDeadlineExceeded)
	go func() {
		conn.SetReadDeadline(time.Time{})
		_, err := conn.Read(make([]byte, 1))
		read <- err
	}()
	require.NoError(t, conn.Close())
	<-read
	_, err = os.Stat(fmt.Sprintf("/proc/%d", pid))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, conn.Close())
}
