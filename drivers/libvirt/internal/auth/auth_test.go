package auth

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/digitalocean/go-libvirt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/xdg-go/scram"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc/rpctest"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/uri"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/xdr"
	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// daemon answers calls as libvirtd would, or as it is told to.
type daemon struct {
	types    []int32
	mechs    string
	polkit   int32
	sasl     func(step int, mech string, data []byte) (complete bool, reply []byte, err error)
	step     int
	calls    []uint32
	payloads map[uint32][]byte // instead of the answer
}

func denied() error {
	return &rpc.Error{Code: libvirt.ErrAuthFailed, Message: "authentication failed: authentication failed"}
}

func (d *daemon) Call(ctx context.Context, prog, proc uint32, args func(*xdr.Writer), ret func(*xdr.Reader)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.calls = append(d.calls, proc)
	if prog != program {
		return fmt.Errorf("program %#x", prog)
	}
	var in, out xdr.Writer
	if args != nil {
		args(&in)
	}
	r := xdr.NewReader(in.Bytes())
	switch proc {
	case procAuthList:
		if d.types == nil {
			return &rpc.Error{Code: libvirt.ErrNoSupport, Message: "unknown procedure"}
		}
		out.Count(len(d.types))
		for _, t := range d.types {
			out.Int32(t)
		}
	case procPolkit:
		if d.polkit < 0 {
			return denied()
		}
		out.Int32(d.polkit)
	case procSASLInit:
		if d.mechs == noMechanism {
			return denied()
		}
		out.String(d.mechs)
	case procSASLStart, procSASLStep:
		mech := ""
		if proc == procSASLStart {
			mech = r.String()
		}
		null := r.Int32()
		data := make([]byte, r.Count(maxData, 4))
		for i := range data {
			data[i] = byte(r.Int32())
		}
		if null != 0 {
			data = nil
		}
		complete, reply, err := d.sasl(d.step, mech, data)
		d.step++
		if err != nil {
			return err
		}
		out.Bool(complete)
		encodeData(&out, reply)
	}
	if err := r.Err(); err != nil || r.Remaining() != 0 {
		return fmt.Errorf("arguments of %d: %w, %d left", proc, err, r.Remaining())
	}
	payload := out.Bytes()
	if p, ok := d.payloads[proc]; ok {
		payload = p
	}
	answer := xdr.NewReader(payload)
	if ret != nil {
		ret(answer)
	}
	return answer.Err()
}

// noMechanism has a daemon refuse to say which it has, as libvirtd does then.
const noMechanism = "none"

// scramServer keeps the password of joe. Some servers send their last message
// together with the news that all is done, others before.
func scramServer(t *testing.T, hash scram.HashGeneratorFcn, password string, early bool) func(int, string, []byte) (bool, []byte, error) {
	server, err := hash.NewServer(func(user string) (scram.StoredCredentials, error) {
		if user != "joe" {
			return scram.StoredCredentials{}, errors.New("unknown user")
		}
		client, err := hash.NewClient("joe", password, "")
		require.NoError(t, err)
		return client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "salty", Iters: 4096})
	})
	require.NoError(t, err)
	conversation := server.NewConversation()
	return func(_ int, _ string, data []byte) (bool, []byte, error) {
		if conversation.Done() {
			if data != nil {
				return false, nil, denied()
			}
			return true, nil, nil
		}
		reply, err := conversation.Step(string(data))
		if err != nil || conversation.Done() && !conversation.Valid() {
			return false, nil, denied()
		}
		return conversation.Done() && early, []byte(reply), nil
	}
}

func options(t *testing.T, s string) Options {
	t.Helper()
	target, err := uri.Parse(s)
	require.NoError(t, err)
	dir := t.TempDir()
	return Options{Target: target, Env: uri.Env{Getenv: func(string) string { return "" }, EUID: 1000, Home: filepath.Join(dir, "home"), Etc: filepath.Join(dir, "etc")}}
}

func (o Options) as(user, password string) Options {
	o.Credentials = func(context.Context, string, string) (string, string, error) { return user, password, nil }
	return o
}

