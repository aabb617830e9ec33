package fake

import "github.com/polyvisor/polyvisor"

// Driver opens a connection as its driver, for those who put a driver of their
// own around it and give that to polyvisor.NewConn or a polyvisor.Registry.
func (h *Hypervisor) Driver() polyvisor.Driver { return h.connect() }
