//go:build !wasm

package libcluster

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"go.uber.org/zap"
	"google.golang.org/grpc/credentials"
)

// checkTLS tells which of the fields for TLS do not go together, or with the endpoints.
func (e EtcdConfig) checkTLS(secure bool) error {
	files := e.CACert+e.Cert+e.CertKey != ""
	switch {
	case !secure && files:
		return errors.New("CACert, Cert and CertKey are for https endpoints, and these are http")
	case !secure && e.TLS != nil:
		return errors.New("TLS is for https endpoints, and these are http")
	case files && e.TLS != nil:
		return errors.New("TLS is given: put the certificates of CACert, Cert and CertKey into it, and leave these empty")
	case (e.Cert == "") != (e.CertKey == ""):
		return errors.New("Cert and CertKey: give both or neither")
	}
	return nil
}

// etcdTLS secures the connections of a membership. Each connection uses what the files hold at
// that moment, so that an instance that only reconnects takes a renewed certificate.
type etcdTLS struct {
	credentials.TransportCredentials // but for the handshake
	files                            EtcdConfig
	log                              *zap.Logger

	mu      sync.Mutex  // guards what follows
	config  *tls.Config // with what was read last and would do
	trouble string      // of the latest reading
}

// newTLS reads the files, which all have to do.
func (e EtcdConfig) newTLS(log *zap.Logger) (*etcdTLS, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if e.TLS != nil {
		config = e.TLS.Clone()
	}
	t := &etcdTLS{TransportCredentials: credentials.NewTLS(config), files: e, log: log, config: config}
	return t, t.read()
}

// secured returns what all of the membership's connections are secured with.
func (n *etcdConnections) secured(e EtcdConfig, log *zap.Logger) (*etcdTLS, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.tls != nil {
		return n.tls, nil
	}
	t, err := e.newTLS(log)
	if err == nil {
		n.tls = t
	}
	return t, err
}

// ClientHandshake verifies the server as [tls.Client] does.
func (t *etcdTLS) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	config := t.renewed()
	if config.ServerName != "" {
		authority = config.ServerName // gRPC goes by the endpoint alone
	}
	return credentials.NewTLS(config).ClientHandshake(ctx, authority, conn)
}

// Clone returns t itself, which never changes for its users.
func (t *etcdTLS) Clone() credentials.TransportCredentials { return t }

// renewed reads the files anew. If a file will not do, what it held before stays in use:
// perhaps the file is just being written, and the next connection will find all of it.
func (t *etcdTLS) renewed() *tls.Config {
	t.mu.Lock()
	defer t.mu.Unlock()
	trouble := ""
	if err := t.read(); err != nil {
		trouble = err.Error()
	}
	if trouble != "" && trouble != t.trouble {
		t.log.Warn("cannot read renewed certificates, going on with those from before", zap.String("error", trouble))
	}
	t.trouble = trouble
	return t.config
}

func (t *etcdTLS) read() error {
	config := t.config.Clone() // a handshake may be using the other
	roots, rootsErr := readRoots(t.files.CACert)
	if roots != nil {
		config.RootCAs = roots
	}
	pair, pairErr := readPair(t.files.Cert, t.files.CertKey)
	if pair != nil {
		// Not Certificates, of which none is sent if the server names other authorities:
		// it shall say what it has against this one.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
	}
	t.config = config
	return cmp.Or(rootsErr, pairErr)
}

func readRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("CACert: %w", err)
	}
	roots := x509.NewCertPool()
	switch {
	case !roots.AppendCertsFromPEM(text):
		return nil, fmt.Errorf("CACert %s: has no PEM certificate", file)
	case !endsWhole(text):
		return nil, fmt.Errorf("CACert %s: ends in the middle of a certificate", file)
	}
	return roots, nil
}

func readPair(cert, key string) (*tls.Certificate, error) {
	if cert == "" {
		return nil, nil
	}
	text, err := os.ReadFile(cert)
	if err != nil {
		return nil, fmt.Errorf("Cert: %w", err)
	}
	private, err := os.ReadFile(key)
	if err != nil {
		return nil, fmt.Errorf("CertKey: %w", err)
	}
	pair, err := tls.X509KeyPair(text, private)
	if err == nil && !endsWhole(text) {
		err = errors.New("the certificate ends in the middle of another")
	}
	if err != nil {
		return nil, fmt.Errorf("Cert %s, CertKey %s: %w", cert, key, err)
	}
	return &pair, nil
}

// endsWhole reports whether no PEM block is cut off. The decoder would skip such a block.
func endsWhole(text []byte) bool {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return !bytes.Contains(rest, []byte("-----BEGIN"))
		}
		text = rest
	}
}
