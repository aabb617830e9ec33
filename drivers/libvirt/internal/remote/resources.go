package remote

import (
	"context"

	"github.com/digitalocean/go-libvirt"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/xdr"
)

// SetMemory is REMOTE_PROC_DOMAIN_SET_MEMORY_FLAGS, in KiB.
func (c Conn) SetMemory(ctx context.Context, d *libvirt.Domain, kib uint64, flags libvirt.DomainMemoryModFlags) error {
	return c.call(ctx, 204, func(w *xdr.Writer) {
		writeDomain(w, d)
		w.Uint64(kib)
		w.Uint32(uint32(flags))
	}, nil)
}

// SetVCPUs is REMOTE_PROC_DOMAIN_SET_VCPUS_FLAGS.
func (c Conn) SetVCPUs(ctx context.Context, d *libvirt.Domain, n uint32, flags libvirt.DomainVCPUFlags) error {
	return c.call(ctx, 199, func(w *xdr.Writer) {
		writeDomain(w, d)
		w.Uint32(n)
		w.Uint32(uint32(flags))
	}, nil)
}

// CountVCPUs is REMOTE_PROC_DOMAIN_GET_VCPUS_FLAGS.
func (c Conn) CountVCPUs(ctx context.Context, d *libvirt.Domain, flags libvirt.DomainVCPUFlags) (int32, error) {
	return c.intOf(ctx, 200, func(w *xdr.Writer) {
		writeDomain(w, d)
		w.Uint32(uint32(flags))
	})
}

// Pin is REMOTE_PROC_DOMAIN_PIN_VCPU_FLAGS. cpus has a bit for each host CPU.
func (c Conn) Pin(ctx context.Context, d *libvirt.Domain, vcpu uint32, cpus []byte, flags libvirt.DomainModificationImpact) error {
	return c.call(ctx, 225, func(w *xdr.Writer) {
		writeDomain(w, d)
		w.Uint32(vcpu)
		w.Opaque(cpus)
		w.Uint32(uint32(flags))
	}, nil)
}

// VCPUs is REMOTE_PROC_DOMAIN_GET_VCPUS of an active domain: at most n virtual CPUs,
// and for each a map of maplen bytes with a bit for each host CPU.
func (c Conn) VCPUs(ctx context.Context, d *libvirt.Domain, n, maplen int32) (list []libvirt.VcpuInfo, cpus []byte, err error) {
	err = c.call(ctx, 20, func(w *xdr.Writer) {
		writeDomain(w, d)
		w.Int32(n)
		w.Int32(maplen)
	}, func(r *xdr.Reader) {
		list = make([]libvirt.VcpuInfo, r.Count(maxVCPUs, 20))
		for i := range list {
			list[i] = libvirt.VcpuInfo{Number: r.Uint32(), State: r.Int32(), CPUTime: r.Uint64(), CPU: r.Int32()}
		}
		cpus = append(cpus, r.Opaque(maxCPUMaps)...)
	})
	return list, cpus, err
}

// PinInfo is REMOTE_PROC_DOMAIN_GET_VCPU_PIN_INFO: the maps of n virtual CPUs.
func (c Conn) PinInfo(ctx context.Context, d *libvirt.Domain, n, maplen int32, flags libvirt.DomainModificationImpact) (cpus []byte, got int32, err error) {
	err = c.call(ctx, 230, func(w *xdr.Writer) {
		writeDomain(w, d)
		w.Int32(n)
		w.Int32(maplen)
		w.Uint32(uint32(flags))
	}, func(r *xdr.Reader) {
		cpus = append(cpus, r.Opaque(maxCPUMaps)...)
		got = r.Int32()
	})
	return cpus, got, err
}