func TestAuthenticate(t *testing.T) {
	for _, c := range []struct {
		name  string
		d     daemon
		uri   string
		kind  error // nil for success
		says  string
		calls []uint32
	}{
		{name: "nothing", d: daemon{types: []int32{typeNone}}, uri: "qemu:///system", calls: []uint32{66}},
		{name: "no types", d: daemon{types: []int32{}}, uri: "qemu:///system", calls: []uint32{66}},
		{name: "polkit", d: daemon{types: []int32{typePolkit}, polkit: 1}, uri: "qemu:///system", calls: []uint32{66, 70}},
		{name: "polkit says no", d: daemon{types: []int32{typePolkit}, polkit: -1}, uri: "qemu:///system", kind: ErrDenied, says: "org.libvirt.unix.manage"},
		{name: "polkit is not done", d: daemon{types: []int32{typePolkit}}, uri: "qemu:///system", kind: ErrDenied, says: "not content"},
		{name: "the first that is known", d: daemon{types: []int32{9, typePolkit, typeNone}, polkit: 1}, uri: "qemu:///system", calls: []uint32{66, 70}},
		{name: "auth= chooses", d: daemon{types: []int32{typePolkit, typeNone}}, uri: "qemu:///system?auth=none", calls: []uint32{66}},
		{name: "auth= is not offered", d: daemon{types: []int32{typePolkit, typeNone}}, uri: "qemu:///system?auth=sasl", kind: ErrUnsupported, says: "no authentication by sasl, as auth= of the URI wants it, but by polkit, none"},
		{name: "unknown", d: daemon{types: []int32{9}}, uri: "qemu:///system", kind: ErrUnsupported, says: "number 9; known here are none, polkit and sasl"},
		{name: "no mechanism is good enough", d: daemon{types: []int32{typeSASL}, mechs: noMechanism}, uri: "qemu+tcp://h/system", kind: ErrDenied, says: "use tls or ssh"},
		{name: "no mechanism is installed", d: daemon{types: []int32{typeSASL}, mechs: noMechanism}, uri: "qemu+tls://h/system", kind: ErrDenied, says: "mech_list"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Authenticate(t.Context(), &c.d, options(t, c.uri))
			if c.kind == nil {
				require.NoError(t, err)
				assert.Equal(t, c.calls, c.d.calls)
				return
			}
			require.ErrorIs(t, err, c.kind)
			assert.Contains(t, err.Error(), c.says)
		})
	}
	// Errors of the connection stay what they are.
	err := Authenticate(t.Context(), &daemon{}, options(t, "qemu:///system"))
	var reply *rpc.Error
	require.ErrorAs(t, err, &reply)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, Authenticate(ctx, &daemon{types: []int32{1}}, options(t, "qemu:///system")), context.Canceled)
}

func TestSCRAM(t *testing.T) {
	for name, hash := range scrams {
		for _, early := range []bool{true, false} {
			d := &daemon{types: []int32{typeSASL}, mechs: "DIGEST-MD5,PLAIN," + name, sasl: scramServer(t, hash, "sésame", early)}
			require.NoError(t, Authenticate(t.Context(), d, options(t, "qemu:///system").as("joe", "sésame")), name)
		}
		d := &daemon{types: []int32{typeSASL}, mechs: name, sasl: scramServer(t, hash, "sesame", true)}
		err := Authenticate(t.Context(), d, options(t, "qemu+tls://h/system").as("joe", "hunter2"))
		require.ErrorIs(t, err, ErrDenied)
		assert.Contains(t, err.Error(), "does not accept user joe")
		assert.NotContains(t, err.Error(), "hunter2")
	}
}

