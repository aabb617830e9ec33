package polyvisor_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

func TestParseURI(t *testing.T) {
	for _, tt := range []struct {
		in     string
		want   polyvisor.URI
		remote bool
		out    string // if not as in
	}{
		{in: "kvm:///session", want: polyvisor.URI{Scheme: "kvm", Path: "/session"}},
		{in: "kvm:///", want: polyvisor.URI{Scheme: "kvm", Path: "/"}},
		{in: "kvm://", want: polyvisor.URI{Scheme: "kvm"}},
		{in: "KVM:///session", want: polyvisor.URI{Scheme: "kvm", Path: "/session"}, out: "kvm:///session"},
		{in: "kvm:///session?state=/a%20b&isolation=none", out: "kvm:///session?isolation=none&state=%2Fa+b",
			want: polyvisor.URI{Scheme: "kvm", Path: "/session", Query: url.Values{"state": {"/a b"}, "isolation": {"none"}}}},
		{in: "kvm:///session?flag", out: "kvm:///session?flag=", want: polyvisor.URI{Scheme: "kvm", Path: "/session", Query: url.Values{"flag": {""}}}},
		{in: "kvm:////double//slash", want: polyvisor.URI{Scheme: "kvm", Path: "//double//slash"}},
		{in: "qemu+ssh://me@host:2222/system", remote: true,
			want: polyvisor.URI{Scheme: "qemu", Transport: "ssh", User: "me", Host: "host:2222", Path: "/system"}},
		{in: "qemu+unix:///system?socket=/run/x", remote: true, out: "qemu+unix:///system?socket=%2Frun%2Fx",
			want: polyvisor.URI{Scheme: "qemu", Transport: "unix", Path: "/system", Query: url.Values{"socket": {"/run/x"}}}},
		{in: "test://[fe80::1%25eth0]:16509/default", remote: true, want: polyvisor.URI{Scheme: "test", Host: "[fe80::1%eth0]:16509", Path: "/default"}},
		{in: "qemu://host", remote: true, want: polyvisor.URI{Scheme: "qemu", Host: "host"}},
		{in: "kvm://me@/session", want: polyvisor.URI{Scheme: "kvm", User: "me", Path: "/session"}},
		{in: "kvm:///home/a@b:c/state", want: polyvisor.URI{Scheme: "kvm", Path: "/home/a@b:c/state"}},
		{in: "qemu+ssh://host:22/home/a@b", remote: true, want: polyvisor.URI{Scheme: "qemu", Transport: "ssh", Host: "host:22", Path: "/home/a@b"}},
	} {
		t.Run(tt.in, func(t *testing.T) {
			u, err := polyvisor.ParseURI(tt.in)
			require.NoError(t, err)
			if tt.want.Query == nil {
				tt.want.Query = url.Values{}
			}
			assert.Equal(t, tt.want, *u)
			assert.Equal(t, tt.remote, u.Remote())
			out := tt.out
			if out == "" {
				out = tt.in
			}
			assert.Equal(t, out, u.String())
			again, err := polyvisor.ParseURI(u.String())
			require.NoError(t, err)
			assert.Equal(t, u, again)
		})
	}
	u := polyvisor.URI{Scheme: "kvm"}
	assert.Equal(t, "kvm://", u.String())
	assert.Empty(t, u.Param("state"), "no Query at all")
}

