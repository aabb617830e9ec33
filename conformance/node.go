package conformance

import (
	"github.com/polyvisor/polyvisor"
)

// Frequencies of processors, in MHz, with much room on both sides: what lies
// outside is a frequency in another unit.
const (
	minMHz = 50
	maxMHz = 20_000
)

// node checks what a connection tells of its host.
func (c *C) node() polyvisor.Node {
	n, err := c.conn.Node(c.ctx)
	c.ok(err, "node info")
	c.check(n.CPUs > 0 && n.Memory > 0 && n.Model != "", "the host %+v has no CPU, no memory or no model", n)
	c.check(uint64(n.Memory) >= c.caps.MinMemory, "the host has memory of %s, and its least guest needs %s", n.Memory, polyvisor.Bytes(c.caps.MinMemory))
	c.check(n.NUMANodes > 0 && n.Sockets > 0 && n.Cores > 0 && n.Threads > 0 && n.MaxCPUs() >= n.CPUs, "the topology of the host %+v has no room for its CPUs", n)
	c.check(n.MHz == 0 || n.MHz >= minMHz && n.MHz <= maxMHz, "%d MHz is no frequency of a processor", n.MHz)
	again, err := c.Open().Node(c.ctx)
	c.ok(err, "node info on a second connection")
	again.MHz = n.MHz // processors change it all the time
	c.check(again == n, "the host is %+v and on a second connection %+v", n, again)
	c.sameNode(n, c.h.Node)
	return n
}

// sameNode compares a host with what the harness knows of it.
func (c *C) sameNode(have, want polyvisor.Node) {
	for _, f := range []struct {
		name       string
		have, want any
		known      bool
	}{
		{"hostname", have.Hostname, want.Hostname, want.Hostname != ""},
		{"model", have.Model, want.Model, want.Model != ""},
		{"memory", have.Memory, want.Memory, want.Memory != 0},
		{"number of CPUs", have.CPUs, want.CPUs, want.CPUs != 0},
		{"frequency in MHz", have.MHz, want.MHz, want.MHz != 0},
		{"number of NUMA cells", have.NUMANodes, want.NUMANodes, want.NUMANodes != 0},
		{"number of sockets per cell", have.Sockets, want.Sockets, want.Sockets != 0},
		{"number of cores per socket", have.Cores, want.Cores, want.Cores != 0},
		{"number of threads per core", have.Threads, want.Threads, want.Threads != 0},
	} {
		c.check(!f.known || f.have == f.want, "the host's %s is %v, want %v", f.name, f.have, f.want)
	}
}
