package polyvisor

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// Node describes a host, as libvirt's virNodeInfo does.
type Node struct {
	Hostname string `json:"hostname"`
	// Model is the CPU model.
	Model string `json:"model"`
	// Memory is the host's memory in bytes.
	Memory Bytes `json:"memory"`
	// CPUs is the number of active CPUs.
	CPUs int `json:"cpus"`
	// MHz is the expected CPU frequency; 0 if not known.
	MHz int `json:"mhz"`
	// NUMANodes is the number of NUMA cells, 1 for uniform memory access.
	NUMANodes int `json:"numa_nodes"`
	// Sockets is the number of CPU sockets per NUMA cell.
	Sockets int `json:"sockets"`
	// Cores is the number of cores per socket.
	Cores int `json:"cores"`
	// Threads is the number of threads per core.
	Threads int `json:"threads"`
}

// MaxCPUs is the number of CPUs that the topology has room for, active or not
// (libvirt's VIR_NODEINFO_MAXCPUS).
func (n Node) MaxCPUs() int { return n.NUMANodes * n.Sockets * n.Cores * n.Threads }

// Version tells what is running.
type Version struct {
	// Library is the version of this library.
	Library string `json:"library"`
	// Hypervisor is the version of the hypervisor: of KVM's API and the host
	// kernel, of libvirt and QEMU...
	Hypervisor string `json:"hypervisor"`
}

// LibraryVersion is the version of this library.
const LibraryVersion = "0.1.0"

// Info holds the figures of a domain, as libvirt's virDomainInfo does.
type Info struct {
	State State `json:"state"`
	// ID is the domain's number, 1 or more, while it is active, -1 otherwise.
	ID int `json:"id"`
	// Persistent tells whether the domain has a definition that outlives its run.
	Persistent bool `json:"persistent"`
	// MaxMemory is the most memory the domain may use, in bytes.
	MaxMemory Bytes `json:"max_memory"`
	// Memory is the memory of the guest, in bytes.
	Memory Bytes `json:"memory"`
	// VCPUs is the number of virtual CPUs.
	VCPUs int `json:"vcpus"`
	// CPUTime is the time that the domain has used on host CPUs in this run.
	CPUTime time.Duration `json:"cpu_time_ns"`
	// LastStop is the end of the last run; nil if the domain is active or has
	// never run.
	LastStop *Stop `json:"last_stop,omitempty"`
}

// String gives one line for people.
func (i Info) String() string {
	return fmt.Sprintf("%s, %d vCPUs, %s, CPU time %s", i.State, i.VCPUs, i.Memory, i.CPUTime.Round(time.Millisecond))
}

// Numbers gives both versions as VersionNumber does (virGetVersion,
// virConnectGetVersion): the hypervisor's is the first one of numbers with dots
// that its text has. 0 stands for a version that says none.
func (v Version) Numbers() (library, hypervisor uint64) {
	return firstVersion(v.Library), firstVersion(v.Hypervisor)
}

var dotted = regexp.MustCompile(`(?:^|[^0-9.])([0-9]{1,9})\.([0-9]{1,3})(?:\.([0-9]{1,3}))?(?:$|[^0-9])`)

func firstVersion(text string) uint64 {
	m := dotted.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	var n [3]int
	for i := range n {
		n[i], _ = strconv.Atoi(m[i+1]) // digits, or nothing for the last
	}
	return VersionNumber(n[0], n[1], n[2])
}

// VersionNumber gives a version as one number, major*1,000,000 + minor*1,000 +
// micro (LIBVIR_VERSION_NUMBER).
func VersionNumber(major, minor, micro int) uint64 {
	return uint64(major)*1_000_000 + uint64(minor)*1_000 + uint64(micro)
}
