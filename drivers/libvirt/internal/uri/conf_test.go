package uri

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const sampleConf = `# client configuration
uri_aliases = [
  "hail=qemu+ssh://root@hail.cloud.example.com/system", # one
  'sleet=qemu+ssh://root@sleet.cloud.example.com/system?no_tty=1',
]
uri_default = "qemu:///system"
remote_mode="legacy"
	remote_proxy = 'netcat'   # comment
future.setting = [1, "two", -3,]
text = """several
lines"""
number = 42`

func TestConfig(t *testing.T) {
	c, err := ParseConfig("f", []byte(sampleConf))
	require.NoError(t, err)
	assert.Equal(t, "qemu:///system", c.Default)
	assert.Equal(t, ModeLegacy, c.Mode)
	assert.Equal(t, ProxyNetcat, c.Proxy)
	got, ok := c.Alias("sleet")
	assert.True(t, ok)
	assert.Equal(t, "qemu+ssh://root@sleet.cloud.example.com/system?no_tty=1", got)
	_, ok = c.Alias("rain")
	assert.False(t, ok)

	empty, err := ParseConfig("f", nil)
	require.NoError(t, err)
	assert.Equal(t, &Config{file: "f"}, empty)
}

func TestConfigErrors(t *testing.T) {
	for _, c := range []struct{ text, says string }{
		{"uri_default", "f: line 1: want '=' after uri_default, not the end of the file"},
		{"\n\nuri_default = ", "line 3: want a value, not the end of the file"},
		{"uri_default = qemu", "line 1: want a number, a string in quotes or a list, not 'q'"},
		{"uri_default = \"a\nb\"", "line 1: a string begins and does not end"},
		{"a = \"\"\"x\ny", "line 1: a string begins and does not end"},
		{"uri_default = 'a' 'b'", "line 1: want the end of the line"},
		{"= 3", "line 1: want NAME = VALUE, not '='"},
		{"x = -", "want a number after '-'"},
		{"x = [ 1 2 ]", "want ',' or ']' in the list that begins in line 1"},
		{"x = [ [1] ]", "not '['"},
		{"x = [ 1,\n\n", "line 3: want a value, not the end of the file"},
		{"uri_default = 3", "uri_default: want a string"},
		{"\nuri_aliases = 'a=b'", "line 2: uri_aliases: want a list"},
		{"uri_aliases = [ 'a b=qemu:///' ]", `want "NAME=URI"`},
		{"uri_aliases = [ 'a' ]", `want "NAME=URI"`},
		{"uri_aliases = [ 5 ]", "want a string"},
		{"remote_mode = 'odd'", "remote_mode: want auto, direct, legacy"},
		{"remote_proxy = 'odd'", "remote_proxy: want auto"},
		{strings.Repeat(" ", maxConfig+1), "more than"},
	} {
		_, err := ParseConfig("f", []byte(c.text))
		if assert.ErrorIs(t, err, ErrInvalid, c.text) {
			assert.Contains(t, err.Error(), c.says, c.text)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(sampleConf))
	f.Add([]byte("uri_aliases = [ 'a=b', ]\n#"))
	f.Add([]byte("a=[\n]b"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := ParseConfig("f", text); err != nil {
			require.ErrorIs(t, err, ErrInvalid)
		}
	})
}

// environment makes a host with a libvirt.conf of its own.
func environment(t *testing.T, euid int, conf string, vars map[string]string) Env {
	t.Helper()
	dir := t.TempDir()
	e := Env{Getenv: func(k string) string { return vars[k] }, EUID: euid, Home: filepath.Join(dir, "home"), Etc: filepath.Join(dir, "etc"), SystemDir: filepath.Join(dir, "run")}
	if conf != "" {
		require.NoError(t, os.MkdirAll(filepath.Dir(e.ConfigFile()), 0o755))
		require.NoError(t, os.WriteFile(e.ConfigFile(), []byte(conf), 0o644))
	}
	return e
}

func TestResolve(t *testing.T) {
	for _, c := range []struct {
		name, uri, conf, variable string
		euid                      int
		want                      string
	}{
		{"a URI", "test:///default", "", "xen:///", 7, "test:///default"},
		{"the variable", "", sampleConf, "xen:///system", 7, "xen:///system"},
		{"the variable names an alias", "", sampleConf, "hail", 7, "qemu:///system"},
		{"uri_default", "", sampleConf, "", 7, "qemu:///system"},
		{"uri_default of root", "", sampleConf, "", 0, "qemu:///system"},
		{"uri_default is an alias", "", "uri_default='x'\nuri_aliases=['x=lxc:///system']", "", 0, "lxc:///system"},
		{"an alias", "hail", sampleConf, "", 7, "qemu:///system"},
	} {
		env := environment(t, c.euid, c.conf, map[string]string{"LIBVIRT_DEFAULT_URI": c.variable})
		target, err := Resolve(c.uri, env)
		require.NoError(t, err, c.name)
		assert.Equal(t, c.want, target.Name, c.name)
	}
}

func TestResolveFillsIn(t *testing.T) {
	env := environment(t, 7, sampleConf, nil)
	target, err := Resolve("hail", env)
	require.NoError(t, err)
	assert.Equal(t, "hail.cloud.example.com", target.Host)
	assert.Equal(t, ModeLegacy, target.Mode)
	assert.Equal(t, ProxyNetcat, target.Proxy)
	target, err = Resolve("qemu+ssh://h/system?mode=auto&proxy=auto", env)
	require.NoError(t, err)
	assert.Equal(t, ModeAuto, target.Mode)
	assert.Equal(t, ProxyAuto, target.Proxy)
}

func TestResolveProbes(t *testing.T) {
	env := environment(t, 7, "", nil)
	_, err := Resolve("", env)
	require.ErrorIs(t, err, ErrInvalid)
	assert.Contains(t, err.Error(), "set LIBVIRT_DEFAULT_URI")

	listen(t, filepath.Join(env.SystemDir, "libvirt-sock"))
	target, err := Resolve("", env)
	require.NoError(t, err)
	assert.Equal(t, "qemu:///system", target.Name)

	listen(t, filepath.Join(env.RuntimeDir(), "virtqemud-sock"))
	target, err = Resolve("", env)
	require.NoError(t, err)
	assert.Equal(t, "qemu:///session", target.Name)

	env.EUID = 0
	target, err = Resolve("", env)
	require.NoError(t, err)
	assert.Equal(t, "qemu:///system", target.Name)
}

func TestResolveErrors(t *testing.T) {
	for _, c := range []struct{ uri, conf, variable, says string }{
		{"rain", sampleConf, "", `"rain" is neither a URI such as qemu:///system nor an alias in uri_aliases of `},
		{"", "", "rain", `LIBVIRT_DEFAULT_URI: "rain" is neither`},
		{"", "", "qemu+x://h/", "LIBVIRT_DEFAULT_URI: "},
		{"a", "uri_aliases=['a=qemu+x://h/']", "", "alias a in "},
		{"test:///default", "uri_default", "", "line 1"},
	} {
		_, err := Resolve(c.uri, environment(t, 7, c.conf, map[string]string{"LIBVIRT_DEFAULT_URI": c.variable}))
		if assert.ErrorIs(t, err, ErrInvalid, c.says) {
			assert.Contains(t, err.Error(), c.says)
		}
	}
}
