// Package libvirttest runs real, private libvirt daemons for tests and measurements.
//
// [Start] gives a test a libvirtd of its own, with libvirt's in-memory hypervisor (test:///default) and QEMU, which a
// test may stop, kill, freeze and start again; [Run] does so for a program. It listens on unix sockets and, if wanted,
// on loopback for tcp, for tls with certificates made for it, and for ssh through a private sshd with keys made for it.
// Its domains are as real as any: [NewGuest] describes one that boots a stock kernel under emulation.
//
// # How it is kept apart
//
// Everything a daemon writes is in one short-named directory below the system's temporary directory. The daemon, the
// sshd and every QEMU live in namespaces of their own:
//
//   - Of mounts: run by root, libvirtd is the system's daemon with fixed directories, so /etc/libvirt, /run, /var/lib,
//     /var/cache and /var/log are others there. In /etc/passwd are the user that QEMU's driver asks for, and
//     whoever runs the tests with another home. Sockets are on
//     a directory that is seen from both sides. Inside, they are at libvirt's own places, so what comes in by
//     ssh finds the daemon as it would on any host. QEMU runs as root, without cgroups, labels and mount namespaces.
//     /dev/kvm is masked unless Options.KVM, so that a test meets the same host everywhere.
//   - Of processes: a supervisor, this very program executed anew, is the first process of the namespace and
//     ends when its standard input does, that is with the program that started it, however that ends.
//     Whatever else is in there ends with it, the mounts go with the last of it, and the files are removed.
//
// For other users there is a user namespace around that, in which they are who they are, and libvirtd is their session
// daemon, with XDG directories; a system that does not allow this cannot run these tests, which is
// [ErrMissing]. virtlogd is not needed: QEMU writes its logs itself.
//
// A libvirtd that is installed, or runs, on the same machine is neither used nor touched.
package libvirttest