func TestParseURIErrors(t *testing.T) {
	for in, want := range map[string]string{
		"":                          "connection URI: it is empty",
		"session":                   "no driver; want DRIVER:///PATH",
		"/session":                  "no driver",
		"kvm":                       "no driver",
		"kvm:session":               "want three slashes, as in kvm:///session",
		"kvm:/session":              "want three slashes, as in kvm:///session",
		"kvm:/session?x=://":        "want three slashes, as in kvm:///session",
		"kvm+:///session":           "no transport after '+'",
		"+ssh:///session":           "missing protocol scheme|first path segment",
		"kvm:///session#part":       "a fragment .#part. has no meaning",
		"kvm:///session?a=1&a=2":    "parameter a is given 2 times",
		"kvm:///session?a;b":        "invalid semicolon separator in query",
		"kvm:///session?a=%zz":      `invalid URL escape "%zz"`,
		"kvm:///%zz":                `invalid URL escape "%zz"`,
		"kvm://host:/x":             "no port after the ':' of the host",
		"kvm://host:port/":          "invalid port",
		"kvm:///a\x00b":             "invalid control character in URL",
		"kvm://[::1/":               "missing ']' in host",
		"qemu+ssh://me:pw@host/sys": "a password in a URI is refused",
		"qemu+ssh://me:@host/sys":   "a password in a URI is refused",
		"qemu+ssh://:pw@host/sys":   "a password in a URI is refused",
	} {
		t.Run(in, func(t *testing.T) {
			u, err := polyvisor.ParseURI(in)
			require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
			assert.Nil(t, u)
			assert.Regexp(t, strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(want, "+", `\+`), "[", `\[`), "]", `\]`), err.Error())
		})
	}
}

// A password is not repeated by any error, however wrong the rest is.
func TestParseURINeverRepeatsAPassword(t *testing.T) {
	for _, in := range []string{
		"qemu+ssh://me:hunter2@host/system",
		"qemu+ssh://:hunter2@host/system",
		"qemu+ssh://me:hunter2@host/system?a=1&a=2",
		"qemu+ssh://me:hunter2@host/system#part",
		"qemu+://me:hunter2@host/system",
		"qemu+ssh://me:hunter2@host:port/system",
		"qemu+ssh://me:hunter2@[::1/system",
		"qemu+ssh://me:hunter2@host/%zz",
		"qemu+ssh://me:hunter2 @host/",
		"qemu+ssh://me:hunter2%@host/",
		"qemu+ssh://me:hunter2%hu@host/",
		"qemu+ssh://me:/hunter2@host/",
		"qemu+ssh://me:hun/hunter2@host/",
		"qemu+ssh://me:#hunter2@host/",
		"qemu+ssh://me:?hunter2@host/?a;b",
		"qemu+ssh://me:?hunter2=1&hunter2=2@host/",
		"qemu+ssh://me:\x7fhunter2@host/",
		"qemu:me:hunter2@host/",
		"//me:hunter2@host/system",
		"me:hunter2@host",
		"://me:hunter2@host",
	} {
		t.Run(in, func(t *testing.T) {
			u, err := polyvisor.ParseURI(in)
			require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
			assert.Nil(t, u)
			assert.NotContains(t, err.Error(), "hun")
			_, err = polyvisor.Open(t.Context(), in, polyvisor.WithRegistry(new(polyvisor.Registry)))
			assert.NotContains(t, err.Error(), "hun")
		})
	}
}

func FuzzParseURI(f *testing.F) {
	for _, s := range []string{
		"kvm:///session", "kvm:///session?state=/a&isolation=none", "qemu+ssh://me@host:22/system?keyfile=/k", "test://[fe80::1%25lo]/default",
		"kvm:", "kvm:////a//b", "kvm:///%2f%3f%23%00", "a+b+c://x", "kvm://me:pw@h/", "kvm:///a b?c=d e", "kvm://h%41/", "kvm:///a#", "kvm://@/", "kvm:///?&&",
		"kvm://h:/x", "kvm:///a?x=://", "kvm://host:1/p@q",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := polyvisor.ParseURI(s)
		if err != nil {
			if u != nil {
				t.Error("a URI with an error")
			}
			if polyvisor.CodeOf(err) != polyvisor.CodeInvalidConfig {
				t.Errorf("class of %v", err)
			}
			return
		}
		out := u.String()
		again, err := polyvisor.ParseURI(out)
		if err != nil {
			t.Fatalf("%q became %q: %v", s, out, err)
		}
		if !assert.ObjectsAreEqual(u, again) {
			t.Errorf("%q became %q: %#v, was %#v", s, out, again, u)
		}
		if again.String() != out {
			t.Errorf("%q became %q, then %q", s, out, again.String())
		}
		if u.Path != "" && u.Path[0] != '/' {
			t.Errorf("%q: path %q", s, u.Path)
		}
	})
}
