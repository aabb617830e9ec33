package libvirttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// ServerNames are the names that a daemon's certificate is for, besides 127.0.0.1 and ::1.
var ServerNames = []string{"localhost"}

// WritePKI makes a directory as the URI parameter pkipath names it, cacert.pem, clientcert.pem and clientkey.pem, with
// servercert.pem and serverkey.pem of the same authority, valid for a day.
func WritePKI(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	now := time.Now()
	template := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
			// libvirtd wants the second one, too, whatever the kind of key.
			BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment}
	}
	ca := template(1, "polyvisor test authority")
	ca.IsCA, ca.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	caKey, err := writeCertificate(dir, "ca", ca, ca, nil)
	if err != nil {
		return err
	}
	server := template(2, ServerNames[0])
	server.DNSNames, server.IPAddresses = ServerNames, []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	if _, err := writeCertificate(dir, "server", server, ca, caKey); err != nil {
		return err
	}
	client := template(3, "polyvisor test client")
	client.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	_, err = writeCertificate(dir, "client", client, ca, caKey)
	return err
}

// writeCertificate makes a key and a certificate for it, signed by that of the authority, or by itself for want of one.
func writeCertificate(dir, name string, c, ca *x509.Certificate, caKey *ecdsa.PrivateKey) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if caKey == nil {
		caKey = key
	}
	cert, err := x509.CreateCertificate(rand.Reader, c, ca, &key.PublicKey, caKey)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	for file, block := range map[string]*pem.Block{name + "cert.pem": {Type: "CERTIFICATE", Bytes: cert}, name + "key.pem": {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			return nil, err
		}
	}
	return key, nil
}
