package conformance_test

import (
	"sync/atomic"

	"github.com/polyvisor/polyvisor"
)

// knownNode is the host of the fake hypervisors, whose topology has no two
// numbers that could be taken for each other.
func knownNode() polyvisor.Node {
	return polyvisor.Node{
		Hostname: "known", Model: "a processor of the tests", Memory: 256 * polyvisor.GiB, CPUs: 119, MHz: 2500,
		NUMANodes: 2, Sockets: 3, Cores: 5, Threads: 4,
	}
}

// nodeFaults are about one field of the host each. But for the first three they
// leave a host that could be.
func nodeFaults() []fault {
	wrong := func(name, says string, f func(n *polyvisor.Node)) fault {
		return fault{name: name, of: "connection/identity", says: says, node: f}
	}
	return []fault{
		wrong("a topology without room for the CPUs", "has no room for its CPUs", func(n *polyvisor.Node) { n.Threads-- }),
		wrong("a frequency in Hz", "2500000000 MHz is no frequency", func(n *polyvisor.Node) { n.MHz *= 1_000_000 }),
		wrong("memory in MiB", "the host has memory of 256KiB", func(n *polyvisor.Node) { n.Memory /= polyvisor.MiB }),
		{name: "CPUs come and go", of: "connection/identity", says: "and on a second connection", node: func() func(*polyvisor.Node) {
			var asked atomic.Int32
			return func(n *polyvisor.Node) { n.CPUs -= int(asked.Add(1)) - 1 }
		}()},
		wrong("memory in KiB", "the host's memory is 256MiB, want 256GiB", func(n *polyvisor.Node) { n.Memory /= polyvisor.KiB }),
		wrong("a made-up frequency", "the host's frequency in MHz is 2000, want 2500", func(n *polyvisor.Node) { n.MHz = 2000 }),
		wrong("the architecture for a model", "the host's model is amd64", func(n *polyvisor.Node) { n.Model = "amd64" }),
		wrong("room for CPUs counted as CPUs", "the host's number of CPUs is 120, want 119", func(n *polyvisor.Node) { n.CPUs = n.MaxCPUs() }),
		wrong("NUMA cells counted twice", "the host's number of NUMA cells is 4", func(n *polyvisor.Node) { n.NUMANodes *= 2 }),
		wrong("sockets of all cells", "the host's number of sockets per cell is 6", func(n *polyvisor.Node) { n.Sockets *= n.NUMANodes }),
		wrong("cores of all sockets", "the host's number of cores per socket is 15", func(n *polyvisor.Node) { n.Cores *= n.Sockets }),
		wrong("threads of all cores", "the host's number of threads per core is 20", func(n *polyvisor.Node) { n.Threads *= n.Cores }),
	}
}
