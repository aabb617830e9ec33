package dial

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
)

// tls connects, checks the server, and waits for the byte by which a daemon
// says that it accepted our certificate.
func (d *dialer) tls(ctx context.Context) (net.Conn, error) {
	d.enter("reading certificates")
	p, err := d.loadPKI()
	if err != nil {
		return nil, err
	}
	raw, err := d.tcp(ctx, "libvirtd listens for TLS only with --listen, or by libvirtd-tls.socket, and needs a certificate of its own for it")
	if err != nil {
		return nil, err
	}
	done := bound(ctx, raw)
	conn, err := d.handshake(ctx, raw, p)
	if ended := done(); ended != nil {
		err = ended
	}
	if err != nil {
		raw.Close()
		return nil, err
	}
	return conn, nil
}

func (d *dialer) handshake(ctx context.Context, raw net.Conn, p *pki) (net.Conn, error) {
	d.enter("the TLS handshake with " + d.Addr())
	var refused error
	conn := tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS12,
		ServerName: d.Host,
		// Ours is sent even if it is not of a CA that the server names: its
		// refusal says more than our silence.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(p.certs) == 0 {
				return &tls.Certificate{}, nil
			}
			return &p.certs[0], nil
		},
		// The checks are in VerifyConnection: crypto/tls would refuse the
		// certificates without subject alternative names that libvirt takes.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			refused = d.checkServer(s.PeerCertificates, p)
			return refused
		},
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, d.handshakeError(err, refused, p)
	}
	d.enter("waiting for " + d.Addr() + " to accept our certificate")
	var verdict [1]byte
	if _, err := io.ReadFull(conn, verdict[:]); err != nil {
		return nil, d.handshakeError(err, nil, p)
	}
	if verdict[0] != 1 {
		return nil, fail(ErrPermission, "the server did not accept our certificate (it sent %#x)", verdict[0])
	}
	return conn, nil
}

// checkServer does what libvirt has GnuTLS do: a chain to the CA, purpose, dates,
// revocation, and the host's name among the alternative names, or as common name
// if there are no alternative names.
func (d *dialer) checkServer(certs []*x509.Certificate, p *pki) error {
	if d.NoVerify {
		return nil
	}
	if len(certs) == 0 {
		return fail(ErrPermission, "the server has no certificate")
	}
	leaf := certs[0]
	between := x509.NewCertPool()
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: p.roots, Intermediates: between}); err != nil {
		var unknown x509.UnknownAuthorityError
		var invalid x509.CertificateInvalidError
		switch {
		case errors.As(err, &unknown):
			return fail(ErrPermission, "the server's certificate (%s) is signed by a CA that %s does not hold (%s); install the CA's certificate there: %w", leaf.Subject, p.caFile, leaf.Issuer, err)
		case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
			return fail(ErrPermission, "the server's certificate (%s) is valid from %v to %v, or the clock is wrong: %w", leaf.Subject, leaf.NotBefore, leaf.NotAfter, err)
		}
		return fail(ErrPermission, "the server's certificate (%s): %w", leaf.Subject, err)
	}
	for _, l := range p.crls {
		if !signedByAny(l, p.cas) {
			continue // another CA's
		}
		for _, r := range l.RevokedCertificateEntries {
			for _, c := range certs {
				if string(c.RawIssuer) == string(l.RawIssuer) && r.SerialNumber.Cmp(c.SerialNumber) == 0 {
					return fail(ErrPermission, "the certificate %s (serial %x) was revoked on %v", c.Subject, c.SerialNumber, r.RevocationTime)
				}
			}
		}
	}
	return d.checkName(leaf)
}

func signedByAny(l *x509.RevocationList, cas []*x509.Certificate) bool {
	for _, ca := range cas {
		if l.CheckSignatureFrom(ca) == nil {
			return true
		}
	}
	return false
}

func (d *dialer) checkName(leaf *x509.Certificate) error {
	host := d.Host
	if zone := strings.IndexByte(host, '%'); zone >= 0 {
		host = host[:zone]
	}
	names := append([]string(nil), leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		if cn := leaf.Subject.CommonName; cn != "" {
			names = []string{cn}
			if strings.EqualFold(strings.TrimSuffix(host, "."), strings.TrimSuffix(cn, ".")) {
				return nil
			}
		}
	} else if leaf.VerifyHostname(host) == nil {
		return nil
	}
	return fail(ErrPermission, "the server's certificate is for %s and not for %s; use one of these names in the URI, or have a certificate made with this one", strings.Join(names, ", "), d.Host)
}

// handshakeError says what to do. refused is our own verdict, if we gave one.
func (d *dialer) handshakeError(err, refused error, p *pki) error {
	if refused != nil {
		return refused
	}
	var alert *net.OpError
	fromPeer := errors.As(err, &alert) && alert.Op == "remote error" // as crypto/tls marks alerts
	var record tls.RecordHeaderError
	have := "we have none in " + p.certFile
	if len(p.certs) > 0 {
		have = "ours is " + p.certFile
	}
	certificate := fmt.Sprintf("the server does not accept our client certificate: it must be signed by the CA the server trusts, and match its tls_allowed_dn_list; %s", have)
	switch {
	case errors.As(err, &record):
		return fail(ErrUnreachable, "%s does not speak TLS: %w", d.Addr(), err)
	case fromPeer && strings.Contains(alert.Err.Error(), "protocol version"):
		return fail(ErrUnreachable, "the server offers neither TLS 1.2 nor 1.3: %w", err)
	case fromPeer && strings.Contains(alert.Err.Error(), "handshake failure"):
		return fail(ErrPermission, "the server has no cipher in common with us, or %s: %w", certificate, err)
	case fromPeer:
		return fail(ErrPermission, "%s: %w", certificate, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fail(ErrPermission, "the server closed the connection; most likely %s: %w", certificate, err)
	}
	return fail(ErrUnreachable, "TLS: %w", err)
}
