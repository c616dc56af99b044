// Package etcdserver is what an etcd server inside this process needs beyond package embed
// of etcd: a start that can be given up, a log that does not end the process, and a listener
// that closes.
package etcdserver

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// startGrace is how much longer a start may take whose context has ended:
// etcd cannot be interrupted while it opens its files.
const startGrace = 2 * time.Second

// Start is embed.StartEtcd, but it ends with ctx, and with an error where
// etcd would end the process.
func Start(ctx context.Context, config *embed.Config) (*embed.Etcd, error) {
	type result struct {
		server *embed.Etcd
		err    error
	}
	results := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			reason := recover()
			if reason == nil && r.server == nil && r.err == nil {
				reason = "etcd's log says why" // its logger has ended this goroutine
			}
			if reason != nil {
				r = result{err: fmt.Errorf("the data cannot be used: %v; see that the disk is not full, or use another folder, or empty this one", reason)}
			}
			results <- r
		}()
		r.server, r.err = embed.StartEtcd(config)
	}()
	select {
	case r := <-results:
		return r.server, r.err
	case <-ctx.Done():
	}
	discard := func(r result) {
		if r.err == nil {
			r.server.Close()
		}
	}
	select {
	case r := <-results:
		discard(r)
		return nil, context.Cause(ctx)
	case <-time.After(startGrace):
		// It waits for a lock of its own on the data, for as long as it takes.
		go func() { discard(<-results) }()
		return nil, fmt.Errorf("%w; another program may have the folder open: stop it, or use another folder",
			context.Cause(ctx))
	}
}