func TestHostileSASL(t *testing.T) {
	first := func(data []byte) string { return strings.TrimPrefix(string(data), "n,,n=joe,r=") }
	for _, c := range []struct {
		name string
		sasl func(step int, mech string, data []byte) (bool, []byte, error)
		says string
	}{
		{"content at once", func(int, string, []byte) (bool, []byte, error) { return true, nil, nil }, "may be an impostor"},
		{"content with a challenge", func(_ int, _ string, d []byte) (bool, []byte, error) {
			return true, []byte("r=" + first(d) + "x,s=c2FsdA==,i=4096"), nil
		}, "may be an impostor"},
		{"a wrong signature", func(step int, _ string, d []byte) (bool, []byte, error) {
			if step == 0 {
				return false, []byte("r=" + first(d) + "x,s=c2FsdA==,i=4096"), nil
			}
			return true, []byte("v=d3Jvbmc="), nil
		}, "answer is wrong"},
		{"endless work", func(_ int, _ string, d []byte) (bool, []byte, error) {
			return false, []byte("r=" + first(d) + "x,s=c2FsdA==,i=2147483647"), nil
		}, "2147483647 iterations"},
		{"more than endless work", func(_ int, _ string, d []byte) (bool, []byte, error) {
			return false, []byte("r=" + first(d) + "x,s=c2FsdA==,i=" + strings.Repeat("9", 100)), nil
		}, "iterations"},
		{"little work", func(_ int, _ string, d []byte) (bool, []byte, error) {
			return false, []byte("r=" + first(d) + "x,s=c2FsdA==,i=1"), nil
		}, "answer is wrong"},
		{"another nonce", func(int, string, []byte) (bool, []byte, error) {
			return false, []byte("r=mine,s=c2FsdA==,i=4096"), nil
		}, "answer is wrong"},
		{"rubbish", func(int, string, []byte) (bool, []byte, error) {
			return false, []byte("e=\x1b[2J" + strings.Repeat("x", 60000)), nil
		}, "answer is wrong"},
		{"nothing, for ever", func(int, string, []byte) (bool, []byte, error) { return false, nil, nil }, "has not ended after 8 steps"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &daemon{types: []int32{typeSASL}, mechs: "SCRAM-SHA-256", sasl: c.sasl}
			err := Authenticate(t.Context(), d, options(t, "qemu:///system").as("joe", "sesame"))
			require.ErrorIs(t, err, ErrDenied)
			assert.Contains(t, err.Error(), c.says)
			assert.NotContains(t, err.Error(), "sesame")
			assert.NotContains(t, err.Error(), "\x1b")
			assert.Less(t, len(err.Error()), 1000)
		})
	}
}

func TestPlain(t *testing.T) {
	accept := func(t *testing.T) *daemon {
		return &daemon{types: []int32{typeSASL}, mechs: "PLAIN", sasl: func(_ int, mech string, data []byte) (bool, []byte, error) {
			assert.Equal(t, "PLAIN", mech)
			if string(data) != "\x00joe\x00sesame" {
				return false, nil, denied()
			}
			return true, nil, nil
		}}
	}
	for _, s := range []string{"qemu:///system", "qemu+tls://h/system", "qemu+ssh://h/system"} {
		require.NoError(t, Authenticate(t.Context(), accept(t), options(t, s).as("joe", "sesame")), s)
	}
	require.ErrorIs(t, Authenticate(t.Context(), accept(t), options(t, "qemu:///system").as("joe", "x")), ErrDenied)
	for _, s := range []string{"qemu+tcp://h/system", "qemu+ext:///system?command=/x"} {
		d := accept(t)
		err := Authenticate(t.Context(), d, options(t, s).as("joe", "sesame"))
		require.ErrorIs(t, err, ErrUnsupported)
		assert.Contains(t, err.Error(), "sends the password in clear")
		assert.Zero(t, d.step, "nothing was sent")
	}
}

