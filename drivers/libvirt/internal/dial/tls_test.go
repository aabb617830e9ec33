package dial

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	last int64
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, a.key.Public(), a.key)
	require.NoError(t, err)
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	return a
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// issue makes a certificate for both purposes, changed by f.
func (a *authority) issue(name string, f func(*x509.Certificate)) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	a.last++
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(100 + a.last), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if f != nil {
		f(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	require.NoError(a.t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(a.t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func loopback(c *x509.Certificate) {
	c.DNSNames = []string{"localhost"}
	c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

func writeCert(t *testing.T, certFile, keyFile string, c tls.Certificate) {
	t.Helper()
	writePEM(t, certFile, "CERTIFICATE", c.Certificate[0])
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	require.NoError(t, err)
	writePEM(t, keyFile, "PRIVATE KEY", der)
}

// pkiDir is a directory for pkipath=.
func (a *authority) pkiDir(client tls.Certificate) string {
	dir := a.t.TempDir()
	writePEM(a.t, filepath.Join(dir, "cacert.pem"), "CERTIFICATE", a.cert.Raw)
	writeCert(a.t, filepath.Join(dir, "clientcert.pem"), filepath.Join(dir, "clientkey.pem"), client)
	return dir
}

// serveTLS does what libvirtd does: handshake, a verdict of one byte, then echo.
func serveTLS(t *testing.T, config *tls.Config, after func(net.Conn)) (port string) {
	return serveTCP(t, func(c net.Conn) {
		s := tls.Server(c, config)
		if s.Handshake() != nil {
			return
		}
		after(s)
		s.Close()
	})
}

func welcome(c net.Conn) {
	c.Write([]byte{1})
	echo(c)
}

func TestTLS(t *testing.T) {
	ca := newAuthority(t, "Good CA")
	client := ca.issue("client", nil)
	dir := ca.pkiDir(client)
	strict := func(server tls.Certificate) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool()}
	}
	server := strict(ca.issue("server", loopback))
	conn, err := dialURI(within(t), t, "qemu+tls://127.0.0.1:"+serveTLS(t, server, welcome)+"/system?pkipath="+dir, Options{})
	mustEcho(t, conn, err)
	conn, err = dialURI(within(t), t, "qemu://localhost:"+serveTLS(t, server, welcome)+"/system?pkipath="+dir, Options{})
	mustEcho(t, conn, err)

	old := strict(ca.issue("server", loopback))
	old.MaxVersion = tls.VersionTLS12
	conn, err = dialURI(within(t), t, "qemu+tls://127.0.0.1:"+serveTLS(t, old, welcome)+"/system?pkipath="+dir, Options{})
	mustEcho(t, conn, err)

	// As libvirt's documentation long had them made.
	plain := strict(ca.issue("localhost", nil))
	conn, err = dialURI(within(t), t, "qemu+tls://localhost:"+serveTLS(t, plain, welcome)+"/system?pkipath="+dir, Options{})
	mustEcho(t, conn, err)
	conn, err = dialURI(within(t), t, "qemu+tls://127.0.0.1:"+serveTLS(t, plain, welcome)+"/system?pkipath="+dir, Options{})
	mustFail(t, conn, err, ErrPermission, "the server's certificate is for localhost and not for 127.0.0.1")

	// An alternative name rules the common name out.
	other := strict(ca.issue("localhost", func(c *x509.Certificate) { c.DNSNames = []string{"elsewhere.example"} }))
	conn, err = dialURI(within(t), t, "qemu+tls://localhost:"+serveTLS(t, other, welcome)+"/system?pkipath="+dir, Options{})
	mustFail(t, conn, err, ErrPermission, "is for elsewhere.example and not for localhost")
	conn, err = dialURI(within(t), t, "qemu+tls://localhost:"+serveTLS(t, other, welcome)+"/system?no_verify=1&pkipath="+dir, Options{})
	mustEcho(t, conn, err)
}

func TestTLSRefusesServer(t *testing.T) {
	ca, evil := newAuthority(t, "Good CA"), newAuthority(t, "Evil CA")
	dir := ca.pkiDir(ca.issue("client", nil))
	dialWith := func(server tls.Certificate) (net.Conn, error) {
		port := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{server}}, welcome)
		return dialURI(within(t), t, "qemu+tls://127.0.0.1:"+port+"/system?pkipath="+dir, Options{})
	}
	conn, err := dialWith(evil.issue("server", loopback))
	mustFail(t, conn, err, ErrPermission, "signed by a CA that "+dir+"/cacert.pem does not hold (CN=Evil CA)")
	conn, err = dialWith(ca.issue("server", func(c *x509.Certificate) { loopback(c); c.NotAfter = time.Now().Add(-time.Minute) }))
	mustFail(t, conn, err, ErrPermission, "is valid from", "or the clock is wrong")
	conn, err = dialWith(ca.issue("server", func(c *x509.Certificate) { loopback(c); c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }))
	mustFail(t, conn, err, ErrPermission, "incompatible key usage")

	revoked := ca.issue("server", loopback)
	crl, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: revoked.Leaf.SerialNumber, RevocationTime: time.Now()}}}, ca.cert, ca.key)
	require.NoError(t, err)
	writePEM(t, filepath.Join(dir, "cacrl.pem"), "X509 CRL", crl)
	conn, err = dialWith(revoked)
	mustFail(t, conn, err, ErrPermission, "was revoked on")
	conn, err = dialWith(ca.issue("server", loopback))
	mustEcho(t, conn, err)
}

