package libvirttest

import (
	"errors"
	"testing"
)

// ErrMissing means that this machine lacks something that a daemon needs, such as a package. Tests that want a daemon
// are skipped then, with a reason that begins with "needs libvirt".
var ErrMissing = errors.New("needs libvirt")

// Options say what a daemon is to have. The zero value serves test:///default and QEMU on unix sockets.
type Options struct {
	// Drivers are the driver modules to load, of those installed: qemu, network, storage, nodedev, secret, interface,
	// nwfilter. nil: qemu. The driver of test:// is always there.
	Drivers []string
	// TCP, TLS and SSH make it reachable through these, on loopback, with ports of its own.
	TCP, TLS, SSH bool
	// SASL asks for a user and password; nil: nobody is asked for anything.
	SASL *SASL
	// Settings are further settings of libvirtd.conf, or others for those made here, each with its value as it is written
	// there, strings with quotes: "max_clients": "3".
	Settings map[string]string
	// QEMUSettings are those of qemu.conf.
	QEMUSettings map[string]string
	// KVM lets QEMU see /dev/kvm.
	KVM bool
	// LogLevel is libvirt's: 1 debug, 2 information, 3 warnings, 4 errors; 0: warnings.
	LogLevel int
}

// SASL says who may connect, and through what.
type SASL struct {
	Mechanisms     []string          // such as SCRAM-SHA-256, PLAIN
	Users          map[string]string // passwords by user
	Unix, TCP, TLS bool              // where it is asked for
}

// Start runs a daemon until the test and all its subtests are over. It returns when the daemon serves calls. A test on
// a machine that lacks what is needed is skipped. If the test fails, the end of the daemon's log is logged.
func Start(t testing.TB, o Options) *Daemon {
	t.Helper()
	d, err := Run(t.Context(), o)
	if errors.Is(err, ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("end of libvirtd's log:\n%s", d.Log())
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}
