package rpc_test

import (
	"strings"
	"testing"

	"github.com/digitalocean/go-libvirt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc/rpctest"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/xdr"
)

// Frames and encoding are those of go-libvirt, byte for byte.
func TestSameBytesAsGoLibvirt(t *testing.T) {
	domain := libvirt.Domain{Name: "name", UUID: libvirt.UUID{1, 2, 3, 15: 16}, ID: -1}
	putDomain := func(w *xdr.Writer) {
		w.String(domain.Name)
		w.Fixed(domain.UUID[:])
		w.Int32(domain.ID)
	}
	for _, tt := range []struct {
		name               string
		oracle             func(*libvirt.Libvirt) error
		program, procedure uint32
		args               func(*xdr.Writer)
	}{
		{"no arguments", func(l *libvirt.Libvirt) error { _, err := l.ConnectGetLibVersion(); return err }, remote, getVersion, nil},
		{"a string", func(l *libvirt.Libvirt) error { _, err := l.DomainLookupByName("odd"); return err }, remote, 23, func(w *xdr.Writer) { w.String("odd") }},
		{"an empty string", func(l *libvirt.Libvirt) error { _, err := l.DomainLookupByName(""); return err }, remote, 23, func(w *xdr.Writer) { w.String("") }},
		{"a long string", func(l *libvirt.Libvirt) error { _, err := l.DomainDefineXML(strings.Repeat("x", 100_001)); return err }, remote, 11, func(w *xdr.Writer) { w.String(strings.Repeat("x", 100_001)) }},
		{"a structure", func(l *libvirt.Libvirt) error { _, _, err := l.DomainGetState(domain, 7); return err }, remote, getState, func(w *xdr.Writer) { putDomain(w); w.Uint32(7) }},
		{"an optional string", func(l *libvirt.Libvirt) error {
			_, err := l.ConnectGetDomainCapabilities(libvirt.OptString{"qemu"}, nil, nil, nil, 0)
			return err
		}, remote, 342, func(w *xdr.Writer) {
			s := "qemu"
			w.OptString(&s)
			w.OptString(nil)
			w.OptString(nil)
			w.OptString(nil)
			w.Uint32(0)
		}},
		{"unsigned hyper", func(l *libvirt.Libvirt) error { return l.DomainSetMemory(domain, 1<<40) }, remote, 31, func(w *xdr.Writer) { putDomain(w); w.Uint64(1 << 40) }},
		{"opaque data", func(l *libvirt.Libvirt) error { return l.DomainPinVcpu(domain, 3, []byte{1, 2, 3, 4, 5}) }, remote, 26, func(w *xdr.Writer) {
			putDomain(w)
			w.Uint32(3)
			w.Opaque([]byte{1, 2, 3, 4, 5})
		}},
		{"an array", func(l *libvirt.Libvirt) error {
			_, err := l.ConnectGetAllDomainStats([]libvirt.Domain{domain, domain}, 9, 1)
			return err
		}, remote, 344, func(w *xdr.Writer) {
			w.Count(2)
			putDomain(w)
			putDomain(w)
			w.Uint32(9)
			w.Uint32(1)
		}},
		{"another program", func(l *libvirt.Libvirt) error {
			_, err := l.QEMUDomainMonitorCommand(domain, "info", 1)
			return err
		}, rpc.ProgramQEMU, 1, func(w *xdr.Writer) { putDomain(w); w.String("info"); w.Uint32(1) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := rpctest.Oracle(t, rpctest.Refuse, func(l *libvirt.Libvirt) { assert.ErrorContains(t, tt.oracle(l), "only listens") })
			got := rpctest.Sent(t, rpctest.Refuse, func(c *rpc.Client) {
				assert.ErrorContains(t, c.Call(t.Context(), tt.program, tt.procedure, tt.args, nil), "only listens")
			})
			require.Len(t, want, 1)
			require.Len(t, got, 1)
			assert.Equal(t, uint32(1), got[0].Serial)
			want[0].Serial = got[0].Serial // theirs has opened the connection before
			assert.Equal(t, want[0].Header, got[0].Header)
			assert.Equal(t, want[0].Bytes(), got[0].Bytes())
		})
	}
}
