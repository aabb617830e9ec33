package check

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Directories of this module, as they are used in the rules.
const (
	internals = "drivers/kvm/internal/"
	unix      = "golang.org/x/sys/unix"
)

// rule says what the code of a package, without its tests, may import beyond
// the standard library. Directories of this module are written as such.
type rule struct {
	pkg    string // a directory; with /... all below it
	allow  []string
	pure   bool // no system: not os, net, syscall and their like
	reason string
}

// rules are tried in order; the first that matches a package counts.
var rules = []rule{
	{pkg: ".", allow: []string{"internal/utf8json", "github.com/google/uuid", "github.com/hashicorp/go-multierror"},
		reason: "programs pay for what the root imports, and everything else imports the root"},

	{pkg: "domainxml", allow: []string{".", "libvirt.org/go/libvirtxml", "github.com/google/uuid", "github.com/hashicorp/go-multierror"},
		reason: "XML for the drivers that have Configs; XML structs go no further"},
	{pkg: "conformance/...", allow: []string{".", "conformance/...", "github.com/google/uuid"},
		reason: "outside authors import the suite: the root and testing, nothing internal"},
	{pkg: "drivers/fake", allow: []string{".", "domainxml", "internal/utf8json", "github.com/google/uuid", unix}, reason: "a driver knows the root and its own parts; never another driver"},
	{pkg: "drivers/kvm", allow: []string{".", "domainxml", internals + "...", "drivers/kvm/vmmain", "internal/agent/host", "internal/agent/proto", "github.com/google/uuid", unix},
		reason: "a driver knows the root and its own parts; never another driver"},
	{pkg: "drivers/libvirt/internal/uri", reason: "reads URIs and libvirt.conf"},
	{pkg: "drivers/libvirt/internal/auth", allow: []string{"drivers/libvirt/internal/classed", "drivers/libvirt/internal/uri", "drivers/libvirt/internal/xdr", "drivers/libvirt/internal/rpc", "github.com/xdg-go/scram"},
		reason: "a few calls over whatever makes them; the mechanisms are a library's"},
	{pkg: "drivers/libvirt/internal/dial", allow: []string{"drivers/libvirt/internal/classed", "drivers/libvirt/internal/uri", "golang.org/x/crypto/ssh/..."}, reason: "opens byte streams; knows nothing of what travels in them"},
	{pkg: "drivers/all", allow: []string{"drivers/fake", "drivers/kvm", "drivers/libvirt"}, reason: "links every driver, and does nothing else"},
	{pkg: "drivers/libvirt", allow: []string{".", "domainxml", "drivers/libvirt/internal/...", "github.com/google/uuid", "github.com/digitalocean/go-libvirt", "github.com/cenkalti/backoff/v5",
		"libvirt.org/go/libvirtxml", unix}, reason: "a driver knows the root and its own parts, never another driver; XML structs for what the host tells of itself; unix for QEMU's locks"},
	{pkg: "drivers/libvirt/internal/remote", allow: []string{"drivers/libvirt/internal/rpc", "drivers/libvirt/internal/xdr", "github.com/digitalocean/go-libvirt"},
		reason: "procedures on a client that it is given; decides nothing"},
	{pkg: "drivers/kvm/vmmain", allow: []string{internals + "machine", internals + "vmmproc", internals + "vmm"},
		reason: "the entry of the VM process; it must not link the root"},

	{pkg: "drivers/kvm/usernet", allow: []string{internals + "netback", "github.com/containers/gvisor-tap-vsock/...", "github.com/sirupsen/logrus", unix},
		reason: "the helper of network user: the TCP/IP stack is here and nowhere else, so that nothing else links it"},
	{pkg: internals + "tap", allow: []string{internals + "kvmapi", "github.com/vishvananda/netlink", unix}, reason: "netlink is here and nowhere else; the VM process is given open taps"},
	{pkg: internals + "netback", allow: []string{unix}, reason: "starts the helper and agrees with it on its configuration; the stack is the helper's"},

	{pkg: "drivers/kvm/image", allow: []string{internals + "disk", internals + "disk/qcow2", unix, "github.com/klauspost/compress/zstd"},
		reason: "images for users and the command, not for the VM process, so zstd is linked here"},
	{pkg: internals + "kvmapi", allow: []string{unix}, reason: "the only place with ioctls"},
	{pkg: internals + "guestmem", allow: []string{unix}, reason: "mmap; the only other place with unsafe"},
	{pkg: internals + "virtq", allow: []string{internals + "guestmem"}, pure: true, reason: "rings in memory that it is given; knows neither PCI nor KVM"},
	{pkg: internals + "pci", pure: true, reason: "configuration space and MSI-X by callbacks, without a machine"},
	{pkg: internals + "virtio", allow: []string{internals + "virtq"}, pure: true, reason: "what devices have in common; knows no transport"},
	{pkg: internals + "virtio/virtiopci", allow: []string{internals + "pci", internals + "virtio", internals + "virtq"}, pure: true, reason: "registers on PCI; knows no KVM"},
	{pkg: internals + "virtio/rng", allow: []string{internals + "virtio", internals + "virtq"}, pure: true, reason: "a device knows its queues and its back end"},
	{pkg: internals + "virtio/blk", allow: []string{internals + "virtio", internals + "virtq", internals + "disk"}, reason: "a device knows its queues and its back end"},
	{pkg: internals + "virtio/net", allow: []string{internals + "guestmem", internals + "virtio", internals + "virtq", unix}, reason: "as blk; frames leave guest memory by one system call"},
	{pkg: internals + "virtio/vsock", allow: []string{internals + "guestmem", internals + "virtio", internals + "virtq", unix}, reason: "as net; data leaves guest memory by one system call"},
	{pkg: internals + "virtio/console", allow: []string{internals + "virtio", internals + "virtq"}, pure: true, reason: "as rng"},
	{pkg: internals + "virtio/virtiotest", allow: []string{internals + "guestmem", internals + "virtio", internals + "virtq/..."}, reason: "a device's driver, for tests"},
	{pkg: internals + "virtq/virtqtest", allow: []string{internals + "guestmem", internals + "virtq"}, reason: "the driver's side, for tests"},
	{pkg: internals + "bus", pure: true, reason: "address decoding is tested without a machine"},
	{pkg: internals + "irq", pure: true, reason: "as bus"},
	{pkg: internals + "serial", pure: true, reason: "devices take callbacks, never the machine"},
	{pkg: internals + "i8042", pure: true, reason: "as serial"},
	{pkg: internals + "fwcfg", pure: true, reason: "as serial"},
	{pkg: internals + "cmos", pure: true, reason: "as serial"},
	{pkg: internals + "pflash", pure: true, reason: "as serial; what keeps its contents is a writer"},
	{pkg: internals + "q35", allow: []string{internals + "pci"}, pure: true, reason: "functions on a bus, and a device as serial"},
	{pkg: internals + "acpi", allow: []string{internals + "acpi/aml"}, pure: true, reason: "tables are bytes; the device is as serial"},
	{pkg: internals + "acpi/aml", pure: true, reason: "an encoder"},
	{pkg: internals + "boot/linux", reason: "reads files and writes to memory through an interface of its own"},
	{pkg: internals + "boot/linux/imagetest", pure: true, reason: "kernel images for tests"},
	{pkg: internals + "boot/unpack", allow: []string{internals + "boot/linux", unix,
		"github.com/klauspost/compress/...", "github.com/pierrec/lz4/v4", "github.com/ulikunitz/xz/...", "github.com/anchore/go-lzo"},
		reason: "the decompressors are here and nowhere else, so that the VM process does not link them"},
	{pkg: internals + "boot/guest", pure: true, reason: "machine code and how to load it"},
	{pkg: internals + "vcpu", allow: []string{internals + "kvmapi", unix}, reason: "runs KVM_RUN; knows exits, not devices"},
	{pkg: internals + "vcpu/vcputest", pure: true, reason: "guest code for tests"},
	{pkg: internals + "vmm", allow: []string{internals + "kvmapi", internals + "guestmem", internals + "bus", internals + "irq", internals + "serial", internals + "i8042",
		internals + "fwcfg", internals + "cmos", internals + "pflash", internals + "q35", internals + "acpi", internals + "vcpu", internals + "pci", internals + "virtio", internals + "virtio/...", internals + "disk", internals + "disk/...", internals + "boot/linux", internals + "boot/guest", unix},
		reason: "the one place where the parts meet"},
	{pkg: internals + "machine", allow: []string{internals + "vmm", internals + "vmmproc", internals + "kvmapi", internals + "boot/linux", internals + "boot/guest", unix},
		reason: "what a VM process runs: the machine behind the control protocol"},
	{pkg: internals + "vmmproc", allow: []string{internals + "store", unix}, reason: "speaks the control protocol; takes the machine as an interface"},
	{pkg: internals + "store", allow: []string{unix}, reason: "files and locks"},
	{pkg: internals + "disk", allow: []string{unix}, reason: "what an image is, opening and locks; knows no format"},
	{pkg: internals + "disk/raw", allow: []string{internals + "disk", internals + "guestmem", unix}, reason: "a format; vectored transfers are in guestmem, which may be unsafe"},
	{pkg: internals + "disk/qcow2", allow: []string{internals + "disk", unix}, reason: "a format; in the VM process, so without decompressors that are not in the standard library"},
	{pkg: internals + "virtqbench", allow: []string{internals + "creference", internals + "guestmem", internals + "virtq", unix}, reason: "measures virtqueues"},
	{pkg: internals + "exitbench", allow: []string{internals + "creference", internals + "vmm", internals + "boot/linux/imagetest"}, reason: "measures the run loop"},
	{pkg: internals + "creference", reason: "what two measurements share"},

	{pkg: "drivers/libvirt/internal/classed", pure: true, reason: "a class for an error, nothing else"},
	{pkg: "drivers/libvirt/internal/xdr", pure: true, reason: "an encoder and a bounded decoder, fuzzed without a peer"},
	{pkg: "drivers/libvirt/internal/rpc", allow: []string{"drivers/libvirt/internal/xdr", "github.com/digitalocean/go-libvirt", unix}, reason: "frames on a connection that it is given; knows no procedures and dials nothing"},
	{pkg: "drivers/libvirt/internal/rpc/rpctest", allow: []string{"drivers/libvirt/internal/rpc", "drivers/libvirt/internal/xdr", "github.com/digitalocean/go-libvirt"},
		reason: "a scripted server and the oracle, for tests"},

	{pkg: "cmd/polyvisor", allow: []string{".", "cmd/polyvisor/internal/cli", "conformance", "conformance/testkernel", "drivers/..."},
		reason: "main: links the drivers, and tells the command about their directories and how to test them"},
	{pkg: "cmd/polyvisor-usernet", allow: []string{"drivers/kvm/usernet"}, reason: "main of the helper of network user"},
	{pkg: "cmd/polyvisor/internal/cli", allow: []string{".", "conformance", "domainxml", "drivers/kvm/image", "drivers/kvm/sandbox", "internal/doctor", "internal/utf8json", "github.com/spf13/cobra", "github.com/spf13/pflag",
		"github.com/google/uuid", "golang.org/x/term", unix}, reason: "the command line works with any driver and knows none; files may be XML; images need no driver"},
	{pkg: "cmd/polyvisor-vmm", allow: []string{"drivers/kvm/vmmain", "internal/agent/guest"}, reason: "main of the VM process and of the guest's agent: as small as can be"},

	{pkg: "internal/agent/proto", pure: true, reason: "what both sides say: fuzzed without a guest"},
	{pkg: "internal/agent/guest", allow: []string{"internal/agent/proto", unix}, reason: "runs in guests; in the program of the VM process, so as small as that"},
	{pkg: "internal/agent/host", allow: []string{"internal/agent/proto"}, reason: "the host's side, over connections that it is given"},

	{pkg: "internal/check", reason: "reads source"},
	{pkg: "internal/leaktest", allow: []string{"go.uber.org/goleak"}, reason: "for every test binary, so with next to nothing"},
	{pkg: "internal/utf8json", pure: true, reason: "looks at bytes; the root imports it"},
	{pkg: "internal/doctor", allow: []string{".", unix}, reason: "looks at the host"},
	{pkg: "internal/testguest/init", allow: []string{unix}, reason: "first process of a guest"},
	{pkg: "internal/testguest/tool", allow: []string{unix}, reason: "runs in guests, as any program there would"},
	{pkg: "internal/initramfs", allow: []string{"github.com/cavaliergopher/cpio", "github.com/klauspost/compress/zstd", "github.com/ulikunitz/xz"}, reason: "makes archives of files that it is given"},
	{pkg: "drivers/kvm/sandbox", allow: []string{".", "internal/agent/proto", "internal/doctor", "internal/initramfs", "github.com/cavaliergopher/cpio"}, reason: "makes a Config; knows no driver; its test reads the archive"},
	{pkg: "internal/testguest", allow: []string{"internal/initramfs"},
		reason: "builds guests from installed packages"},
	{pkg: "internal/testguest/words", allow: []string{"conformance"}, reason: "how the suite talks to the guest; for the tests of drivers"},
	{pkg: "internal/vmmtest", reason: "runs the go command"},
	{pkg: "internal/nestedvm", allow: []string{"internal/nestedvm/wire", "internal/testguest", "github.com/cavaliergopher/cpio", "github.com/klauspost/compress/zstd", "github.com/ulikunitz/xz", unix},
		reason: "the nested machine is not ours: it runs without any driver"},
	{pkg: "internal/nestedvm/wire", pure: true, reason: "the protocol between the host and the nested machine"},
	{pkg: "internal/nestedvm/init", allow: []string{"internal/nestedvm/wire", unix}, reason: "first process of the nested machine"},
	{pkg: "internal/nestedvm/cmd/nestedtest", allow: []string{"internal/nestedvm", "internal/testguest"}, reason: "main: the nested machine, and the guest's files to put into it"},
	{pkg: "internal/nestedvm/cmd/nestedtest/sample", reason: "a subject for tests of nestedtest"},
	{pkg: "internal/nestedvm/internal/probe", allow: []string{unix}, reason: "runs in the nested machine"},
	{pkg: "internal/libvirttest", allow: []string{"internal/testguest", unix}, reason: "libvirt as it is installed: it runs without any driver of ours"},
	{pkg: "internal/testsummary", reason: "reads go test's output"},
	{pkg: "internal/bench/...", allow: []string{"internal/bench/...", ".", "drivers/kvm", "drivers/libvirt", "internal/libvirttest", "internal/nestedvm", "internal/testguest", unix}, reason: "measures from outside, as users see it"},
	{pkg: "internal/demo", allow: []string{".", "drivers/kvm", "internal/doctor", "internal/nestedvm", "internal/testguest"}, reason: "a program that uses the library"},

	{pkg: "examples/driver", allow: []string{".", "conformance", "github.com/google/uuid"}, reason: "what authors of drivers write: only what they can import"},
	{pkg: "examples/...", allow: []string{".", "drivers/..."}, reason: "what users write: only what users can import"},
}

