package libcluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// maxStrangers bounds how many foreign keys are remembered as reported.
const maxStrangers = 1000

// etcdSession is one lease, one key, one list and one watch.
type etcdSession struct {
	client  *clientv3.Client
	owned   bool
	timeout time.Duration // for one request
	log     *zap.Logger

	prefix string // /KEY/ENV/
	key    string // prefix + ID
	ttl    time.Duration
	// lease holds the key; of a passive session it is NoLease.
	lease   clientv3.LeaseID
	passive bool
	// previous is the lease of the incarnation before, if there was one.
	previous clientv3.LeaseID

	// ctx is the session's life: its streams end with it.
	ctx    context.Context
	cancel context.CancelFunc

	mu     sync.Mutex // guards record
	record string     // what the key holds, or will after the next re-read

	// Used by Next only.
	listed    *Change // not returned yet
	compacted bool    // the watch cannot go on from next: read everything
	next      int64   // the first revision that has not been seen
	watch     clientv3.WatchChan
	stopWatch context.CancelFunc
	strangers map[string]struct{} // foreign keys that were reported

	// Used by Renew only.
	stream     pb.Lease_LeaseKeepAliveClient
	stopStream context.CancelFunc
}

func newEtcdSession(client *clientv3.Client, owned bool, timeout time.Duration, r Registration) *etcdSession {
	prefix := "/" + r.Cluster() + "/"
	s := &etcdSession{
		client:    client,
		owned:     owned,
		timeout:   timeout,
		log:       r.Logger,
		prefix:    prefix,
		key:       prefix + r.Member.ID,
		ttl:       r.TTL,
		passive:   r.Passive,
		record:    string(r.Member.Record()),
		strangers: make(map[string]struct{}),
	}
	if previous, ok := r.Previous.(*etcdSession); ok {
		s.previous = previous.lease
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// open grants the lease, opens the watch, and then writes the key and lists the
// members in one transaction: the list is that of the revision that the write
// made, neither older nor newer, and the session goes on with the one after it.
//
// The watch is opened just before, and what it reports from before the list is
// dropped. Opened after it, with a revision that by then is past, etcd would
// serve it from history, and begin only at its next round, 100 ms apart: when
// many join at once all of them would wait for that.
func (s *etcdSession) open(ctx context.Context) (time.Duration, error) {
	var opening sync.WaitGroup
	opening.Go(func() { s.startWatch(ctx) })
	ttl, err := s.grant(ctx)
	opening.Wait()
	if err != nil {
		return 0, err
	}
	if err := s.list(ctx); err != nil {
		// Whether the key was written is unknown. Without the lease it goes.
		s.revoke(context.WithoutCancel(ctx))
		return 0, err
	}
	return ttl, nil
}

// grant gets a lease, unless the session is passive.
func (s *etcdSession) grant(ctx context.Context) (time.Duration, error) {
	if s.passive {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	seconds := int64((s.ttl + time.Second - 1) / time.Second)
	granted, err := s.client.Grant(ctx, seconds)
	if err != nil {
		return 0, err
	}
	s.lease = granted.ID
	return time.Duration(granted.TTL) * time.Second, nil
}

// list reads every member into s.listed. A member also writes its own record,
// the same as before if it is there already: the write makes the revision, and
// so the generation, which everybody then agrees on. A list alone could not
// know it, because deletions leave no trace in one.
func (s *etcdSession) list(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	get := clientv3.OpGet(s.prefix, clientv3.WithPrefix())
	if s.passive {
		got, err := s.client.Do(ctx, get)
		if err != nil {
			return err
		}
		s.take(got.Get().Header.Revision, got.Get().Kvs)
		return nil
	}
	s.mu.Lock()
	put := clientv3.OpPut(s.key, s.record, clientv3.WithLease(s.lease))
	s.mu.Unlock()
	write, look := []clientv3.Op{put, get}, clientv3.OpGet(s.key)
	txn := s.client.Txn(ctx)
	switch {
	case s.next > 0: // joined before: only while the key is ours
		txn = txn.If(s.heldBy(s.lease)).Then(write...).Else(look)
	case s.previous != 0: // rejoining: only if the key is our previous one, or nobody's
		txn = txn.If(s.heldBy(s.previous)).Then(write...).Else(
			clientv3.OpTxn([]clientv3.Cmp{s.heldBy(clientv3.NoLease)}, write, []clientv3.Op{look}))
	default: // joining: whoever has it
		txn = txn.Then(write...)
	}
	answer, err := txn.Commit()
	if err != nil {
		return recordError(err)
	}
	responses := answer.Responses
	if inner := responses[0].GetResponseTxn(); inner != nil {
		responses = inner.Responses
	}
	if len(responses) < len(write) {
		return s.holder(responses[0].GetResponseRange().Kvs)
	}
	s.take(answer.Header.Revision, responses[1].GetResponseRange().Kvs)
	return nil
}

func (s *etcdSession) take(revision int64, kvs []*mvccpb.KeyValue) {
	change := &Change{Generation: revision, Reset: true}
	for _, kv := range kvs {
		if e := s.event(kv, false); !e.Gone {
			change.Events = append(change.Events, e)
		}
	}
	s.listed, s.next, s.compacted = change, revision+1, false
}

// heldBy compares the key's lease. A key that is not there has none.
func (s *etcdSession) heldBy(lease clientv3.LeaseID) clientv3.Cmp {
	return clientv3.Compare(clientv3.LeaseValue(s.key), "=", lease)
}

// holder tells from a read of the session's key whether it is still its own.
func (s *etcdSession) holder(kvs []*mvccpb.KeyValue) error {
	switch {
	case len(kvs) == 0:
		return ErrRecordGone
	case kvs[0].Lease == int64(s.lease):
		return nil
	case kvs[0].Lease == 0:
		return fmt.Errorf("%w: %s was overwritten without a lease", ErrRecordGone, s.key)
	}
	return fmt.Errorf("%w: %s is held under lease %x, not %x", ErrInstanceTaken, s.key, kvs[0].Lease, int64(s.lease))
}

// Next waits for the next change under the prefix. A watch that was cut is
// resumed after the last revision seen; one that can't be, because its history
// was compacted, is preceded by a new list.
func (s *etcdSession) Next(ctx context.Context) (Change, error) {
	for {
		if s.compacted {
			if err := s.list(ctx); err != nil {
				return Change{}, err
			}
		}
		if s.listed != nil {
			change := *s.listed
			s.listed = nil
			return change, nil
		}
		if s.watch == nil {
			s.startWatch(ctx)
		}
		select {
		case answer, ok := <-s.watch:
			if err := s.checkWatch(answer, ok); err != nil {
				return Change{}, err
			}
			if events := s.unseen(answer.Events); len(events) > 0 {
				return s.change(events)
			}
		case <-ctx.Done():
			return Change{}, context.Cause(ctx)
		}
	}
}

// startWatch opens the watch and returns when the server has confirmed it, or
// when that has taken too long, and then the channel is closed.
func (s *etcdSession) startWatch(ctx context.Context) {
	watchCtx, stop := context.WithCancel(clientv3.WithRequireLeader(s.ctx))
	limit, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	release := context.AfterFunc(limit, stop)
	s.watch = s.client.Watch(watchCtx, s.prefix,
		clientv3.WithPrefix(), clientv3.WithRev(s.next), clientv3.WithFragment())
	s.stopWatch = stop
	release()
}

// checkWatch gives up a watch that has ended.
func (s *etcdSession) checkWatch(answer clientv3.WatchResponse, ok bool) error {
	err := answer.Err()
	switch {
	case ok && err == nil:
		return nil
	case ok && answer.CompactRevision > 0:
		s.log.Debug("the watch fell behind a compaction: reading everything anew",
			zap.Int64("wanted", s.next), zap.Int64("compacted", answer.CompactRevision))
		s.compacted, err = true, nil
	case err == nil: // closed without a reason, or before it was opened
		err = errors.New("the watch was closed")
	}
	s.stopWatch()
	s.watch, s.stopWatch = nil, nil
	return err
}

// unseen drops the events from before the session's list.
func (s *etcdSession) unseen(events []*clientv3.Event) []*clientv3.Event {
	for i, e := range events {
		if e.Kv.ModRevision >= s.next {
			return events[i:]
		}
	}
	return nil
}

// change translates the events of one answer, which hold whole revisions.
func (s *etcdSession) change(events []*clientv3.Event) (Change, error) {
	change := Change{Events: make([]Event, 0, len(events))}
	for _, e := range events {
		// Of a deletion ModRevision is the revision that deleted. (The header's
		// revision is the store's at the time of sending, which may be later.)
		change.Generation = e.Kv.ModRevision
		gone := e.Type == clientv3.EventTypeDelete
		if !s.passive && string(e.Kv.Key) == s.key {
			kvs := []*mvccpb.KeyValue{e.Kv}
			if gone {
				kvs = nil
			}
			if err := s.holder(kvs); err != nil {
				return Change{}, err
			}
		}
		change.Events = append(change.Events, s.event(e.Kv, gone))
	}
	s.next = change.Generation + 1
	return change, nil
}

// event translates one key. Who is a member depends on nothing but what the
// store holds, so that all instances agree: what does not parse is no member, also
// if it was one before.
func (s *etcdSession) event(kv *mvccpb.KeyValue, gone bool) Event {
	id := strings.TrimPrefix(string(kv.Key), s.prefix)
	if gone {
		delete(s.strangers, id)
		return Event{Member: Member{ID: id}, Gone: true}
	}
	member, err := ParseMember(id, kv.Value)
	if err == nil {
		delete(s.strangers, id)
		return Event{Member: member}
	}
	if _, known := s.strangers[id]; !known && len(s.strangers) < maxStrangers {
		s.strangers[id] = struct{}{}
		s.log.Warn("ignoring a key that is not a member's",
			zap.String("key", fmt.Sprintf("%.300q", kv.Key)), zap.Error(err))
	}
	return Event{Member: Member{ID: id}, Gone: true}
}

// Renew sends one keep-alive and then reads the session's own key from the
// quorum: together they prove that the key was there after Renew was called.
func (s *etcdSession) Renew(ctx context.Context) (time.Duration, error) {
	if s.passive {
		return 0, nil
	}
	ttl, err := s.keepAlive(ctx)
	if err != nil {
		return 0, err
	}
	got, err := s.client.Get(ctx, s.key)
	if err != nil {
		return 0, recordError(err)
	}
	return ttl, s.holder(got.Kvs)
}

// keepAlive exchanges one request and one answer on a stream of our own, and
// opens the stream first if need be. After any failure the stream is given up,
// so an answer that comes late is never taken for that to a later request, and
// the next stream goes to the next endpoint.
func (s *etcdSession) keepAlive(ctx context.Context) (ttl time.Duration, err error) {
	if s.stream == nil {
		var streamCtx context.Context
		streamCtx, s.stopStream = context.WithCancel(clientv3.WithRequireLeader(s.ctx))
		release := context.AfterFunc(ctx, s.stopStream)
		s.stream, err = pb.NewLeaseClient(s.client.ActiveConnection()).LeaseKeepAlive(streamCtx)
		release()
	}
	var answer *pb.LeaseKeepAliveResponse
	if err == nil {
		release := context.AfterFunc(ctx, s.stopStream)
		if err = s.stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(s.lease)}); err == nil {
			answer, err = s.stream.Recv()
		}
		release()
	}
	if err != nil {
		s.stopStream()
		s.stream, s.stopStream = nil, nil
		if ctx.Err() != nil {
			err = fmt.Errorf("no answer to a keep-alive in time: %w", err)
		}
		return 0, recordError(err)
	}
	if answer.TTL <= 0 {
		return 0, fmt.Errorf("%w: the lease has expired", ErrRecordGone)
	}
	return time.Duration(answer.TTL) * time.Second, nil
}

// Update writes the record, only while the key is still under our lease: a put
// with any other condition could revive a key that is no longer ours.
func (s *etcdSession) Update(ctx context.Context, m Member) error {
	record := string(m.Record())
	s.mu.Lock()
	s.record = record
	s.mu.Unlock()
	answer, err := s.client.Txn(ctx).If(s.heldBy(s.lease)).
		Then(clientv3.OpPut(s.key, record, clientv3.WithLease(s.lease))).
		Else(clientv3.OpGet(s.key)).
		Commit()
	if err != nil {
		return recordError(err)
	}
	if !answer.Succeeded {
		return s.holder(answer.Responses[0].GetResponseRange().Kvs)
	}
	return nil
}

// Leave revokes the lease, and the key goes with it unless it is another's.
func (s *etcdSession) Leave(ctx context.Context) error {
	return errors.Join(s.revoke(ctx), s.release())
}

func (s *etcdSession) revoke(ctx context.Context) error {
	if s.passive {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	_, err := s.client.Revoke(ctx, s.lease)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil
	}
	return err
}

// Close ends the streams and leaves the lease to expire.
func (s *etcdSession) Close() error { return s.release() }

func (s *etcdSession) release() error {
	s.cancel()
	if !s.owned {
		return nil
	}
	if err := s.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// recordError finds the one answer that proves the lease, and so the record, to
// be gone. Every other error leaves that open.
func recordError(err error) error {
	if errors.Is(rpctypes.Error(err), rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("%w: the lease has expired", ErrRecordGone)
	}
	return err
}
