//go:build !wasm

package libcluster

import (
	"context"
	"reflect"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// etcdWatch is one watch on a stream of its own: opened anew, it is on a new stream, and
// so on the next server, also on a client that others use.
type etcdWatch struct {
	answers clientv3.WatchChan
	watcher clientv3.Watcher
	ctx     context.Context
	stop    context.CancelFunc // ends the watch, and then its stream
}

// openWatch opens a watch of what is below the prefix, and returns when the server has
// confirmed it, or when that has taken too long, and then its channel is closed.
//
// A stream has a watcher of its own to end it. clientv3 ends none on which a watch was
// given up before a server has confirmed it, and in an outage that is every one.
func (s *etcdSession) openWatch(ctx context.Context, patience time.Duration, prefix string, opts ...clientv3.OpOption) *etcdWatch {
	w := &etcdWatch{watcher: newWatcher(s.client)}
	w.ctx, w.stop = context.WithCancel(s.ctx)
	s.mu.Lock()
	if s.ctx.Err() == nil { // release waits for no other
		s.streams.Add(1)
		context.AfterFunc(w.ctx, func() {
			defer s.streams.Done()
			_ = w.watcher.Close()
		})
	} else {
		_ = w.watcher.Close()
	}
	s.mu.Unlock()
	limit, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	release := context.AfterFunc(limit, w.stop)
	w.answers = w.watcher.Watch(w.ctx, prefix, append(opts, clientv3.WithPrefix(), clientv3.WithFragment())...)
	release()
	return w
}

// newWatcher returns a watcher whose streams are nobody else's. If the caller has wrapped
// the client's, as package namespace of clientv3 does, that one is used, and stays open.
func newWatcher(client *clientv3.Client) clientv3.Watcher {
	own := clientv3.NewWatcher(client)
	if reflect.TypeOf(client.Watcher) != reflect.TypeOf(own) {
		return sharedWatcher{client.Watcher}
	}
	return own
}

type sharedWatcher struct{ clientv3.Watcher }

func (sharedWatcher) Close() error { return nil }
