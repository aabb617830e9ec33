package polyvisor_test

import (
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

// inState connects to a driver with one domain, "dom".
func inState(t *testing.T, s polyvisor.State, setup func(*recorder), opts ...polyvisor.Option) (*polyvisor.Domain, *recorder) {
	t.Helper()
	conn, r := connect(t, setup, opts...)
	r.put("dom", s)
	dom, err := conn.Domain(t.Context(), "dom")
	require.NoError(t, err)
	r.log()
	return dom, r
}

func TestAttachDefaults(t *testing.T) {
	dom, r := inState(t, polyvisor.Running, nil)
	mine := &polyvisor.Disk{Source: polyvisor.Path("/a")}
	for _, target := range []string{"vda", "vdb"} {
		require.NoError(t, dom.AttachDevice(t.Context(), mine))
		assert.Equal(t, &polyvisor.Disk{Target: target, Source: polyvisor.Path("/a"), Format: polyvisor.FormatRaw}, r.device)
	}
	assert.Equal(t, &polyvisor.Disk{Source: polyvisor.Path("/a")}, mine, "the caller's stays as it was")

	nic := &polyvisor.NIC{}
	require.NoError(t, dom.AttachDevice(t.Context(), nic))
	assert.True(t, nic.MAC.IsZero())
	c, err := dom.Config(t.Context())
	require.NoError(t, err)
	require.Len(t, c.NICs, 1)
	assert.Equal(t, polyvisor.NetworkUser, c.NICs[0].Network)
	require.NoError(t, dom.DetachDevice(t.Context(), &c.NICs[0]), "Config tells its address")

	share := &polyvisor.Share{Tag: "home", Source: "/home"}
	require.NoError(t, dom.AttachDevice(t.Context(), share))
	assert.NotSame(t, share, r.device, "the driver's is its own")
	require.ErrorIs(t, dom.AttachDevice(t.Context(), share), polyvisor.ErrExists)
	require.NoError(t, dom.AttachDevice(t.Context(), &polyvisor.RNG{}))
	require.ErrorIs(t, dom.AttachDevice(t.Context(), &polyvisor.RNG{}), polyvisor.ErrExists)
}

// To be detached a device needs its name and nothing else, and nothing else
// reaches the driver.
func TestDetachByName(t *testing.T) {
	for _, tt := range []struct{ device, bare polyvisor.Device }{
		{&polyvisor.Disk{Target: "vdb", Source: polyvisor.Path("/b")}, &polyvisor.Disk{Target: "vdb"}},
		{&polyvisor.NIC{MAC: polyvisor.MAC{2}, MTU: 1400}, &polyvisor.NIC{MAC: polyvisor.MAC{2}}},
		{&polyvisor.Share{Tag: "t", Source: "/t"}, &polyvisor.Share{Tag: "t"}},
		{&polyvisor.RNG{Source: "/dev/hwrng"}, &polyvisor.RNG{}},
	} {
		for _, by := range []polyvisor.Device{tt.device, tt.bare} {
			dom, r := inState(t, polyvisor.Running, nil)
			require.NoError(t, dom.AttachDevice(t.Context(), tt.device))
			require.NoError(t, dom.DetachDevice(t.Context(), by))
			assert.Equal(t, tt.bare, r.device)
			require.ErrorIs(t, dom.DetachDevice(t.Context(), by), polyvisor.ErrNotFound)
			require.ErrorIs(t, dom.UpdateDevice(t.Context(), tt.device), polyvisor.ErrNotFound)
		}
	}
}

func TestUpdateDevice(t *testing.T) {
	dom, _ := inState(t, polyvisor.Shutoff, nil)
	require.NoError(t, dom.AttachDevice(t.Context(), &polyvisor.Disk{Target: "vdb", Source: polyvisor.Path("/b")}))
	require.NoError(t, dom.UpdateDevice(t.Context(), &polyvisor.Disk{Target: "vdb", Source: polyvisor.Path("/c"), Mode: polyvisor.DeviceReadOnly}))
	c, err := dom.Config(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "/c", c.Disks[0].Source.Path)
	assert.False(t, c.Disks[0].Mode.Writable())
	assert.Equal(t, polyvisor.FormatRaw, c.Disks[0].Format, "defaults are filled in")
}

// wrapped is a Device of another package, which embedding makes possible.
type wrapped struct{ *polyvisor.Disk }

func TestWrongDevices(t *testing.T) {
	dom, r := inState(t, polyvisor.Running, nil)
	for _, f := range []func(*polyvisor.Domain, context.Context, polyvisor.Device) error{
		(*polyvisor.Domain).AttachDevice, (*polyvisor.Domain).DetachDevice, (*polyvisor.Domain).UpdateDevice,
	} {
		for _, d := range []polyvisor.Device{
			nil, (*polyvisor.Disk)(nil), (*polyvisor.NIC)(nil), (*polyvisor.Share)(nil), (*polyvisor.RNG)(nil), wrapped{&polyvisor.Disk{}}, &wrapped{},
		} {
			require.ErrorIs(t, f(dom, t.Context(), d), polyvisor.ErrInvalidConfig)
		}
	}
	for _, tt := range []struct {
		call func(context.Context, polyvisor.Device) error
		dev  polyvisor.Device
		want string
	}{
		{dom.AttachDevice, &polyvisor.Disk{}, `disk "": no source`},
		{dom.AttachDevice, &polyvisor.Share{}, `share: tag ""`},
		{dom.AttachDevice, &polyvisor.NIC{MTU: 1}, "MTU 1"},
		{dom.AttachDevice, &polyvisor.NIC{Forwards: []polyvisor.PortForward{{}}}, "no host port"},
		{dom.AttachDevice, &polyvisor.RNG{Source: "\x00"}, "rng: the path contains a NUL"},
		{dom.AttachDevice, &polyvisor.Disk{Source: polyvisor.File{Path: "/a", Open: os.Stdin}}, "both a path and an open file"},
		{dom.DetachDevice, &polyvisor.Disk{}, "disk: which one?"},
		{dom.DetachDevice, &polyvisor.NIC{}, "NIC: which one?"},
		{dom.DetachDevice, &polyvisor.Share{}, "share: which one?"},
		{dom.UpdateDevice, &polyvisor.Disk{Source: polyvisor.Path("/a")}, "disk: which one?"},
		{dom.UpdateDevice, &polyvisor.Disk{Target: "vda"}, "no source"},
	} {
		if d, ok := tt.dev.(*polyvisor.Disk); ok && d.Source.Open != nil {
			f, err := os.Open(os.DevNull)
			require.NoError(t, err)
			d.Source.Open = f
		}
		err := tt.call(t.Context(), tt.dev)
		require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
		require.ErrorContains(t, err, tt.want)
	}
	assert.Empty(t, r.log())
}

func TestDeviceKindsAreFeatures(t *testing.T) {
	for feature, dev := range map[polyvisor.Feature]polyvisor.Device{
		polyvisor.FeatureDisks: &polyvisor.Disk{Source: polyvisor.Path("/a")}, polyvisor.FeatureNICs: &polyvisor.NIC{},
		polyvisor.FeaturePortForwards: &polyvisor.NIC{Forwards: []polyvisor.PortForward{{HostPort: 80}}},
		polyvisor.FeatureHostLoopback: &polyvisor.NIC{HostLoopback: true},
		polyvisor.FeatureShares:       &polyvisor.Share{Tag: "t", Source: "/t"}, polyvisor.FeatureRNG: &polyvisor.RNG{},
	} {
		dom, r := inState(t, polyvisor.Running, without(feature))
		var unsupported *polyvisor.UnsupportedError
		require.ErrorAs(t, dom.AttachDevice(t.Context(), dev), &unsupported)
		assert.Equal(t, feature, unsupported.Feature)
		assert.Empty(t, r.log())
	}
}

// An open file is closed after the call, whatever became of it.
func TestDeviceOpenFiles(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name  string
		state polyvisor.State
		setup func(*recorder)
		opts  []polyvisor.Option
		ctx   context.Context
		edit  func(*polyvisor.Disk)
		call  func(*polyvisor.Domain, context.Context, polyvisor.Device) error
		want  error
		taken bool // the driver got it, open
	}{
		{name: "success", taken: true},
		{name: "driver fails", setup: func(r *recorder) { r.script = failOn("attach device", polyvisor.ErrNoResource) }, want: polyvisor.ErrNoResource},
		{name: "inactive", state: polyvisor.Shutoff, want: polyvisor.ErrInvalidConfig},
		{name: "crashed", state: polyvisor.Crashed, want: polyvisor.ErrInvalidConfig},
		{name: "wrong device", edit: func(d *polyvisor.Disk) { d.Format = "x" }, want: polyvisor.ErrInvalidConfig},
		{name: "read-only", opts: []polyvisor.Option{polyvisor.ReadOnly()}, want: polyvisor.ErrReadOnly},
		{name: "no devices", setup: without(polyvisor.FeatureDevices), want: polyvisor.ErrUnsupported},
		{name: "no open files", setup: without(polyvisor.FeatureOpenFiles), want: polyvisor.ErrUnsupported},
		{name: "ended context", ctx: ended, want: context.Canceled},
		{name: "detach", call: (*polyvisor.Domain).DetachDevice, want: polyvisor.ErrNotFound},
		{name: "update", call: (*polyvisor.Domain).UpdateDevice, want: polyvisor.ErrNotFound, taken: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			state := tt.state
			if state == polyvisor.NoState {
				state = polyvisor.Running
			}
			dom, r := inState(t, state, tt.setup, tt.opts...)
			f, w, err := os.Pipe()
			require.NoError(t, err)
			defer w.Close()
			disk := &polyvisor.Disk{Target: "vdb", Source: polyvisor.OpenFile(f)}
			if tt.edit != nil {
				tt.edit(disk)
			}
			ctx, call := tt.ctx, tt.call
			if ctx == nil {
				ctx = t.Context()
			}
			if call == nil {
				call = (*polyvisor.Domain).AttachDevice
			}
			if err := call(dom, ctx, disk); tt.want != nil {
				require.ErrorIs(t, err, tt.want)
			} else {
				require.NoError(t, err)
			}
			_, err = f.Stat()
			require.ErrorIs(t, err, os.ErrClosed)
			assert.Equal(t, tt.taken, len(r.filesOpen) == 1 && r.filesOpen[0])
		})
	}
}