func TestTLSRefusedByServer(t *testing.T) {
	ca, other := newAuthority(t, "Good CA"), newAuthority(t, "Other CA")
	dir := ca.pkiDir(other.issue("client", nil))
	server := ca.issue("server", loopback)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool(), MaxVersion: version}
		conn, err := dialURI(within(t), t, "qemu+tls://127.0.0.1:"+serveTLS(t, config, welcome)+"/system?pkipath="+dir, Options{})
		mustFail(t, conn, err, ErrPermission, "does not accept our client certificate", "ours is "+dir+"/clientcert.pem", "tls_allowed_dn_list")

		// Without a certificate of our own.
		env := host(t)
		writePEM(t, filepath.Join(env.Home, ".pki/libvirt/cacert.pem"), "CERTIFICATE", ca.cert.Raw)
		conn, err = dialURI(within(t), t, "qemu+tls://127.0.0.1:"+serveTLS(t, config, welcome)+"/system", Options{Env: env})
		mustFail(t, conn, err, ErrPermission, "does not accept our client certificate", "we have none in "+env.Etc+"/pki/libvirt/clientcert.pem")
	}
	lax := &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequestClientCert}
	// libvirtd looks at the certificate after the handshake, and hangs up.
	conn, err := dialURI(within(t), t, "qemu+tls://127.0.0.1:"+serveTLS(t, lax, func(net.Conn) {})+"/system?pkipath="+dir, Options{})
	mustFail(t, conn, err, ErrPermission, "closed the connection; most likely the server does not accept our client certificate")
	conn, err = dialURI(within(t), t, "qemu+tls://127.0.0.1:"+serveTLS(t, lax, func(c net.Conn) { c.Write([]byte{0}) })+"/system?pkipath="+dir, Options{})
	mustFail(t, conn, err, ErrPermission, "did not accept our certificate")

	ancient := &tls.Config{Certificates: []tls.Certificate{server}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	conn, err = dialURI(within(t), t, "qemu+tls://127.0.0.1:"+serveTLS(t, ancient, welcome)+"/system?pkipath="+dir, Options{})
	mustFail(t, conn, err, ErrUnreachable, "offers neither TLS 1.2 nor 1.3")
	conn, err = dialURI(within(t), t, "qemu+tls://127.0.0.1:"+serveTCP(t, func(c net.Conn) { io.WriteString(c, "HTTP/1.0 400 Bad\r\n\r\n") })+"/system?pkipath="+dir, Options{})
	mustFail(t, conn, err, ErrUnreachable, "does not speak TLS")
	conn, err = dialURI(within(t), t, "qemu+tls://127.0.0.1:"+unusedPort(t)+"/system?pkipath="+dir, Options{})
	mustFail(t, conn, err, ErrUnreachable, "nobody listens", "--listen")
}