// forTests may be imported by any test.
var forTests = []string{
	"github.com/stretchr/testify/...", "go.uber.org/goleak", "github.com/google/go-cmp/...", "github.com/creack/pty",
	"internal/leaktest", "internal/testguest", "internal/nestedvm", "internal/nestedvm/wire",
	"internal/libvirttest", "internal/testguest/words", "internal/vmmtest",
}

// testRules are what else the tests of a package may import.
var testRules = []rule{
	{pkg: ".", allow: []string{"drivers/fake"}, reason: "examples whose guests do something run on the driver that simulates them"},
	{pkg: "conformance", allow: []string{".", "conformance", "conformance/testkernel", "drivers/fake", "drivers/kvm"}, reason: "the suite is tested with the driver that can do everything, and with wrong ones made of it"},
	{pkg: "drivers/kvm/usernet", allow: []string{"drivers/kvm/...", unix, "gvisor.dev/gvisor/pkg/...", "github.com/insomniacslk/dhcp/dhcpv4", "github.com/miekg/dns"},
		reason: "the tests play the guest with a stack of their own"},
	{pkg: internals + "disk/qcow2", allow: []string{"github.com/lima-vm/go-qcow2reader", internals + "disk"}, reason: "an independent reader is its oracle"},
	{pkg: "drivers/kvm", allow: []string{".", "conformance", "conformance/testkernel", "drivers/kvm/...", "github.com/vishvananda/netlink", "github.com/diskfs/go-diskfs/...", unix}, reason: "and with the host's bridges and taps, and disks that boot by themselves"},
	{pkg: "drivers/kvm/...", allow: []string{".", "conformance", "conformance/testkernel", "drivers/kvm/...", unix}, reason: "parts are tested together with the parts they meet"},
	{pkg: "drivers/libvirt/internal/auth", allow: []string{"drivers/libvirt/internal/rpc/...", "drivers/libvirt/internal/dial", "github.com/digitalocean/go-libvirt", "github.com/xdg-go/scram"},
		reason: "the oracle, a scripted daemon, and a real one"},
	{pkg: "drivers/fake", allow: []string{".", "github.com/google/uuid"}, reason: "as the package itself"},
	{pkg: "drivers/all", allow: []string{".", "drivers/all"}, reason: "as the package itself"},
	{pkg: "drivers/libvirt", allow: []string{"conformance", "internal/libvirttest"}, reason: "the suite runs against private daemons"},
	{pkg: "drivers/libvirt/internal/remote", allow: []string{"drivers/libvirt/internal/rpc/rpctest"}, reason: "go-libvirt is its oracle"},
	{pkg: "drivers/libvirt/internal/rpc", allow: []string{"drivers/libvirt/internal/rpc/rpctest"}, reason: "its own scripted server"},
	{pkg: "cmd/polyvisor/...", allow: []string{".", "cmd/polyvisor/...", "drivers/..."}, reason: "the command is tested with drivers"},
	{pkg: "internal/check", allow: []string{".", "conformance"}, reason: "the table of parity names the suite's cases"},
	{pkg: "internal/agent/guest", allow: []string{"internal/agent/host"}, reason: "both sides are tested with each other"},
	{pkg: "internal/testguest/...", allow: []string{"internal/testguest/...", "github.com/cavaliergopher/cpio"}, reason: "its own parts"},
	{pkg: "internal/nestedvm/...", allow: []string{"internal/nestedvm/..."}, reason: "its own parts"},
	{pkg: "internal/bench/...", allow: []string{"internal/bench/..."}, reason: "its own parts"},
	{pkg: "internal/demo", allow: []string{"drivers/..."}, reason: "as the program itself"},
	{pkg: "examples/...", allow: []string{"drivers/...", "."}, reason: "as the program itself"},
}

