package peers

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// maxAnswer is as large as libcluster lets an answer of etcd's be.
const maxAnswer = 20 << 20

// reconnect has clients be back soon after an outage of any length.
var reconnect = grpc.WithConnectParams(grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
	MinConnectTimeout: 5 * time.Second,
})

func (t TLS) info() transport.TLSInfo {
	return transport.TLSInfo{CertFile: t.Cert, KeyFile: t.Key, TrustedCAFile: t.CA, ClientCertAuth: t != TLS{}}
}

// server returns how this peer serves; nil: without TLS.
func (t TLS) server() (*tls.Config, error) {
	if t == (TLS{}) {
		return nil, nil
	}
	config, err := t.info().ServerConfig()
	if err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	config.NextProtos = []string{"h2", "http/1.1"} // clients, and peers
	return config, nil
}

// client returns how this process connects to others; nil: without TLS.
func (t TLS) client() (*tls.Config, error) {
	if t == (TLS{}) {
		return nil, nil
	}
	config, err := t.info().ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return config, nil
}

func (p *Peers) transport() *http.Transport {
	return &http.Transport{
		// Where a dial is swallowed, the kernel tries again after longer and longer pauses.
		DialContext:     (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig: p.secured, DisableKeepAlives: true, TLSHandshakeTimeout: dialTimeout,
	}
}

// url returns the URL of a peer.
func (p *Peers) url(address string) string {
	if p.secured != nil {
		return "https://" + address
	}
	return "http://" + address
}

// dial returns a client to the servers at some addresses.
func (p *Peers) dial(addresses []string) (*clientv3.Client, error) {
	var endpoints []string
	for _, address := range addresses {
		if address != "" {
			endpoints = append(endpoints, p.url(address))
		}
	}
	return clientv3.New(clientv3.Config{
		Endpoints: endpoints, TLS: p.secured, Logger: zap.NewNop(), DialOptions: []grpc.DialOption{reconnect},
	})
}