// What crashed and is preserved is active.
func TestOpenFileForAPreservedDomain(t *testing.T) {
	dom, r := inState(t, polyvisor.Crashed, nil)
	r.preserve(dom.UUID())
	f, err := os.Open(os.DevNull)
	require.NoError(t, err)
	require.NoError(t, dom.AttachDevice(t.Context(), &polyvisor.Disk{Source: polyvisor.OpenFile(f)}))
}

func TestConfigFailureStopsTheAttach(t *testing.T) {
	dom, r := inState(t, polyvisor.Running, nil)
	r.setScript(failOn("config", polyvisor.ErrConnLost))
	require.ErrorIs(t, dom.AttachDevice(t.Context(), &polyvisor.NIC{}), polyvisor.ErrConnLost)
	assert.Equal(t, []string{"state", "config"}, r.log())
}

func TestDeviceModes(t *testing.T) {
	for i, word := range []string{"default", "ro", "rw", "rw-force"} {
		m := polyvisor.DeviceMode(i)
		assert.Equal(t, word, m.String())
		var back polyvisor.DeviceMode
		require.NoError(t, back.UnmarshalText([]byte(word)))
		assert.Equal(t, m, back)
		assert.Equal(t, m != polyvisor.DeviceReadOnly, m.Writable())
	}
	assert.Equal(t, "device mode 4", polyvisor.DeviceMode(4).String())
	require.EqualError(t, new(polyvisor.DeviceMode).UnmarshalText([]byte("x")), `unknown device mode "x"`)
	for i, word := range []string{"offline", "running", "blocked"} {
		var back polyvisor.VCPUState
		require.NoError(t, back.UnmarshalText([]byte(word)))
		assert.Equal(t, polyvisor.VCPUState(i), back)
		text, err := back.MarshalText()
		require.NoError(t, err)
		assert.Equal(t, word, string(text))
	}
}

