//go:build linux && faults

package faults_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
)

// island puts lines between three servers, so that one can be cut off from the
// others while its clients still reach it. What is sent to a server goes through
// the line in front of it. What a server sends goes through a line of its own as
// well, to an HTTP proxy; that is why servers call one another by names, for
// which they ask a proxy.
type island struct {
	*servers
	from, to map[*server]*line
}

func startIsland(t *testing.T) *island {
	t.Helper()
	i := &island{
		servers: &servers{t: t}, from: make(map[*server]*line), to: make(map[*server]*line),
	}
	targets := make(map[string]string) // by name:port
	var cluster []string
	const peerPort = ":2380"
	for _, name := range []string{"etcd1", "etcd2", "etcd3"} {
		s := i.add(name)
		i.to[s] = startLine(t, s.peer, nil)
		host := name + ".invalid" + peerPort
		targets[host] = i.to[s].address()
		s.advertised = "http://" + host
		cluster = append(cluster, name+"="+s.advertised)
	}
	forward := startForward(t, targets)
	for _, s := range i.all {
		i.from[s] = startLine(t, forward, nil)
		s.env = []string{"HTTP_PROXY=" + i.from[s].url(), "http_proxy=", "NO_PROXY=", "no_proxy="}
	}
	i.begin(strings.Join(cluster, ","))
	return i
}

// startForward starts an HTTP proxy that knows the servers' names.
func startForward(t *testing.T, targets map[string]string) (address string) {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, network, host string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, targets[host])
	}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{
		ErrorLog: zap.NewStdLog(zap.NewNop()),
		Handler: &httputil.ReverseProxy{
			Transport: transport, FlushInterval: -1, ErrorLog: zap.NewStdLog(zap.NewNop()),
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(&url.URL{Scheme: "http", Host: r.In.Host})
				r.Out.URL.Path, r.Out.URL.RawPath = r.In.URL.Path, r.In.URL.RawPath
			},
		},
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Close()
		<-ended
		transport.CloseIdleConnections()
	})
	return listener.Addr().String()
}

func (i *island) isolate(s *server) {
	i.from[s].cut(true, true)
	i.to[s].cut(true, true)
}

func (i *island) rejoin(s *server) {
	i.from[s].heal(true)
	i.to[s].heal(true)
}

func TestMemberOfAnIsolatedServerIsFencedBeforeTheMajorityForgetsIt(t *testing.T) {
	etcd := startIsland(t)
	for _, who := range []string{"a follower", "the leader"} {
		row := &figures{fault: "its server, " + who + ", cut off from the others"}
		for row.trials < trials(2, 60) {
			isolated, others := etcd.leader()
			if who == "a follower" {
				isolated, others = others[0], []*server{isolated, others[1]}
			}
			etcd.trial(t, row, isolated, others)
		}
		row.report(t)
		require.NotEmpty(t, row.margins, "the majority has deleted nothing")
	}
}

// trial isolates a server of which some members know nothing else.
func (i *island) trial(t *testing.T, row *figures, isolated *server, others []*server) {
	members := joinMany(t, 6, func(int) libcluster.Config {
		return libcluster.Config{TTL: shortTTL, Registry: libcluster.Etcd(isolated.url())}
	})
	stop := watchBeliefs(t, members...)
	w, end := observe(t, others[0].url(), others[1].url())
	begin := boot()
	i.isolate(isolated)
	cut := boot()
	for _, m := range members {
		w.awaitDeletion(patience, prefix+m.ID(), begin)
	}
	// Renewals that the isolated server still grants by itself move the
	// deadline only as far as a read of the quorum has confirmed them.
	requireFenced(t, members, begin, cut, shortTTL)
	lasts(time.Second)
	i.rejoin(isolated)
	healed := i.awaitReadableAt(isolated)
	awaitWhole(t, patience, members)
	row.allBack(t, members, w, begin, healed)
	row.trials += len(members)
	stop()
	end()
	for _, m := range members {
		m.leave()
	}
}