func TestMechanisms(t *testing.T) {
	for _, c := range []struct{ mechs, uri, says string }{
		{"GSSAPI,DIGEST-MD5", "qemu:///system", "the daemon wants SASL by GSSAPI, DIGEST-MD5; known here are SCRAM-SHA-512, SCRAM-SHA-256, SCRAM-SHA-1, PLAIN: set mech_list"},
		{"GSSAPI", "qemu+tcp://h/system", "over tcp libvirtd offers only mechanisms that encrypt"},
		{"", "qemu:///system", "no mechanism"},
		{"PLAIN", "qemu:///system?auth=sasl.scram-sha-256", "wants SASL mechanism SCRAM-SHA-256, and the daemon offers PLAIN"},
		{"GSSAPI,PLAIN", "qemu:///system?auth=sasl.gssapi", "the daemon wants SASL by GSSAPI; known here"},
		{"\x1b[2J" + strings.Repeat("x", 100000), "qemu:///system", "?[2JXXX"},
		{strings.Repeat("A,", 100000), "qemu:///system", "A, A"},
	} {
		err := Authenticate(t.Context(), &daemon{types: []int32{typeSASL}, mechs: c.mechs}, options(t, c.uri).as("joe", "sesame"))
		require.ErrorIs(t, err, ErrUnsupported)
		assert.Contains(t, err.Error(), c.says)
		assert.Less(t, len(err.Error()), 1000)
	}
}

func TestCredentials(t *testing.T) {
	const conf = `# accounts
[credentials-test]
authname=joe
password=sesame=open

[credentials-old]
username = ann
password = blank

[auth-libvirt-host.example]
credentials=test
[auth-libvirt-default]
credentials=old
`
	got := func(o Options) (string, string, error) {
		return (&authenticator{Options: o}).credentials(t.Context())
	}
	write := func(o Options, file string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(conf), 0o600))
	}
	for _, c := range []struct{ uri, user, password string }{
		{"qemu://host.example/system", "joe", "sesame=open"},
		{"qemu://joe@host.example/system", "joe", "sesame=open"},
		{"qemu://other.example/system", "ann", "blank"},
		{"qemu:///system", "ann", "blank"},
		{"qemu+ssh://root@host.example/system", "joe", "sesame=open"},
	} {
		for _, where := range []string{"home/.config/libvirt/auth.conf", "etc/libvirt/auth.conf"} {
			o := options(t, c.uri)
			write(o, filepath.Join(filepath.Dir(o.Env.Etc), where))
			user, password, err := got(o)
			require.NoError(t, err, c.uri)
			assert.Equal(t, c.user, user, c.uri)
			assert.Equal(t, c.password, password, c.uri)
		}
	}
	// The password of another user is not ours; the callback is asked.
	o := options(t, "qemu://eve@host.example/system")
	write(o, filepath.Join(o.Env.Etc, "libvirt/auth.conf"))
	_, _, err := got(o)
	require.ErrorIs(t, err, ErrConfig)
	assert.Contains(t, err.Error(), "there is no password of eve: write authname=", "[auth-libvirt-host.example]")
	o.Credentials = func(_ context.Context, kind, about string) (string, string, error) {
		assert.Equal(t, CredentialSASL, kind)
		assert.Equal(t, "eve@host.example", about)
		return "", "apple", nil
	}
	user, password, err := got(o)
	require.NoError(t, err)
	assert.Equal(t, []string{"eve", "apple"}, []string{user, password})

	// Files that are named must be there, in the order of docs/auth.rst.
	o = options(t, "qemu:///system?authfile=/nowhere/auth.conf")
	_, _, err = got(o)
	require.ErrorIs(t, err, ErrConfig)
	assert.Contains(t, err.Error(), "/nowhere/auth.conf")
	file := filepath.Join(t.TempDir(), "mine")
	write(o, file)
	o.Env.Getenv = func(k string) string { return map[string]string{"LIBVIRT_AUTH_FILE": file}[k] }
	user, _, err = got(o)
	require.NoError(t, err)
	assert.Equal(t, "ann", user)

	o = options(t, "qemu:///system")
	_, _, err = got(o)
	require.ErrorIs(t, err, ErrConfig)
	assert.Contains(t, err.Error(), "there is no user name: write authname= and password= into a section [credentials-NAME] of "+o.Env.Home+"/.config/libvirt/auth.conf")
	_, _, err = got(o.as("", "x"))
	require.ErrorIs(t, err, ErrConfig)
	o.Credentials = func(context.Context, string, string) (string, string, error) {
		return "", "", errors.New("nobody at home")
	}
	_, _, err = got(o)
	require.ErrorIs(t, err, ErrConfig)
	assert.Contains(t, err.Error(), "nobody at home")
}