func FuzzParseMAC(f *testing.F) {
	for _, s := range []string{"52:54:00:12:34:56", "52-54-00-12-34-56", "5254.0012.3456", "", "00:00:00:00:00:00:00:00", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := polyvisor.ParseMAC(text)
		if err != nil {
			if polyvisor.CodeOf(err) != polyvisor.CodeInvalidConfig || !m.IsZero() {
				t.Errorf("%v, %v", m, err)
			}
			return
		}
		var back polyvisor.MAC
		if err := back.UnmarshalText([]byte(m.String())); err != nil || back != m {
			t.Errorf("%q came back as %q, %v", m, back, err)
		}
	})
}

// A file that is closed is named before any driver meets it.
func TestClosedFiles(t *testing.T) {
	closed := func() polyvisor.File {
		f, err := os.Open(os.DevNull)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		return polyvisor.File{Open: f}
	}
	dom, r := inState(t, polyvisor.Running, nil)
	for field, call := range map[string]func() error{
		"console.out": func() error {
			return (&polyvisor.Config{Name: "a", Console: polyvisor.ConsoleConfig{Out: closed()}}).Validate()
		},
		"boot.kernel": func() error {
			return second(dom.Conn().Create(t.Context(), &polyvisor.Config{Name: "a", Boot: polyvisor.Boot{Kernel: closed()}}))
		},
		"disks[0].source": func() error {
			return second(dom.Conn().Create(t.Context(), &polyvisor.Config{Name: "a", Disks: []polyvisor.Disk{{Source: closed()}}}))
		},
		`disk "vdb"`: func() error { return dom.AttachDevice(t.Context(), &polyvisor.Disk{Target: "vdb", Source: closed()}) },
		`disk "vdc"`: func() error { return dom.UpdateDevice(t.Context(), &polyvisor.Disk{Target: "vdc", Source: closed()}) },
	} {
		err := call()
		require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
		require.ErrorIs(t, err, os.ErrClosed)
		require.ErrorContains(t, err, field+": the open file cannot be used")
		assert.Equal(t, polyvisor.CodeInvalidConfig, polyvisor.CodeOf(err))
	}
	assert.Empty(t, r.log())
}
