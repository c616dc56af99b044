//go:build linux && faults

package faults_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// event is a change of a key as etcd told it.
type event struct {
	at       time.Duration
	key      string
	gone     bool
	revision int64
	lease    int64
}

// witness watches the whole of etcd, around all proxies, and takes down when
// what was told. An event is never older than it seems, only younger.
type witness struct {
	t      *testing.T
	client *clientv3.Client

	mu     sync.Mutex // guards what follows
	events []event
}

// observe starts a witness on servers that must not be frozen: until the test
// ends, or until the returned function is called.
func observe(t *testing.T, urls ...string) (w *witness, stop func()) {
	t.Helper()
	w = &witness{t: t, client: dial(t, urls...)}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		w.watch(ctx, sync.OnceFunc(func() { close(ready) }))
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-ended
	})
	t.Cleanup(stop)
	select {
	case <-ready:
	case <-time.After(patience):
		require.FailNow(t, "the witness cannot watch etcd")
	}
	return w, stop
}

func (w *witness) watch(ctx context.Context, ready func()) {
	next := int64(0)
	for ctx.Err() == nil {
		life, cancel := context.WithCancel(ctx)
		for answer := range w.client.Watch(life, "", clientv3.WithPrefix(), clientv3.WithRev(next),
			clientv3.WithPrevKV(), clientv3.WithCreatedNotify()) {
			at := boot()
			if answer.Created {
				ready()
			}
			next = max(next, answer.CompactRevision)
			for _, e := range answer.Events {
				next = e.Kv.ModRevision + 1
				w.note(at, e)
			}
		}
		cancel()
	}
}

func (w *witness) note(at time.Duration, e *clientv3.Event) {
	told := event{
		at: at, key: string(e.Kv.Key), gone: e.Type == clientv3.EventTypeDelete,
		revision: e.Kv.ModRevision, lease: e.Kv.Lease,
	}
	if told.gone && e.PrevKv != nil {
		told.lease = e.PrevKv.Lease
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, told)
}

// deletions returns when a key was deleted, after a time.
func (w *witness) deletions(key string, after time.Duration) []event {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []event
	for _, e := range w.events {
		if e.gone && e.key == key && e.at > after {
			found = append(found, e)
		}
	}
	return found
}

// written returns the revision in which a key was last written, or 0.
func (w *witness) written(key string) (revision int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if !e.gone && e.key == key {
			revision = e.revision
		}
	}
	return revision
}

// successor returns the revision in which a key was written again after it was
// deleted. What a member knows of an earlier one is of the record that has gone.
func (w *witness) successor(gone event) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if !e.gone && e.key == gone.key && e.revision > gone.revision {
			return e.revision
		}
	}
	return math.MaxInt64
}

// awaitDeletion returns the first deletion of a key after a time.
func (w *witness) awaitDeletion(bound time.Duration, key string, after time.Duration) event {
	w.t.Helper()
	var found []event
	await(w.t, bound, fmt.Sprintf("the deletion of %s", strings.TrimPrefix(key, prefix)), func() bool {
		found = w.deletions(key, after)
		return len(found) > 0
	})
	return found[0]
}

// catchUp returns when the witness has been told everything up to now.
func (w *witness) catchUp() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	put, err := w.client.Put(ctx, "barrier", "")
	require.NoError(w.t, err)
	await(w.t, patience, "the witness's own write", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.events) > 0 && w.events[len(w.events)-1].revision >= put.Header.Revision
	})
}
