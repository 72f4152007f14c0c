package program

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// maxPEMBytes bounds a file of certificates or of a key. A bundle of all public authorities has about 250 KB.
const maxPEMBytes = 1 << 20

// ClientTLS has the files of https connections to a server.
type ClientTLS struct {
	// CAFile has the authorities that vouch for the server; "" = those of the system.
	CAFile string
	// CertFile and KeyFile have the client certificate and its key; "" = none.
	CertFile string
	KeyFile  string
}

func (t *ClientTLS) flags(fs *pflag.FlagSet) {
	fs.StringVar(&t.CAFile, "ca-file", "", "`file` of the authorities that vouch for an https server (default: those of the system)")
	fs.StringVar(&t.CertFile, "cert-file", "", "`file` of the client certificate for an https server; it is read again for new connections")
	fs.StringVar(&t.KeyFile, "key-file", "", "`file` of the key of the client certificate")
}

// config returns the configuration of https connections; nil without files. The errors are KindInvalid.
func (t *ClientTLS) config() (*tls.Config, error) {
	if *t == (ClientTLS{}) {
		return nil, nil
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		return nil, queue.Invalid("--cert-file", "must come with --key-file; give both or none")
	}

	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pool, err := ReadAuthorities("--ca-file", t.CAFile)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = x509.NewCertPool()
		for _, authority := range pool {
			cfg.RootCAs.AddCert(authority)
		}
	}
	if t.CertFile != "" {
		pair := &clientPair{files: *t}
		if err := pair.read(); err != nil {
			return nil, err
		}
		cfg.GetClientCertificate = pair.present
	}
	return cfg, nil
}

// clientPair is a client certificate in files that may be replaced while the program runs. It is safe for concurrent use.
type clientPair struct {
	files ClientTLS

	mu     sync.Mutex
	pair   *tls.Certificate
	readAt time.Time
}

// read reads the files. c.mu is held, or c is not shared yet.
func (c *clientPair) read() error {
	c.readAt = time.Now()
	pair, err := ReadKeyPair("--cert-file", c.files.CertFile, "--key-file", c.files.KeyFile)
	if err == nil {
		c.pair = pair
	}
	return err
}

// present returns the certificate for a new connection, at most 5 s old. While the files do not fit each other, as during their
// replacement, it returns the former one.
func (c *clientPair) present(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.readAt) >= secretFileEvery {
		_ = c.read() // the former pair stays
	}
	return c.pair, nil
}

// ReadKeyPair reads a certificate with its chain and the key of it. Both fields name the settings with the paths. Each error
// is KindInvalid and never contains a part of the key.
func ReadKeyPair(certField, certPath, keyField, keyPath string) (*tls.Certificate, error) {
	cert, err := ReadFile(certField, certPath, maxPEMBytes)
	if err != nil {
		return nil, err
	}
	key, err := ReadFile(keyField, keyPath, maxPEMBytes)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		return nil, queue.Invalid(certField, fmt.Sprintf(
			"must be a certificate in PEM that the key of %s belongs to, got %.200q and %.200q: %v; replace both files", keyField, certPath, keyPath, err))
	}
	return &pair, nil
}

// ReadAuthorities reads the certificates of authorities from a file in PEM. field names the setting with the path. Each error
// is KindInvalid.
func ReadAuthorities(field, path string) ([]*x509.Certificate, error) {
	text, err := ReadFile(field, path, maxPEMBytes)
	if err != nil {
		return nil, err
	}

	var authorities []*x509.Certificate
	rest := []byte(text)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, queue.Invalid(field, fmt.Sprintf("must have certificates alone, got a block %.64q in %.200q; take it out", block.Type, path))
		}
		authority, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, queue.Invalid(field, fmt.Sprintf("must have certificates in PEM, got %.200q: %v; copy the file again", path, err))
		}
		authorities = append(authorities, authority)
	}
	if len(authorities) == 0 {
		return nil, queue.Invalid(field, fmt.Sprintf("must have a certificate in PEM, got none in %.200q; write BEGIN CERTIFICATE and its text into it", path))
	}
	return authorities, nil
}
