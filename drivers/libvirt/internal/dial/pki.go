package dial

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxPEM bounds a file of certificates or revocations.
const maxPEM = 16 << 20

// pki is what a client has for TLS.
type pki struct {
	caFile string
	roots  *x509.CertPool
	cas    []*x509.Certificate
	crls   []*x509.RevocationList
	certs  []tls.Certificate // none or one
	// certFile is where the client's certificate is, or was looked for.
	certFile string
}

// pkiFiles are the places of docs/kbase/tlscerts.rst.
type pkiFiles struct {
	ca, crl, cert, key string
	certNeeded         bool
}

// pkiFiles chooses them: pkipath alone if it is given; else what a user has,
// filled up from the system's; root uses the system's only.
func (d *dialer) pkiFiles() pkiFiles {
	in := func(dir string) pkiFiles {
		return pkiFiles{ca: filepath.Join(dir, "cacert.pem"), crl: filepath.Join(dir, "cacrl.pem"),
			cert: filepath.Join(dir, "clientcert.pem"), key: filepath.Join(dir, "clientkey.pem")}
	}
	if d.PKIPath != "" {
		f := in(d.PKIPath)
		f.certNeeded = true
		return f
	}
	etc := filepath.Join(d.Env.Etc, "pki")
	f := pkiFiles{ca: filepath.Join(etc, "CA", "cacert.pem"), crl: filepath.Join(etc, "CA", "cacrl.pem"),
		cert: filepath.Join(etc, "libvirt", "clientcert.pem"), key: filepath.Join(etc, "libvirt", "private", "clientkey.pem")}
	if d.Env.EUID == 0 || d.Env.Home == "" {
		return f
	}
	own := in(filepath.Join(d.Env.Home, ".pki", "libvirt"))
	if exists(own.ca) {
		f.ca = own.ca
	}
	if exists(own.crl) {
		f.crl = own.crl
	}
	if exists(own.cert) && exists(own.key) {
		f.cert, f.key = own.cert, own.key
	}
	return f
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// loadPKI reads the files. The CA is needed unless the server is not checked.
func (d *dialer) loadPKI() (*pki, error) {
	f := d.pkiFiles()
	p := &pki{caFile: f.ca, certFile: f.cert, roots: x509.NewCertPool()}
	text, err := readPEM(f.ca)
	switch {
	case err == nil:
		if p.cas, err = parseCertificates(text); err != nil {
			return nil, fail(ErrConfig, "CA certificate %s: %w", f.ca, err)
		}
		for _, c := range p.cas {
			p.roots.AddCert(c)
		}
	case errors.Is(err, fs.ErrNotExist) && d.NoVerify && !f.certNeeded:
	case errors.Is(err, fs.ErrNotExist):
		return nil, fail(ErrConfig, "no CA certificate %s; put the certificate of the CA that signed the server's there, or name its directory by pkipath=: %w", f.ca, err)
	default:
		return nil, fail(ErrConfig, "CA certificate: %w", err)
	}
	if p.crls, err = loadCRLs(f.crl); err != nil {
		return nil, err
	}
	haveCert, haveKey := exists(f.cert), exists(f.key)
	if !haveCert && !haveKey && !f.certNeeded {
		return p, nil // the server may do without
	}
	if !haveCert {
		return nil, fail(ErrConfig, "no client certificate %s; it goes with the key %s: %w", f.cert, f.key, fs.ErrNotExist)
	}
	if !haveKey {
		return nil, fail(ErrConfig, "no client key %s; it goes with the certificate %s: %w", f.key, f.cert, fs.ErrNotExist)
	}
	certText, err := readPEM(f.cert)
	if err != nil {
		return nil, fail(ErrConfig, "client certificate: %w", err)
	}
	keyText, err := readPEM(f.key)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fail(ErrPermission, "client key: %w; have a copy of it and of the certificate in ~/.pki/libvirt", err)
	}
	if err != nil {
		return nil, fail(ErrConfig, "client key: %w", err)
	}
	cert, err := tls.X509KeyPair(certText, keyText)
	if err != nil {
		return nil, fail(ErrConfig, "client certificate %s and key %s: %w", f.cert, f.key, err)
	}
	p.certs = []tls.Certificate{cert}
	return p, nil
}

func readPEM(path string) ([]byte, error) { return readFile(path, maxPEM) }

// readFile reads a file of at most limit bytes. A pipe is refused: it could hang.
func readFile(path string, limit int64) ([]byte, error) {
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%s: more than %d bytes", path, limit)
	}
	return text, err
}

func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate in it; want PEM")
	}
	return certs, nil
}

// loadCRLs reads the revocations of the CA, if there are any.
func loadCRLs(file string) ([]*x509.RevocationList, error) {
	text, err := readPEM(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fail(ErrConfig, "revoked certificates: %w", err)
	}
	var lists []*x509.RevocationList
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "X509 CRL" {
			continue
		}
		l, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return nil, fail(ErrConfig, "revoked certificates %s: %w", file, err)
		}
		lists = append(lists, l)
	}
	if len(lists) == 0 {
		return nil, fail(ErrConfig, "revoked certificates %s: no list in it; want PEM", file)
	}
	return lists, nil
}