func TestTLSFiles(t *testing.T) {
	ca := newAuthority(t, "Good CA")
	client := ca.issue("client", nil)
	port := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{ca.issue("server", loopback)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool()}, welcome)
	s := "qemu+tls://127.0.0.1:" + port + "/system"

	for _, file := range []string{"cacert.pem", "clientcert.pem", "clientkey.pem"} {
		dir := ca.pkiDir(client)
		require.NoError(t, os.Remove(filepath.Join(dir, file)))
		conn, err := dialURI(within(t), t, s+"?pkipath="+dir, Options{})
		mustFail(t, conn, err, ErrConfig, "no ", filepath.Join(dir, file))
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte("rubbish"), 0o600))
		conn, err = dialURI(within(t), t, s+"?pkipath="+dir, Options{})
		mustFail(t, conn, err, ErrConfig, filepath.Join(dir, file))
	}
	dir := ca.pkiDir(client)
	writeCert(t, filepath.Join(t.TempDir(), "x"), filepath.Join(dir, "clientkey.pem"), ca.issue("another", nil))
	conn, err := dialURI(within(t), t, s+"?pkipath="+dir, Options{})
	mustFail(t, conn, err, ErrConfig, "private key does not match")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cacrl.pem"), []byte("rubbish"), 0o600))
	conn, err = dialURI(within(t), t, s+"?pkipath="+dir, Options{})
	mustFail(t, conn, err, ErrConfig, "cacrl.pem: no list in it")

	// The system's, for root and whoever has none.
	env := host(t)
	conn, err = dialURI(within(t), t, s, Options{Env: env})
	mustFail(t, conn, err, ErrConfig, "no CA certificate "+env.Etc+"/pki/CA/cacert.pem")
	writePEM(t, filepath.Join(env.Etc, "pki/CA/cacert.pem"), "CERTIFICATE", ca.cert.Raw)
	writeCert(t, filepath.Join(env.Etc, "pki/libvirt/clientcert.pem"), filepath.Join(env.Etc, "pki/libvirt/private/clientkey.pem"), client)
	for _, euid := range []int{0, 1000} {
		e := env
		e.EUID = euid
		conn, err = dialURI(within(t), t, s, Options{Env: e})
		mustEcho(t, conn, err)
	}
	// A user's own go first, root's do not count.
	own := filepath.Join(env.Home, ".pki/libvirt")
	writePEM(t, filepath.Join(own, "cacert.pem"), "CERTIFICATE", newAuthority(t, "Own CA").cert.Raw)
	conn, err = dialURI(within(t), t, s, Options{Env: env})
	mustFail(t, conn, err, ErrPermission, "signed by a CA that "+own)
	root := env
	root.EUID = 0
	conn, err = dialURI(within(t), t, s, Options{Env: root})
	mustEcho(t, conn, err)
}

func TestTLSEndsWithContext(t *testing.T) {
	ca := newAuthority(t, "Good CA")
	dir := ca.pkiDir(ca.issue("client", nil))
	config := &tls.Config{Certificates: []tls.Certificate{ca.issue("server", loopback)}}
	for _, c := range []struct{ phase, port string }{
		{"during the TLS handshake with 127.0.0.1", serveTCP(t, silence)},
		{"to accept our certificate", serveTLS(t, config, silence)},
	} {
		mustEnd(t, c.phase, func(ctx context.Context) (net.Conn, error) {
			return dialURI(ctx, t, "qemu+tls://127.0.0.1:"+c.port+"/system?pkipath="+dir, Options{})
		})
	}
	// A connection does not depend on the context it was made with.
	ctx, cancel := context.WithCancel(context.Background())
	conn, err := dialURI(ctx, t, "qemu+tls://127.0.0.1:"+serveTLS(t, config, welcome)+"/system?pkipath="+dir, Options{})
	cancel()
	mustEcho(t, conn, err)
}
