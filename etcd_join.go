//go:build !wasm

package libcluster

import (
	"context"
	"time"

	"google.golang.org/grpc/connectivity"
)

// connectTimeout is the default for one attempt to connect, and how long an attempt to join
// waits for a connection that has not failed yet: the first address of a name may swallow
// what is sent to it, and the second shall have its turn.
const connectTimeout = 5 * time.Second

// connect waits for a connection, and not for long if there is none to be had. So what is
// sent later need not be given up soon so as to find out that nobody is there.
func (s *etcdSession) connect(ctx context.Context) error {
	conn := s.client.ActiveConnection()
	conn.Connect()
	for _, d := range []time.Duration{s.timeout, connectTimeout} {
		limit, cancel := context.WithTimeout(ctx, d)
		state := conn.GetState()
		for state != connectivity.Ready && state != connectivity.Shutdown && conn.WaitForStateChange(limit, state) {
			state = conn.GetState()
		}
		cancel()
		switch {
		case state == connectivity.Ready, state == connectivity.Shutdown: // the first request says so
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case state == connectivity.TransientFailure:
			return context.DeadlineExceeded
		}
	}
	return context.DeadlineExceeded
}

// request bounds one request to join: by its usual timeout, or by two fifths of what the
// attempt still has if that is more. When many join at once, each is told of all the
// others, and etcd is slow to answer; what is given up it has to do again.
func (s *etcdSession) request(ctx context.Context) (context.Context, context.CancelFunc) {
	limit := s.timeout
	if deadline, ok := ctx.Deadline(); ok && s.next == 0 { // later ones are not slow for that reason
		limit = max(limit, time.Until(deadline)*2/5)
	}
	return context.WithTimeout(ctx, limit)
}
