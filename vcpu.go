package polyvisor

import "time"

// VCPUState is the state of a virtual CPU, with the numbers of libvirt's
// virVcpuState.
type VCPUState uint8

// The states of a virtual CPU.
const (
	VCPUOffline VCPUState = 0
	VCPURunning VCPUState = 1
	VCPUBlocked VCPUState = 2
)

var vcpuStates = wordTable[VCPUState]{"offline", "running", "blocked"}

// String gives the state as a word.
func (s VCPUState) String() string { return vcpuStates.word(s, "vCPU state") }

// MarshalText encodes the state as its word.
func (s VCPUState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText decodes what MarshalText wrote.
func (s *VCPUState) UnmarshalText(b []byte) error { return vcpuStates.parse(b, s, "vCPU state") }

// VCPU is what is known about a virtual CPU, as libvirt's virVcpuInfo.
type VCPU struct {
	// Number counts from 0.
	Number int       `json:"number"`
	State  VCPUState `json:"state"`
	// CPUTime is the time used on host CPUs in this run.
	CPUTime time.Duration `json:"cpu_time_ns"`
	// CPU is the host CPU it runs on or ran on last, -1 if it is offline or has
	// not run yet.
	CPU int `json:"cpu"`
	// Affinity is the set of host CPUs it may run on; empty means all.
	Affinity CPUSet `json:"affinity,omitzero"`
}

// VCPUConfig configures one virtual CPU (configure_vcpu of the VM Handler API).
type VCPUConfig struct {
	// Number counts from 0 and is less than Config.MaxVCPUs.
	Number int `json:"number"`
	// Affinity is the set of host CPUs it may run on; empty means all.
	Affinity CPUSet `json:"affinity,omitzero"`
	// Weight is its share of host CPU time relative to others', 1 to 10000;
	// 0 leaves it to the host (cgroup v2's cpu.weight, 100).
	Weight int `json:"weight,omitempty"`
}

// Topology is how the guest sees its virtual CPUs arranged. If it is not zero
// its product is Config.MaxVCPUs.
type Topology struct {
	Sockets int `json:"sockets"`
	Cores   int `json:"cores"`
	Threads int `json:"threads"`
}

// IsZero reports whether the arrangement is left to the driver.
func (t Topology) IsZero() bool { return t == Topology{} }
