//go:build linux && faults

package faults_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/libcluster/libcluster/internal/testhost"
)

// server is an etcd server, a process of its own.
type server struct {
	*process
	name, dir, log string
	client, peer   string // host:port
	advertised     string // the URL by which the others call it
	args, env      []string
}

// servers are those of one etcd. Their timing is etcd's default: a heartbeat
// each 100 ms, an election after 1 s without one.
type servers struct {
	t   *testing.T
	all []*server
}

// startServers starts an etcd of n servers and returns when it serves. Arguments
// are those of etcd's command line.
func startServers(t *testing.T, n int, args ...string) *servers {
	t.Helper()
	e := &servers{t: t}
	var cluster []string
	for i := range n {
		s := e.add(fmt.Sprintf("etcd%d", i+1))
		cluster = append(cluster, s.name+"="+s.advertised)
	}
	e.begin(strings.Join(cluster, ","), args...)
	return e
}

// add prepares a server.
func (e *servers) add(name string) *server {
	e.t.Helper()
	folder := e.t.TempDir()
	s := &server{
		name: name, client: testhost.FreeAddress(e.t), peer: testhost.FreeAddress(e.t),
		dir: filepath.Join(folder, "data"), log: filepath.Join(folder, "log"),
	}
	s.advertised = "http://" + s.peer
	e.all = append(e.all, s)
	return s
}

// begin starts those that were added and waits until they serve.
func (e *servers) begin(cluster string, args ...string) {
	e.t.Helper()
	// Before they start, so that whatever joins them ends before they do.
	e.t.Cleanup(e.end)
	for _, s := range e.all {
		s.args = append([]string{
			"--name", s.name, "--data-dir", s.dir, "--log-level", "warn",
			"--listen-client-urls", s.url(), "--advertise-client-urls", s.url(),
			"--listen-peer-urls", "http://" + s.peer, "--initial-advertise-peer-urls", s.advertised,
			"--initial-cluster", cluster,
		}, args...)
		e.start(s)
	}
	e.awaitReadable(patience)
}

// start starts a server for the first time, or again with the data that it has.
func (e *servers) start(s *server) {
	e.t.Helper()
	log, err := os.OpenFile(s.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(e.t, err)
	defer log.Close() // the process has its own
	s.process = spawn(e.t, roleServer, log, s.env, s.args...)
}

// end kills all servers, and prints how their logs end if the test has failed.
func (e *servers) end() {
	for _, s := range e.all {
		if s.process != nil {
			s.kill()
		}
	}
	if !e.t.Failed() {
		return
	}
	const lines = 15
	for _, s := range e.all {
		text, err := os.ReadFile(s.log)
		if err != nil {
			e.t.Log(err)
			continue
		}
		tail := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
		tail = tail[max(0, len(tail)-lines):]
		e.t.Logf("%s (%s), the end of its log:\n%s", s.name, s.client, bytes.Join(tail, []byte("\n")))
	}
}

func (e *servers) urls() []string {
	var urls []string
	for _, s := range e.all {
		urls = append(urls, s.url())
	}
	return urls
}

func (s *server) url() string { return "http://" + s.client }

// leader waits for a leader that knows of itself, and returns it and the others.
func (e *servers) leader() (leader *server, followers []*server) {
	e.t.Helper()
	client := dial(e.t, e.urls()...)
	defer client.Close()
	await(e.t, patience, "a leader of etcd", func() bool {
		leader, followers = nil, nil
		for _, s := range e.all {
			ctx, cancel := context.WithTimeout(e.t.Context(), time.Second)
			status, err := client.Status(ctx, s.url())
			cancel()
			if err == nil && status.Leader != 0 && status.Leader == status.Header.MemberId {
				leader = s
			} else {
				followers = append(followers, s)
			}
		}
		return leader != nil
	})
	return leader, followers
}

// awaitReadable returns when a plain client's linearizable read succeeds, and
// when that was. From then on etcd is there, as far as anybody can tell.
func (e *servers) awaitReadable(bound time.Duration) time.Duration {
	e.t.Helper()
	return e.readable(bound, e.urls()...)
}

// awaitReadableAt is awaitReadable for one server.
func (e *servers) awaitReadableAt(s *server) time.Duration {
	e.t.Helper()
	return e.readable(patience, s.url())
}

func (e *servers) readable(bound time.Duration, urls ...string) time.Duration {
	e.t.Helper()
	client := dial(e.t, urls...)
	defer client.Close()
	await(e.t, bound, "an etcd that answers", func() bool {
		ctx, cancel := context.WithTimeout(e.t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := client.Get(ctx, "any")
		return err == nil
	})
	return boot()
}

// dial returns a plain client, which goes around the proxies and reconnects
// without delay.
func dial(t *testing.T, urls ...string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints: urls, DialTimeout: time.Second, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.5, MaxDelay: 50 * time.Millisecond},
			MinConnectTimeout: time.Second,
		})},
	})
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}
