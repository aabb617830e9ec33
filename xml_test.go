package polyvisor_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

// rawDomain connects to a driver that takes XML as it is.
func rawDomain(t *testing.T, s polyvisor.State, opts ...polyvisor.Option) (*polyvisor.Domain, *recorder) {
	t.Helper()
	r := newRecorder(t)
	conn := polyvisor.NewConn(rawDriver{r}, nil, opts...)
	t.Cleanup(func() { _ = conn.Close() })
	r.put("dom", s)
	dom, err := conn.Domain(t.Context(), "dom")
	require.NoError(t, err)
	r.log()
	return dom, r
}

// A codec stands between XML and a driver of Configs.
func TestXMLByCodec(t *testing.T) {
	conn, r := connect(t, nil)
	dom, err := conn.DefineXML(t.Context(), "<domain><name>a</name></domain>")
	require.NoError(t, err)
	require.Len(t, r.given, 1)
	assert.Equal(t, polyvisor.DefaultMemory, r.given[0].Memory, "with its defaults")
	text, err := dom.XML(t.Context())
	require.NoError(t, err)
	require.NoError(t, dom.Undefine(t.Context()))
	again, err := conn.CreateXML(t.Context(), text, polyvisor.StartPaused())
	require.NoError(t, err)
	assert.Equal(t, dom.UUID(), again.UUID(), "XML makes the same domain again")
	assert.True(t, r.started.Paused)

	for _, bad := range []string{"", "<domain>", "<domain/>"} {
		_, err := conn.DefineXML(t.Context(), bad)
		require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
	}
	r.setScript(failOn("config", polyvisor.ErrConnLost))
	_, err = dom.XML(t.Context())
	require.ErrorIs(t, err, polyvisor.ErrConnLost)
}

func TestXMLNeedsWhatItSays(t *testing.T) {
	conn, r := connect(t, without(polyvisor.FeatureTransient, polyvisor.FeatureDevices))
	r.log()
	_, err := conn.CreateXML(t.Context(), "nonsense")
	require.ErrorIs(t, err, polyvisor.ErrUnsupported)
	dom, err := conn.DefineXML(t.Context(), "<domain><name>a</name></domain>")
	require.NoError(t, err)
	require.ErrorIs(t, dom.AttachDeviceXML(t.Context(), diskXML), polyvisor.ErrUnsupported)
}

func TestXMLAsItIs(t *testing.T) {
	dom, r := rawDomain(t, polyvisor.Running)
	conn := dom.Conn()
	_, err := conn.DefineXML(t.Context(), "<domain><name>a</name></domain>")
	require.NoError(t, err)
	_, err = conn.CreateXML(t.Context(), "<domain><name>b</name></domain>", polyvisor.StartPaused())
	require.NoError(t, err)
	assert.Equal(t, []string{"define xml", "create xml"}, r.log())
	assert.True(t, r.started.Paused)
	text, err := dom.XML(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "<raw/>", text)
	r.log()
	require.NoError(t, dom.AttachDeviceXML(t.Context(), "<a/>"))
	require.NoError(t, dom.UpdateDeviceXML(t.Context(), "<u/>"))
	require.NoError(t, dom.DetachDeviceXML(t.Context(), "<d/>"))
	assert.Equal(t, []string{"state", "attach xml", "state", "update xml", "state", "detach xml"}, r.log())
	labels, err := dom.Labels(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "<d/>", labels["xml"])
	assert.Zero(t, conn.Slots())
}

func TestXMLAsItIsReadOnly(t *testing.T) {
	dom, r := rawDomain(t, polyvisor.Running, polyvisor.ReadOnly())
	for _, err := range []error{
		second(dom.Conn().DefineXML(t.Context(), "")), second(dom.Conn().CreateXML(t.Context(), "")),
		dom.AttachDeviceXML(t.Context(), ""), dom.DetachDeviceXML(t.Context(), ""), dom.UpdateDeviceXML(t.Context(), ""),
	} {
		require.ErrorIs(t, err, polyvisor.ErrReadOnly)
	}
	assert.Empty(t, r.log())
	_, err := dom.XML(t.Context())
	require.NoError(t, err)
}
