package doctor

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// modules are KVM's back ends: what they are called, the CPU flag that they
// need, and the kernel module.
var modules = []struct{ kind, flag, module string }{
	{"VMX", "vmx", "kvm_intel"},
	{"SVM", "svm", "kvm_amd"},
	{"PVM", "", "kvm_pvm"},
}

// kvm checks that the device is there and may be used.
func (h Host) kvm() Check {
	err := h.open(h.path(h.Device))
	switch {
	case err == nil:
		return ok("kvm device", h.Device+" can be opened")
	case errors.Is(err, fs.ErrPermission):
		return missing("kvm device", fmt.Sprintf("%s may not be opened by this user", h.Device),
			"sudo usermod -aG kvm $USER, then log in again; in a container pass the device with its group")
	case errors.Is(err, fs.ErrNotExist):
		return missing("kvm device", h.Device+" does not exist", h.kvmFix())
	}
	return missing("kvm device", fmt.Sprintf("%s: %v", h.Device, cause(err)), h.kvmFix())
}

// kvmFix is how to get KVM, by what the CPU says.
func (h Host) kvmFix() string {
	flags := h.cpuFlags()
	for _, m := range modules {
		if m.flag != "" && flags[m.flag] {
			return fmt.Sprintf("sudo modprobe %s; in a container pass the device through", m.module)
		}
	}
	if flags["hypervisor"] {
		return "this host is a virtual machine: turn on nested virtualization where it runs, or load a software KVM such as kvm_pvm"
	}
	return "turn on virtualization (VT-x or AMD-V) in the firmware setup, then sudo modprobe kvm_intel or kvm_amd"
}

// kind tells which back end of KVM is loaded.
func (h Host) kind() Check {
	const name = "kvm kind"
	flags := h.cpuFlags()
	where := ""
	if flags["hypervisor"] {
		where = "; this host is a virtual machine itself"
	}
	for _, m := range modules {
		if !h.exists("/sys/module/" + m.module) {
			continue
		}
		if m.flag == "" {
			return warn(name, fmt.Sprintf("%s (%s): virtualization in software%s", m.kind, m.module, where),
				"the built-in guest runs here; for a distribution's kernel use a host with VMX or SVM if it does not boot")
		}
		return ok(name, fmt.Sprintf("%s (%s)%s", m.kind, m.module, where))
	}
	if flags == nil {
		return warn(name, "unknown: /proc/cpuinfo cannot be read", "mount /proc")
	}
	for _, m := range modules {
		if m.flag != "" && flags[m.flag] {
			return missing(name, fmt.Sprintf("the CPU has %s, but %s is not loaded%s", m.kind, m.module, where), "sudo modprobe "+m.module)
		}
	}
	return missing(name, "no CPU virtualization and no software KVM"+where, h.kvmFix())
}

// Software names the back end of KVM, such as PVM, if it virtualizes in software,
// on which a distribution's kernel is unlikely to boot; else it is empty.
func (h Host) Software() string {
	if h.Root == "" {
		h.Root = "/"
	}
	for _, m := range modules {
		if h.exists("/sys/module/" + m.module) {
			if m.flag == "" {
				return m.kind
			}
			return ""
		}
	}
	return ""
}

// nested tells whether guests can run virtual machines.
func (h Host) nested() Check {
	const name = "nested"
	for _, m := range modules {
		b, err := os.ReadFile(h.path("/sys/module/" + m.module + "/parameters/nested"))
		if err != nil {
			continue
		}
		switch strings.TrimSpace(string(b)) {
		case "Y", "y", "1":
			return ok(name, "guests can run virtual machines of their own")
		}
		return warn(name, "guests cannot run virtual machines of their own",
			fmt.Sprintf("if they should: echo options %s nested=1 | sudo tee /etc/modprobe.d/%[1]s.conf, then load the module again", m.module))
	}
	return missing(name, "KVM offers no nested virtualization here", "only needed to run virtual machines inside guests; use a host with VMX or SVM")
}

// cpuFlags are the flags of the first CPU; nil if they cannot be read.
func (h Host) cpuFlags() map[string]bool {
	f, err := os.Open(h.path("/proc/cpuinfo"))
	if err != nil {
		return nil
	}
	defer f.Close()
	flags := make(map[string]bool)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		key, value, found := strings.Cut(lines.Text(), ":")
		if found && strings.TrimSpace(key) == "flags" {
			for _, flag := range strings.Fields(value) {
				flags[flag] = true
			}
			break
		}
	}
	return flags
}

// cause is the innermost error of a file operation, without the path.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
