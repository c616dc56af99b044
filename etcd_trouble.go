//go:build !wasm

package libcluster

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// etcdAdvice says what to change for what an error says. The first that fits counts.
var etcdAdvice = []struct {
	says   string
	fits   func(e EtcdConfig, secure bool) bool // nil: always
	advice string
}{
	{rpctypes.ErrorDesc(rpctypes.ErrUserEmpty), nil, "this etcd wants a user; set EtcdConfig.Username and Password"},
	{rpctypes.ErrorDesc(rpctypes.ErrAuthFailed), nil, "check EtcdConfig.Username and Password"},
	{rpctypes.ErrorDesc(rpctypes.ErrPermissionDenied), nil, "grant this user's role to read and write that prefix"},
	{"unknown authority", nil, "set EtcdConfig.CACert to the certificate of the authority that signs the servers'"},
	{"certificate is valid for", nil, "the server's certificate is for other names; use one of them in EtcdConfig.Endpoints"},
	{"certificate is not valid for", nil, "the server's certificate is for other names; use one of them in EtcdConfig.Endpoints"},
	{"doesn't contain any IP SANs", nil, "the server's certificate is for names only; use one of them in EtcdConfig.Endpoints"},
	{"certificate has expired", nil, "renew that certificate, or set the clock"},
	{"does not look like a TLS handshake", nil, "no TLS there; use http:// in EtcdConfig.Endpoints"},
	{"handshake failed: EOF", nil, "perhaps no TLS there; use http:// in EtcdConfig.Endpoints"},
	{"certificate required", nil, "set EtcdConfig.Cert and CertKey"},
	{"expired certificate", nil, refusesCert},
	{"unknown certificate authority", nil, refusesCert},
	{"bad certificate", nil, refusesCert},
	{"HTTP/1.1 header", nil, "a web server, and no etcd; check the port in EtcdConfig.Endpoints"},
	{"server preface: EOF", isPlain, "perhaps an etcd with TLS; use https:// in EtcdConfig.Endpoints"},
	{"connection reset", isPlain, "perhaps an etcd with TLS; use https:// in EtcdConfig.Endpoints"},
	{"broken pipe", lacksCert, "the server may want a client certificate; set EtcdConfig.Cert and CertKey"},
	{"EOF", lacksCert, "the server may want a client certificate; set EtcdConfig.Cert and CertKey"},
	{"connection reset", lacksCert, "the server may want a client certificate; set EtcdConfig.Cert and CertKey"},
	{"broken pipe", isSecure, "perhaps " + refusesCert},
	{"EOF", isSecure, "perhaps " + refusesCert},
	{"connection reset", isSecure, "perhaps " + refusesCert},
	{"server preface", nil, "no etcd answers there; check EtcdConfig.Endpoints"},
	{"connection refused", nil, "nobody listens there; check EtcdConfig.Endpoints"},
	{"no such host", nil, "check EtcdConfig.Endpoints"},
	{nothingAnswers, nil, swallows},
	{"i/o timeout", nil, swallows},
}

const refusesCert = "the server refuses this client's certificate; is it still valid, and from an authority that the server knows? " +
	"Check EtcdConfig.Cert and CertKey"

const swallows = "a firewall, or a machine that is not there, may swallow what is sent; check EtcdConfig.Endpoints"

func isSecure(_ EtcdConfig, secure bool) bool  { return secure }
func isPlain(_ EtcdConfig, secure bool) bool   { return !secure }
func lacksCert(e EtcdConfig, secure bool) bool { return secure && e.Cert == "" && e.TLS == nil }

// explained adds to an error what it leaves open: whose key it is about, as which
// user, and what to change.
func (e EtcdConfig) explained(err error, prefix string) error {
	user := "without a user"
	if e.Username != "" {
		user = fmt.Sprintf("user %q", e.Username)
	}
	about := fmt.Sprintf("key %s, %s", prefix, user)
	if e.Client != nil {
		return fmt.Errorf("%v: %w (key %s)", e, err, prefix)
	}
	endpoints, secure, bad := parseEndpoints(e.Endpoints)
	if bad != nil {
		return fmt.Errorf("%v: %w", e, err)
	}
	text := err.Error()
	for _, a := range etcdAdvice {
		if strings.Contains(text, a.says) && (a.fits == nil || a.fits(e, secure)) {
			about += "; " + a.advice
			break
		}
	}
	if !answered(text) {
		about += viaProxy(endpoints)
	}
	return fmt.Errorf("%v: %w (%s)", e, err, about)
}

// answered reports whether an error comes from etcd itself.
func answered(text string) bool { return strings.Contains(text, "etcdserver:") }

// viaProxy names the proxy that gRPC goes through, also to http:// endpoints.
func viaProxy(endpoints []string) string {
	for _, endpoint := range endpoints {
		u, err := url.Parse(endpoint)
		if err != nil {
			continue
		}
		// Host alone: the proxy's URL may hold a password.
		proxy, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: u.Host}})
		if err == nil && proxy != nil {
			return fmt.Sprintf("; the connection goes through the proxy at %s, which HTTPS_PROXY names and gRPC uses "+
				"for http:// too; set NO_PROXY=%s to go without", proxy.Host, u.Hostname())
		}
	}
	return ""
}
