package kvm

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

func TestParseOptions(t *testing.T) {
	for _, tc := range []struct {
		uri  string
		want Options
		err  string
	}{
		{"kvm:///session", Options{}, ""},
		{"kvm:///system", Options{System: true}, ""},
		{"kvm:///session?isolation=none&decompress=guest&state=/s&run=/r&cache=/c&vmm=/v&device=/d", Options{
			StateDir: "/s", RunDir: "/r", CacheDir: "/c", Isolation: IsolationNone, Decompress: DecompressGuest, VMM: "/v", Device: "/d",
		}, ""},
		{"kvm:///", Options{}, "kvm:///session or kvm:///system"},
		{"kvm:///other", Options{}, `"/other"`},
	} {
		u, err := polyvisor.ParseURI(tc.uri)
		require.NoError(t, err)
		o, err := parseOptions(u, polyvisor.OpenOptions{})
		if tc.err != "" {
			require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
			require.ErrorContains(t, err, tc.err)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, tc.want, o)
		again, err := polyvisor.ParseURI(o.uri().String())
		require.NoError(t, err)
		o2, err := parseOptions(again, polyvisor.OpenOptions{})
		require.NoError(t, err)
		require.Equal(t, o, o2)
	}
}

func TestDefaultDirectories(t *testing.T) {
	t.Setenv("HOME", "/home/u")
	t.Setenv("XDG_STATE_HOME", "/xdg/state")
	t.Setenv("XDG_CACHE_HOME", "relative/is/ignored")
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Setenv("TMPDIR", "/of/this/program/alone")
	o, err := Options{}.withDefaults()
	require.NoError(t, err)
	require.Equal(t, "/xdg/state/polyvisor", o.StateDir)
	require.Equal(t, "/home/u/.cache/polyvisor", o.CacheDir)
	require.True(t, strings.HasPrefix(o.RunDir, "/tmp/polyvisor-"), o.RunDir)
	require.Equal(t, "/dev/kvm", o.Device)

	o, err = Options{System: true}.withDefaults()
	require.NoError(t, err)
	require.Equal(t, []string{"/var/lib/polyvisor", "/run/polyvisor", "/var/cache/polyvisor"}, []string{o.StateDir, o.RunDir, o.CacheDir})
}

func TestBadOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"isolation":  {Isolation: "jail"},
		"decompress": {Decompress: "sideways"},
		"absolute":   {StateDir: "relative"},
	} {
		_, err := o.withDefaults()
		require.ErrorIs(t, err, polyvisor.ErrInvalidConfig, name)
		require.ErrorContains(t, err, name)
	}
}

func TestDirectoriesOf(t *testing.T) {
	t.Setenv("HOME", "/home/u")
	t.Setenv("XDG_STATE_HOME", "")
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/7")
	for uri, want := range map[string]Directories{
		"kvm:///session":              {"/home/u/.local/state/polyvisor", "/run/user/7/polyvisor", "/home/u/.cache/polyvisor"},
		"kvm:///session?run=/r":       {"/home/u/.local/state/polyvisor", "/r", "/home/u/.cache/polyvisor"},
		"kvm:///system?state=/s":      {"/s", "/run/polyvisor", "/var/cache/polyvisor"},
		"kvm:///system?cache=/c%20/d": {"/var/lib/polyvisor", "/run/polyvisor", "/c /d"},
	} {
		u, err := polyvisor.ParseURI(uri)
		require.NoError(t, err)
		got, err := DirectoriesOf(u)
		require.NoError(t, err)
		require.Equal(t, want, got, uri)
	}
	for _, uri := range []string{"kvm:///other", "kvm:///session?state=relative"} {
		u, err := polyvisor.ParseURI(uri)
		require.NoError(t, err)
		_, err = DirectoriesOf(u)
		require.ErrorIs(t, err, polyvisor.ErrInvalidConfig, uri)
	}
}
