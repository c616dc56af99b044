//go:build !wasm

package etcd

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster/kv"
)

// watch is one watch on a stream of its own: opened anew, it is on a new stream, and
// so on the next server, also on a client that others use.
type watch struct {
	space   *Space
	answers clientv3.WatchChan
	watcher clientv3.Watcher
	after   int64
	ctx     context.Context
	stop    context.CancelFunc // ends the watch, and then its stream
	beat    chan struct{}      // holds one: etcd has answered, so have a look at the watch
	asked   time.Time          // when it was asked for a sign of life that it still owes
	told    atomic.Int64       // it has told of all up to this revision
	over    error              // it has ended, and what it told before has been returned
}

// Watch opens a watch, and returns when the server has confirmed it, or when that has
// taken too long; then Next says so.
//
// A stream has a watcher of its own to end it. clientv3 ends none on which a watch was
// given up before a server has confirmed it, and in an outage that is every one.
func (s *Space) Watch(ctx context.Context, prefix string, after int64) (kv.Watch, error) {
	w := &watch{space: s, watcher: newWatcher(s.Client), after: after, beat: make(chan struct{}, 1)}
	w.ctx, w.stop = context.WithCancel(s.ctx)
	s.mu.Lock()
	if s.ctx.Err() != nil { // Close waits for no other
		s.mu.Unlock()
		_ = w.watcher.Close()
		return nil, kv.ErrClosed
	}
	s.streams.Add(1)
	s.watches[w] = struct{}{}
	s.mu.Unlock()
	context.AfterFunc(w.ctx, func() {
		defer s.streams.Done()
		_ = w.watcher.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watches, w)
	})
	limit, cancel := s.opening(ctx)
	defer cancel()
	release := context.AfterFunc(limit, w.stop)
	options := []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithFragment()}
	if after > 0 {
		options = append(options, clientv3.WithRev(after+1))
	}
	w.answers = w.watcher.Watch(w.ctx, s.Prefix+prefix, options...)
	release()
	return w, nil
}

// opensWithin is for how long a watch may be opened at most: it may be on a frozen server.
const opensWithin = 5 * time.Second

// opening bounds the opening of a watch: by how long it may be silent, and while the space is
// being joined by what a request has that joins.
func (s *Space) opening(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.joined.Load() {
		return context.WithTimeout(ctx, min(s.Silence, max(s.Timeout, opensWithin)))
	}
	bound, cancel := s.bound(ctx)
	limit, end := context.WithTimeout(bound, s.Silence)
	return limit, func() { end(); cancel() }
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

// Close does nothing: the watcher is the caller's.
func (sharedWatcher) Close() error { return nil }

// Close ends the watch.
func (w *watch) Close() { w.stop() }

// Next waits for events, and takes all that are ready. One answer holds whole revisions.
func (w *watch) Next(ctx context.Context) (changes kv.Changes, err error) {
	for w.space.ctx.Err() == nil && w.over == nil {
		select {
		case answer, ok := <-w.answers:
			w.take(answer, ok, &changes)
			for len(w.answers) > 0 && w.over == nil {
				w.take(<-w.answers, true, &changes)
			}
			if len(changes.Records) > 0 {
				return changes, nil
			}
		case <-w.beat:
			w.over = w.probe()
		case <-ctx.Done():
			return kv.Changes{}, context.Cause(ctx)
		}
	}
	if w.space.ctx.Err() != nil {
		return kv.Changes{}, kv.ErrClosed
	}
	return kv.Changes{}, w.over
}

func (w *watch) take(answer clientv3.WatchResponse, ok bool, changes *kv.Changes) {
	if w.over = w.check(answer, ok); w.over != nil {
		return
	}
	w.asked = time.Time{}
	if answer.IsProgressNotify() {
		w.told.Store(answer.Header.Revision)
	}
	for _, e := range answer.Events {
		// Of a deletion ModRevision is the revision that deleted. (The header's
		// revision is the store's at the time of sending, which may be later.)
		w.after = e.Kv.ModRevision
		w.told.Store(w.after)
		changes.Mark = mark(answer.Header)
		changes.Mark.Revision = w.after
		changes.Records = append(changes.Records, kv.Change{
			Record: w.space.record(e.Kv), Gone: e.Type == clientv3.EventTypeDelete,
		})
	}
}

// check tells why a watch has ended.
func (w *watch) check(answer clientv3.WatchResponse, ok bool) error {
	err := answer.Err()
	switch {
	case ok && err == nil:
		return nil
	case ok && answer.CompactRevision > 0:
		w.space.Log.Debug("the watch fell behind a compaction",
			zap.Int64("wanted", w.after+1), zap.Int64("compacted", answer.CompactRevision))
		return fmt.Errorf("%w: they were compacted", kv.ErrMissed)
	case err == nil: // closed without a reason, or before it was opened
		err = errors.New("the watch was closed")
	}
	w.stop()
	return w.space.explained(err)
}

// answered has each watch be looked at that has not told of all up to a revision, which etcd
// has had by now. The others have missed nothing, and need not be asked.
func (s *Space) answered(revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.watches {
		if w.told.Load() >= revision {
			continue
		}
		select {
		case w.beat <- struct{}{}:
		default:
		}
	}
}

// probe asks the watch for a sign of life, once a heartbeat while there may be something to tell. A server that
// is frozen with its connections open looks like one with nothing to report;
// without this, it would be found out only when gRPC's own probe fails, after
// 13 s. A watch that leaves a question unanswered is given up, and the next one
// goes to another server.
func (w *watch) probe() error {
	if len(w.answers) > 0 {
		return nil
	}
	if silent := time.Since(w.asked); !w.asked.IsZero() && silent > w.space.Silence {
		w.stop()
		return fmt.Errorf("the watch has not answered for %v", silent.Round(time.Millisecond))
	}
	ctx, cancel := context.WithTimeout(w.ctx, w.space.Timeout)
	defer cancel()
	if w.asked.IsZero() {
		w.asked = time.Now()
	}
	// What fails here shows as a closed watch, or as no answer.
	_ = w.watcher.RequestProgress(ctx)
	return nil
}