// system is what a pure package does not import.
var system = []string{"os", "os/...", "net", "net/...", "syscall", "unsafe", "plugin", "C"}

// heavy is what nothing below drivers/kvm/internal imports: it all ends up in
// the VM process.
var heavy = []string{".", "net/http/...", "net/rpc/...", "crypto/tls/...", "encoding/xml", "encoding/gob", "html/...", "text/template/...",
	"github.com/spf13/...", "github.com/stretchr/..."}

func findRule(list []rule, dir string) *rule {
	for i := range list {
		if matches(list[i].pkg, dir) {
			return &list[i]
		}
	}
	return nil
}

// local writes an import path as the rules do.
func local(importPath string) string {
	if dir, ok := inModule(importPath); ok {
		return dir
	}
	return importPath
}

func anyMatches(patterns []string, p string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern, p) })
}

func TestImports(t *testing.T) {
	tr := load(t)
	for _, s := range tr.sources {
		r := findRule(rules, s.dir())
		if r == nil {
			t.Errorf("%s: package %s has no rule: add one to `rules` in internal/check/imports_test.go that says what it may import and why", s.name, s.dir())
			continue
		}
		for _, imported := range s.imports() {
			p := local(imported)
			allowed := isStandard(imported) || anyMatches(r.allow, p)
			if !s.test {
				if r.pure && anyMatches(system, p) {
					t.Errorf("%s imports %s, but it is to work without the system (%s)", s.name, p, r.reason)
				}
				if strings.HasPrefix(s.dir(), internals) && anyMatches(heavy, p) {
					t.Errorf("%s imports %s, which must not get into the VM process", s.name, p)
				}
			} else if tests := findRule(testRules, s.dir()); !allowed {
				allowed = p == s.dir() || anyMatches(forTests, p) || tests != nil && anyMatches(tests.allow, p)
			}
			if !allowed {
				t.Errorf("%s imports %s, which the rule for %s does not allow (%s); change the code, or the rule in internal/check/imports_test.go with its reason",
					s.name, p, r.pkg, r.reason)
			}
		}
	}
}

