//go:build !wasm

package libcluster

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"
)

// connectTimeout is the default for one attempt to connect, and how long an attempt to join
// waits for a connection that has not failed yet: the first address of a name may swallow
// what is sent to it, and the second shall have its turn.
const connectTimeout = 5 * time.Second

// slowConnect is after how long it is told that nothing has answered yet: not everybody waits
// until an attempt to connect has failed.
const slowConnect = 500 * time.Millisecond

// connect waits for a connection, and not for long if there is none to be had. So what is
// sent later need not be given up soon so as to find out that nobody is there. It calls failing
// whenever dialling has failed and goes on, or takes long.
func connect(ctx context.Context, client *clientv3.Client, timeout time.Duration, failing func()) error {
	conn := client.ActiveConnection()
	conn.Connect()
	slow := min(slowConnect, timeout/2)
	for n, d := range []time.Duration{slow, timeout - slow, connectTimeout} {
		limit, cancel := context.WithTimeout(ctx, d)
		state := conn.GetState()
		for state != connectivity.Ready && state != connectivity.Shutdown && conn.WaitForStateChange(limit, state) {
			if state = conn.GetState(); state == connectivity.TransientFailure {
				failing()
			}
		}
		cancel()
		switch {
		case state == connectivity.Ready, state == connectivity.Shutdown: // the first request says so
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case n == 0:
			failing()
		case state == connectivity.TransientFailure:
			return context.DeadlineExceeded
		}
	}
	return context.DeadlineExceeded
}
