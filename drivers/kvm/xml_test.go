//go:build linux && amd64

package kvm_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

func TestXML(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c, ctx := p.open(t), patiently(t)
		cfg := config("x", "auto=echo from xml")
		cfg.VCPUs, cfg.Title, cfg.Labels = 2, "a <title>", map[string]string{"a": "b"}
		cfg.OnCrash = polyvisor.ActionRestart
		d := define(t, c, cfg)
		xml, err := d.XML(ctx)
		require.NoError(t, err)
		require.Contains(t, xml, "type=\"kvm\"")
		before := configOf(t, d)
		require.NoError(t, d.Undefine(ctx))

		d, err = c.DefineXML(ctx, xml)
		require.NoError(t, err)
		require.Equal(t, before, configOf(t, d))
		require.NoError(t, d.Start(ctx))
		con := console(t, d)
		con.ready(t)
		require.Contains(t, con.String(), "from xml")
		running, err := d.XML(ctx)
		require.NoError(t, err)
		require.Equal(t, xml, running)
		require.NoError(t, d.Remove(ctx))

		d, err = c.CreateXML(ctx, xml, polyvisor.StartPaused())
		require.NoError(t, err)
		require.Equal(t, polyvisor.Paused, state(t, d))
		require.False(t, info(t, d).Persistent)

		_, err = c.DefineXML(ctx, "<domain type='kvm'><name>y</name><memory>65536</memory><devices><sound model='ich6'/></devices></domain>")
		requireCode(t, err, polyvisor.ErrInvalidConfig, "sound")
	})
}