func TestRulesHaveReasons(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rules {
		if r.reason == "" {
			t.Errorf("the rule for %s has no reason", r.pkg)
		}
		if seen[r.pkg] {
			t.Errorf("two rules for %s", r.pkg)
		}
		seen[r.pkg] = true
	}
}

// A driver is a directory below drivers/; none knows another.
func TestDriversDoNotImportEachOther(t *testing.T) {
	driver := func(dir string) string {
		rest, ok := strings.CutPrefix(dir, "drivers/")
		if !ok {
			return ""
		}
		name, _, _ := strings.Cut(rest, "/")
		return name
	}
	for _, s := range load(t).sources {
		own := driver(s.dir())
		if own == "" || own == "all" { // all: imports of every driver for their side effect
			continue
		}
		for _, p := range s.imports() {
			if other := driver(local(p)); other != "" && other != own {
				t.Errorf("%s: driver %s imports driver %s", s.name, own, other)
			}
		}
	}
}

// Only vmm knows more than one of devices, vCPUs and boot, so that each can be
// tested and fuzzed without the others.
func TestOnlyVMMJoinsTheParts(t *testing.T) {
	groups := map[string][]string{
		"devices": {internals + "serial/...", internals + "i8042/...", internals + "acpi/...", internals + "virtio/..."},
		"vcpu":    {internals + "vcpu/..."},
		"boot":    {internals + "boot/..."},
	}
	for dir, files := range load(t).packages() {
		if dir == internals+"vmm" {
			continue
		}
		known := map[string]string{}
		for name, patterns := range groups {
			if anyMatches(patterns, dir) {
				known[name] = dir
			}
			for _, s := range files {
				for _, p := range s.imports() {
					if anyMatches(patterns, local(p)) {
						known[name] = local(p)
					}
				}
			}
		}
		if len(known) > 1 {
			t.Errorf("%s knows more than one of devices, vcpu and boot, which is for vmm alone: %v", dir, known)
		}
	}
}

