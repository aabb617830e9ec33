package remote

import (
	"context"

	"github.com/digitalocean/go-libvirt"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/xdr"
)

// Open is REMOTE_PROC_CONNECT_OPEN: the first call after authentication. name is
// the URI of the hypervisor, without a transport; the daemon chooses if it is empty.
func (c Conn) Open(ctx context.Context, name string, flags libvirt.ConnectFlags) error {
	return c.call(ctx, 1, func(w *xdr.Writer) {
		optString(w, name)
		w.Uint32(uint32(flags))
	}, nil)
}

// Shut is REMOTE_PROC_CONNECT_CLOSE.
func (c Conn) Shut(ctx context.Context) error { return c.call(ctx, 2, nil, nil) }

// Type is REMOTE_PROC_CONNECT_GET_TYPE: the hypervisor's name, such as "QEMU".
func (c Conn) Type(ctx context.Context) (string, error) { return c.stringOf(ctx, 3, nil) }

// Version is REMOTE_PROC_CONNECT_GET_VERSION: the hypervisor's version, as
// major*1,000,000 + minor*1,000 + micro.
func (c Conn) Version(ctx context.Context) (v uint64, err error) {
	err = c.call(ctx, 4, nil, func(r *xdr.Reader) { v = r.Uint64() })
	return v, err
}

// LibVersion is REMOTE_PROC_CONNECT_GET_LIB_VERSION: the daemon's version.
func (c Conn) LibVersion(ctx context.Context) (v uint64, err error) {
	err = c.call(ctx, 157, nil, func(r *xdr.Reader) { v = r.Uint64() })
	return v, err
}

// MaxVCPUs is REMOTE_PROC_CONNECT_GET_MAX_VCPUS of a type of domain, which may be
// empty.
func (c Conn) MaxVCPUs(ctx context.Context, domainType string) (int32, error) {
	return c.intOf(ctx, 5, func(w *xdr.Writer) { optString(w, domainType) })
}

// NodeInfo is REMOTE_PROC_NODE_GET_INFO.
func (c Conn) NodeInfo(ctx context.Context) (n libvirt.NodeGetInfoRet, err error) {
	err = c.call(ctx, 6, nil, func(r *xdr.Reader) {
		for i := range n.Model { // a char is an int on the wire
			n.Model[i] = int8(r.Int32())
		}
		n.Memory = r.Uint64()
		for _, p := range []*int32{&n.Cpus, &n.Mhz, &n.Nodes, &n.Sockets, &n.Cores, &n.Threads} {
			*p = r.Int32()
		}
	})
	return n, err
}

// Capabilities is REMOTE_PROC_CONNECT_GET_CAPABILITIES: XML.
func (c Conn) Capabilities(ctx context.Context) (string, error) { return c.stringOf(ctx, 7, nil) }

// DomainCapabilities is REMOTE_PROC_CONNECT_GET_DOMAIN_CAPABILITIES: XML. What is
// empty is left to the daemon.
func (c Conn) DomainCapabilities(ctx context.Context, emulator, arch, machine, domainType string) (string, error) {
	return c.stringOf(ctx, 342, func(w *xdr.Writer) {
		optString(w, emulator)
		optString(w, arch)
		optString(w, machine)
		optString(w, domainType)
		w.Uint32(0)
	})
}

// Hostname is REMOTE_PROC_CONNECT_GET_HOSTNAME.
func (c Conn) Hostname(ctx context.Context) (string, error) { return c.stringOf(ctx, 59, nil) }

// SupportsFeature is REMOTE_PROC_CONNECT_SUPPORTS_FEATURE, with libvirt's internal
// numbers of features.
func (c Conn) SupportsFeature(ctx context.Context, feature int32) (bool, error) {
	n, err := c.intOf(ctx, 60, func(w *xdr.Writer) { w.Int32(feature) })
	return n != 0, err
}
