package auth

import (
	"context"
	"slices"
	"strings"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/uri"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/xdr"
)

const (
	// maxData is REMOTE_AUTH_SASL_DATA_MAX.
	maxData = 65536
	// maxSteps ends an exchange that leads nowhere; SCRAM takes three.
	maxSteps = 8
)

// saslReply is what START and STEP give.
type saslReply struct {
	complete bool
	data     []byte // nil and empty differ for SASL
}

func (s *saslReply) decode(r *xdr.Reader) {
	s.complete = r.Int32() != 0
	null := r.Int32() != 0
	data := make([]byte, r.Count(maxData, 4))
	for i := range data {
		data[i] = byte(r.Int32()) // "char data<>" is an array of integers in XDR
	}
	if !null {
		s.data = data
	}
}

func encodeData(w *xdr.Writer, data []byte) {
	if data == nil {
		w.Int32(1)
	} else {
		w.Int32(0)
	}
	w.Count(len(data))
	for _, b := range data {
		w.Int32(int32(int8(b)))
	}
}

// sasl authenticates by a mechanism that both sides have.
func (a *authenticator) sasl(ctx context.Context, only string) error {
	var list string
	if err := a.Call(ctx, program, procSASLInit, nil, func(r *xdr.Reader) { list = r.String() }); err != nil {
		// Such as that none of its mechanisms is good enough for it; the reason is for its log alone.
		advice := "its log says why; are mech_list in /etc/sasl2/libvirt.conf there and the package with the mechanism right?"
		if a.Target.Transport == uri.TCP {
			advice = overTCP
		}
		return a.refused(err, "SASL: the daemon has no mechanism to offer: %w; %s", err, advice)
	}
	name, err := a.choose(list, only)
	if err != nil {
		return err
	}
	user, password, err := a.credentials(ctx)
	if err != nil {
		return err
	}
	m, err := newMechanism(name, user, password)
	if err != nil {
		return err
	}
	denied := func(err error) error {
		return a.refused(err, "SASL %s: the daemon does not accept user %s: %w; is the password right? (saslpasswd2 -a libvirt %s sets it there)", name, user, err, user)
	}
	first, err := m.start()
	if err != nil {
		return err
	}
	var reply saslReply
	err = a.Call(ctx, program, procSASLStart, func(w *xdr.Writer) {
		w.String(name)
		encodeData(w, first)
	}, reply.decode)
	if err != nil {
		return denied(err)
	}
	for range maxSteps {
		var next []byte
		if reply.data != nil && !m.done() {
			if next, err = m.step(reply.data); err != nil {
				return err
			}
		}
		if reply.complete {
			if !m.done() {
				return fail(ErrDenied, "SASL %s: the daemon is content but has not shown that it knows the password of %s; it may be an impostor", name, user)
			}
			return nil
		}
		reply = saslReply{}
		if err := a.Call(ctx, program, procSASLStep, func(w *xdr.Writer) { encodeData(w, next) }, reply.decode); err != nil {
			return denied(err)
		}
	}
	return fail(ErrDenied, "SASL %s: the exchange has not ended after %d steps", name, maxSteps)
}

const overTCP = "over tcp libvirtd offers only mechanisms that encrypt, so use tls or ssh"

// choose picks the best mechanism of the daemon's list, which is separated by
// commas.
func (a *authenticator) choose(list, only string) (string, error) {
	offered := strings.FieldsFunc(strings.ToUpper(list), func(r rune) bool { return r == ',' || r == ' ' })
	for i, name := range offered {
		offered[i] = clean(name)
	}
	if len(offered) > 64 {
		offered = offered[:64]
	}
	all := strings.Join(offered, ", ")
	if all == "" {
		all = "no mechanism"
	}
	private := a.Target.Transport.Private()
	only = strings.ToUpper(only)
	if only != "" && !slices.Contains(offered, only) {
		return "", fail(ErrUnsupported, "auth= of the URI wants SASL mechanism %s, and the daemon offers %s", only, all)
	}
	for _, name := range mechanisms {
		if !slices.Contains(offered, name) || only != "" && name != only {
			continue
		}
		if name == plain && !private {
			return "", fail(ErrUnsupported, "the daemon wants SASL mechanism PLAIN, which sends the password in clear, and %s is not encrypted; use tls or ssh, or have it offer SCRAM-SHA-256", a.Target.Transport)
		}
		return name, nil
	}
	advice := "set mech_list: scram-sha-256 in /etc/sasl2/libvirt.conf there"
	if !private && a.Target.Transport == uri.TCP {
		advice = overTCP
	}
	if only != "" {
		all = only
	}
	return "", fail(ErrUnsupported, "the daemon wants SASL by %s; known here are %s: %s", all, strings.Join(mechanisms, ", "), advice)
}

// clean makes what the daemon said fit for a message.
func clean(s string) string {
	if len(s) > 200 {
		s = s[:200]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f {
			return '?'
		}
		return r
	}, s)
}
