package peers

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/soheilhy/cmux"
	"golang.org/x/net/netutil"

	"github.com/libcluster/libcluster/internal/etcdserver"
)

const (
	// wordPath is where a peer hears what this one says, for as long as it holds the connection.
	wordPath = "/libcluster/peer"
	// pingPath is QCluster's.
	pingPath = "/ping"

	// helloTimeout is how long a connection may take to say what it is for.
	helloTimeout = 5 * time.Second

	// longestIdle is how long a connection may wait for its next request.
	longestIdle = 2 * time.Minute

	// mostConns is how many connections the port holds; further ones wait until one is closed.
	mostConns = 1024
)

// front is the one port of a peer. It tells gRPC, which clients speak, from HTTP, which peers
// speak.
type front struct {
	listener net.Listener
	http     *http.Server
	grpc     net.Listener // of connections that speak gRPC
	raft     atomic.Pointer[http.Handler]
	serving  sync.WaitGroup
}

func openFront(ctx context.Context, address string, secured *tls.Config, board *board) (*front, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen: %w; is another instance with the same file running?", err)
	}
	l = etcdserver.Tracked(netutil.LimitListener(l, mostConns))
	if secured != nil {
		l = tls.NewListener(l, secured)
	}
	f := &front{listener: l}
	split := cmux.New(l)
	split.SetReadTimeout(helloTimeout)
	f.grpc = split.Match(cmux.HTTP2())
	rest := split.Match(cmux.Any())
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pingPath, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "pong") })
	mux.HandleFunc("GET "+wordPath, board.serve)
	mux.HandleFunc("/", f.serveRaft)
	f.http = newHTTP(mux)
	f.serving.Go(func() { _ = f.http.Serve(rest) }) // an error says that it was closed
	f.serving.Go(func() { _ = split.Serve() })
	return f, nil
}

func newHTTP(handler http.Handler) *http.Server {
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: helloTimeout, IdleTimeout: longestIdle,
		ErrorLog: log.New(io.Discard, "", 0), // clients that break off
	}
}

// serveRaft serves what etcd's servers ask of each other.
func (f *front) serveRaft(w http.ResponseWriter, r *http.Request) {
	if raft := f.raft.Load(); raft != nil {
		(*raft).ServeHTTP(w, r)
		return
	}
	http.Error(w, "the server has not started yet", http.StatusServiceUnavailable)
}

// close ends all connections, and returns when nothing of the front is left.
func (f *front) close() {
	_ = f.listener.Close() // and with it all connections
	_ = f.http.Close()
	f.serving.Wait()
}

// serve says what this peer says, until the request ends.
func (b *board) serve(w http.ResponseWriter, r *http.Request) {
	b.called(r.Header.Get(peerHeader))
	out := json.NewEncoder(w)
	var said []byte
	for {
		now, changed := b.says()
		if text, err := json.Marshal(now); err != nil || string(text) != string(said) {
			said = text
			if out.Encode(json.RawMessage(text)) != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}