// The VM process stays small: what it links, itself or through others, is
// bounded. net/http alone more than doubles its memory.
func TestVMProcessLinksLittle(t *testing.T) {
	tr := load(t)
	cmd := exec.Command("go", "list", "-deps", "-f", "{{.ImportPath}}", "./cmd/polyvisor-vmm")
	cmd.Dir = tr.root
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, modulePath+"/cmd/polyvisor-vmm") {
		t.Fatalf("go list does not list the program itself:\n%s", out)
	}
	banned := slices.Concat(heavy, []string{"drivers/kvm", internals + "boot/unpack", "github.com/klauspost/...", "github.com/hashicorp/...", "github.com/google/uuid", "testing", "gvisor.dev/...", "github.com/containers/...", "github.com/vishvananda/..."})
	for _, dep := range deps {
		if anyMatches(banned, local(dep)) {
			t.Errorf("cmd/polyvisor-vmm links %s; find out through whom with: go mod why -m, or go list -deps -f '{{.ImportPath}}: {{.Imports}}' ./cmd/polyvisor-vmm", local(dep))
		}
	}
}

// The rules do catch what they are for.
func TestMatches(t *testing.T) {
	for _, tt := range []struct {
		pattern, path string
		want          bool
	}{
		{"a/...", "a", true}, {"a/...", "a/b/c", true}, {"a/...", "ab", false}, {"a", "a/b", false}, {"a", "a", true}, {".", "a", false}, {".", ".", true},
		{"net/http/...", "net/http/httptest", true}, {"net/http/...", "net", false},
	} {
		if matches(tt.pattern, tt.path) != tt.want {
			t.Errorf("matches(%q, %q) is not %t", tt.pattern, tt.path, tt.want)
		}
	}
	if local(modulePath) != "." || local(modulePath+"/drivers/kvm") != "drivers/kvm" || local("fmt") != "fmt" {
		t.Error("local")
	}
	if isStandard(modulePath) || isStandard("golang.org/x/sys/unix") || !isStandard("net/http") {
		t.Error("isStandard")
	}
}