func TestConfigErrors(t *testing.T) {
	for _, c := range []struct{ text, says string }{
		{"password=hunter2", "f: line 1: want a [SECTION] first"},
		{"[a]\n\nhunter2", "f: line 3: want KEY=VALUE"},
		{"[a\n", "f: line 1: want [SECTION]"},
		{"[]", "want [SECTION]"},
		{"[a]\n=hunter2", "line 2: want KEY=VALUE"},
		{"[auth-libvirt-h]\n", "section [auth-libvirt-h] has no credentials=NAME"},
		{"[auth-libvirt-default]\ncredentials=x\n", "there is no section [credentials-x]"},
		{strings.Repeat("#", maxConfig+1), "more than"},
	} {
		conf, err := parseConfig("f", []byte(c.text))
		if err == nil {
			_, err = conf.lookup("libvirt", "h")
		}
		require.ErrorIs(t, err, ErrConfig, c.text)
		assert.Contains(t, err.Error(), c.says)
		assert.NotContains(t, err.Error(), "hunter2")
	}
}

// go-libvirt encodes the same calls to the same bytes.
func TestOracle(t *testing.T) {
	data := []byte("n,,n=joe,r=\xff\x00z")
	chars := make([]int8, len(data))
	for i, b := range data {
		chars[i] = int8(b)
	}
	want := rpctest.Oracle(t, rpctest.Refuse, func(l *libvirt.Libvirt) {
		l.AuthSaslInit()
		l.AuthSaslStart("SCRAM-SHA-256", 0, chars)
		l.AuthSaslStep(1, nil)
		l.AuthPolkit()
	})
	got := rpctest.Sent(t, rpctest.Refuse, func(c *rpc.Client) {
		c.Call(t.Context(), program, procSASLInit, nil, nil)
		c.Call(t.Context(), program, procSASLStart, func(w *xdr.Writer) { w.String("SCRAM-SHA-256"); encodeData(w, data) }, nil)
		c.Call(t.Context(), program, procSASLStep, func(w *xdr.Writer) { encodeData(w, nil) }, nil)
		c.Call(t.Context(), program, procPolkit, nil, nil)
	})
	require.Len(t, got, 4)
	require.Len(t, want, 4)
	for i := range want {
		assert.Equal(t, want[i].Program, got[i].Program)
		assert.Equal(t, want[i].Procedure, got[i].Procedure)
		assert.Equal(t, want[i].Payload, got[i].Payload)
	}
}

func FuzzReplies(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 1}, []byte{0, 0, 0, 5, 'P', 'L', 'A', 'I', 'N', 0, 0, 0}, []byte{0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 2}, []byte{}, []byte{0, 0, 0, 1})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, []byte{0xff, 0xff, 0xff, 0xff}, []byte{0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff})
	target, err := uri.Parse("qemu:///system")
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, list, init, step []byte) {
		d := &daemon{types: []int32{typeSASL}, payloads: map[uint32][]byte{procAuthList: list, procSASLInit: init, procSASLStart: step, procSASLStep: step, procPolkit: step},
			sasl: func(int, string, []byte) (bool, []byte, error) { return false, nil, nil }}
		o := Options{Target: target, Env: uri.Env{Getenv: func(string) string { return "" }, Home: "/nowhere", Etc: "/nowhere"}}.as("joe", "sesame")
		Authenticate(context.Background(), d, o)
		require.Less(t, len(d.calls), 20)
	})
}

func FuzzConfig(f *testing.F) {
	f.Add("[credentials-x]\nauthname=a\npassword=b\n[auth-libvirt-h]\ncredentials=x\n")
	f.Add("#\n[\n]=")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseConfig("f", []byte(text))
		if err == nil {
			_, err = c.lookup("libvirt", "h")
		}
		if err != nil {
			require.ErrorIs(t, err, ErrConfig)
		}
	})
}
