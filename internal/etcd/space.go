//go:build !wasm

// Package etcd keeps a space of package kv in etcd v3. A record is a key, an owner's lease
// is the lease of that ID, and a commit is a revision of etcd's, which all spaces share.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/metadata"

	"github.com/libcluster/libcluster/kv"
)

// Config is how a space is opened.
type Config struct {
	Client *clientv3.Client
	// Owned has Close close the client.
	Owned bool
	// Prefix is before every key.
	Prefix string
	// Timeout bounds one request, so that the next one goes to another server. While the
	// space is being joined, until it is listed for the first time, a request has two fifths of
	// what its context still has, if that is more: when many join at once, each is told of all the
	// others, and etcd is slow to answer; what is given up it has to do again. Of Renew and
	// Get an answer counts whenever it comes, and their contexts alone bound them.
	Timeout time.Duration
	// Passive is that it is joined by a list, and otherwise by a commit that lists.
	Passive bool
	// Silence is for how long a watch may leave a question unanswered.
	Silence time.Duration
	// MayWrite are keys that the user must be allowed to write. Begin asks, without
	// writing them, and until it knows no Commit is sent.
	MayWrite []string
	// Begins is called before etcd is asked for the first lease: the user's own, since any further
	// one is for what the user leaves behind. Optional.
	Begins func(kv.Owner)
	// Shared is what the spaces of one user have in common that are opened one after another.
	Shared *Shared
	Log    *zap.Logger
}

// DefaultTimeout is for one request. A request to a healthy etcd takes milliseconds; without
// a deadline, one to a dead etcd would wait for ever.
const DefaultTimeout = 2 * time.Second

// SilenceOf returns for how long a watch may leave a question unanswered, the first one
// included, when records have a TTL: as long as a heartbeat may take. Not longer, since
// until then the instance goes by an old state.
func SilenceOf(ttl time.Duration) time.Duration { return ttl * 30 / 100 }

// Shared is what spaces share.
type Shared struct {
	shrunk atomic.Int32 // pages are smaller by so many powers of two
}

// Space is a [kv.Space].
type Space struct {
	Config
	joined atomic.Bool // it has been listed
	begun  atomic.Bool // Begins was called

	allowed  chan struct{} // closed when the user is known to be allowed to write
	allowing sync.Once     // closes it

	// ctx is the space's life: its streams end with it.
	ctx     context.Context
	cancel  context.CancelFunc
	streams sync.WaitGroup // of watches, which have not ended yet

	mu      sync.Mutex // guards what follows
	idle    *keepAlives
	watches map[*watch]struct{}
}

// Open opens a space. It sends nothing.
func Open(c Config) *Space {
	s := &Space{Config: c, watches: make(map[*watch]struct{}), allowed: make(chan struct{})}
	if len(c.MayWrite) == 0 {
		close(s.allowed)
	}
	// A watcher that is shared shares its streams among those that send the same metadata.
	life := metadata.AppendToOutgoingContext(context.Background(), "libcluster-stay", fmt.Sprintf("%p", c.Shared))
	s.ctx, s.cancel = context.WithCancel(clientv3.WithRequireLeader(life))
	return s
}

// Close ends the streams and leaves the leases to expire.
func (s *Space) Close() error {
	s.mu.Lock()
	s.cancel() // and no stream is opened any more
	s.mu.Unlock()
	s.streams.Wait()
	if !s.Owned {
		return nil
	}
	if err := s.Client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// bound returns a context for one request, which also ends with the space.
func (s *Space) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	limit := s.Timeout
	if deadline, ok := ctx.Deadline(); ok && !s.joined.Load() {
		limit = max(limit, time.Until(deadline)*2/5)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// Get reads one key from the quorum.
func (s *Space) Get(ctx context.Context, key string) (kv.Record, kv.Mark, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	got, err := s.Client.Get(ctx, s.Prefix+key)
	if err != nil {
		return kv.Record{}, kv.Mark{}, s.explained(err)
	}
	s.answered(got.Header.Revision)
	return s.first(key, got.Kvs), mark(got.Header), nil
}

// first returns the record of a key of which this is what was read.
func (s *Space) first(key string, kvs []*mvccpb.KeyValue) kv.Record {
	if len(kvs) == 0 {
		return kv.Record{Key: key}
	}
	return s.record(kvs[0])
}

func (s *Space) record(of *mvccpb.KeyValue) kv.Record {
	return kv.Record{
		Key: string(of.Key[len(s.Prefix):]), Value: of.Value, Owner: kv.Owner(of.Lease),
		Version: of.ModRevision, Created: of.CreateRevision,
	}
}

func mark(h *pb.ResponseHeader) kv.Mark {
	return kv.Mark{Store: strconv.FormatUint(h.ClusterId, 16), Revision: h.Revision}
}

// Commit is one transaction of etcd's.
func (s *Space) Commit(ctx context.Context, tx kv.Tx) (kv.Result, error) {
	var then, otherwise []clientv3.Op
	for _, r := range tx.Put {
		then = append(then, clientv3.OpPut(s.Prefix+r.Key, string(r.Value), clientv3.WithLease(clientv3.LeaseID(r.Owner))))
	}
	for _, key := range tx.Delete {
		then = append(then, clientv3.OpDelete(s.Prefix+key))
	}
	listed := len(then)
	if tx.Each != nil {
		then = append(then, s.firstPage(tx.Prefix))
	}
	for _, c := range tx.If {
		otherwise = append(otherwise, clientv3.OpGet(s.Prefix+c.Key))
	}
	one, cancel := s.bound(ctx)
	defer cancel()
	select {
	case <-s.allowed:
	case <-one.Done():
		return kv.Result{}, context.Cause(one)
	}
	answer, err := s.Client.Txn(one).If(s.Compare(tx.If...)...).Then(then...).Else(otherwise...).Commit()
	if err != nil {
		if tx.Each != nil && isTooLong(err) {
			s.Shared.shrinkPage() // it is not known what has become of the writes
		}
		return kv.Result{}, s.explained(err)
	}
	result := kv.Result{Done: answer.Succeeded, Mark: mark(answer.Header)}
	switch {
	case !result.Done:
		for n, c := range tx.If {
			result.Records = append(result.Records, s.first(c.Key, answer.Responses[n].GetResponseRange().Kvs))
		}
	case tx.Each != nil:
		page := (*clientv3.GetResponse)(answer.Responses[listed].GetResponseRange())
		err = s.pages(ctx, tx.Prefix, answer.Header, page, tx.Each)
		s.joined.Store(true)
	}
	return result, err
}

// Compare returns conditions for a transaction of etcd's. A key that is not there has revision
// 0 and no lease.
func (s *Space) Compare(conditions ...kv.Cond) (all []clientv3.Cmp) {
	for _, c := range conditions {
		if c.Owned {
			all = append(all, clientv3.Compare(clientv3.LeaseValue(s.Prefix+c.Key), "=", clientv3.LeaseID(c.Owner)))
		} else {
			all = append(all, clientv3.Compare(clientv3.ModRevision(s.Prefix+c.Key), "=", c.Version))
		}
	}
	return all
}
