//go:build !wasm

package libcluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/metadata"
)

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
	// previous is the session of the incarnation before, if there was one.
	previous *etcdSession
	notes    *etcdNotes // what this stay's attempts have in common
	replaces int64      // the revision of the record that is taken over by joining, or 0

	// ctx is the session's life: its streams end with it.
	ctx     context.Context
	cancel  context.CancelFunc
	streams sync.WaitGroup // of watches, which have not ended yet

	mu     sync.Mutex // guards what follows
	record string     // what the key holds, or will after the next re-read
	store  storeMark  // the latest that a linearizable answer told
	idle   *keepAlives

	// Used by Next only.
	listed    *Change // not returned yet
	compacted bool    // the watch cannot go on from next: read everything
	weights   *weights
	next      int64 // the first revision that has not been seen
	watch     *etcdWatch
	asked     time.Time // when the watch was asked for a sign of life that it still owes

	etcdPlanning // in a mode with a plan

	beat signal // Renew has succeeded, have a look at the watch
}

func newEtcdSession(client *clientv3.Client, owned bool, timeout time.Duration, r Registration) *etcdSession {
	prefix := "/" + r.Cluster() + "/"
	s := &etcdSession{
		client:  client,
		owned:   owned,
		timeout: timeout,
		log:     r.Logger,
		prefix:  prefix,
		key:     prefix + r.Member.ID,
		ttl:     r.TTL,
		passive: r.Passive,
		record:  string(r.Member.Record()),
		beat:    newSignal(),
	}
	s.mode = r.Mode
	if s.previous, _ = r.Previous.(*etcdSession); s.previous != nil {
		s.previous.previous = nil // or all sessions of the stay would live on
	}
	s.notes = notesOf(r.Stay, s.previous)
	// A watcher that is shared shares its streams among those that send the same metadata.
	life := metadata.AppendToOutgoingContext(context.Background(), "libcluster-stay", fmt.Sprintf("%p", s.notes))
	s.ctx, s.cancel = context.WithCancel(clientv3.WithRequireLeader(life))
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
func (s *etcdSession) open(ctx context.Context, r Registration) (time.Duration, error) {
	if err := s.mayList(); err != nil {
		return 0, err
	}
	var opening sync.WaitGroup
	var refused, forbidden error
	opening.Go(func() { s.startWatch(ctx) })
	if !s.passive && s.previous == nil {
		opening.Go(func() { refused = s.takeOver(ctx, r) })
	}
	if !s.passive && s.mode != ModeDirect {
		opening.Go(func() { forbidden = s.mayPlan(ctx) })
	}
	ttl, err := s.grant(ctx)
	opening.Wait()
	if err != nil {
		return 0, err
	}
	if err = errors.Join(refused, forbidden); err == nil {
		err = s.paged(ctx, s.list)
	}
	if err != nil {
		// Whether the key was written is unknown. Without the lease it goes.
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout)
		defer cancel()
		_ = s.revoke(cleanup, s.lease)
		return 0, err
	}
	s.endPrevious(ctx)
	return ttl, nil
}

// grant gets a lease. A passive session needs none; what it knows is trusted for
// as long as it asked for.
func (s *etcdSession) grant(ctx context.Context) (time.Duration, error) {
	if s.passive {
		return s.ttl, nil
	}
	ctx, cancel := s.request(ctx)
	defer cancel()
	granted, err := s.client.Grant(ctx, seconds(s.ttl))
	if err != nil {
		return 0, err
	}
	s.lease = granted.ID
	s.notes.granted(s.lease)
	return time.Duration(granted.TTL) * time.Second, nil
}

// list reads every member into s.listed. A member also writes its own record,
// the same as before if it is there already: the write makes the revision, and
// so the generation, which everybody then agrees on. A list alone could not
// know it, because deletions leave no trace in one.
func (s *etcdSession) list(ctx context.Context) error {
	whole := ctx
	ctx, cancel := s.request(ctx)
	defer cancel()
	before := s.mark()
	get := s.firstPage(s.watched())
	if s.passive || s.mode != ModeDirect && s.next > 0 { // a plan has its own number
		got, err := s.client.Do(ctx, get)
		if err != nil {
			return err
		}
		if err := s.take(whole, got.Get().Header, got.Get()); err != nil {
			return err
		}
		return s.sameStore(before, got.Get().Header)
	}
	s.mu.Lock()
	put := clientv3.OpPut(s.key, s.record, clientv3.WithLease(s.lease), clientv3.WithPrevKV())
	s.mu.Unlock()
	txn := s.client.Txn(ctx)
	switch {
	case s.next > 0: // joined before: only while the key is ours
		txn = txn.If(s.heldBy(s.lease))
	case s.previous != nil: // joining again: only if the key is still ours, or nobody's
		lease, err := s.ownLease(ctx)
		if err != nil {
			return err
		}
		txn = txn.If(s.heldBy(lease))
	default: // joining: only if the record is still what takeOver has seen
		txn = txn.If(clientv3.Compare(clientv3.ModRevision(s.key), "=", s.replaces))
	}
	then := []clientv3.Op{put, get}
	if s.mode == ModeExclusive {
		// What this stay has been granted before never acts again, or never has.
		for _, lease := range s.notes.others(s.lease) {
			then = append(then, s.noteDrained(lease, DrainedForGood, s.lease))
		}
	}
	answer, err := txn.Then(then...).Else(clientv3.OpGet(s.key)).Commit()
	if err != nil {
		return recordError(err)
	}
	if !answer.Succeeded {
		if err := s.holder(answer.Responses[0].GetResponseRange().Kvs); s.next > 0 {
			return err
		}
		return errors.New("the key changed hands while joining") // to be looked at again
	}
	s.notes.written(answer.Header.Revision)
	page := (*clientv3.GetResponse)(answer.Responses[1].GetResponseRange())
	if err := s.take(whole, answer.Header, page); err != nil {
		return err
	}
	if err := s.sameStore(before, answer.Header); err != nil {
		return err
	}
	return s.unseat(ctx, answer.Responses[0].GetResponsePut().GetPrevKv())
}

// takeOver notes the revision of the record that is there, and returns an error if it
// must not be taken over.
func (s *etcdSession) takeOver(ctx context.Context, r Registration) error {
	ctx, cancel := s.request(ctx)
	defer cancel()
	got, err := s.client.Get(ctx, s.key)
	if err != nil || len(got.Kvs) == 0 {
		return err
	}
	s.replaces = got.Kvs[0].ModRevision
	if lease := clientv3.LeaseID(got.Kvs[0].Lease); lease == clientv3.NoLease || s.notes.isOurs(lease) {
		return nil // nobody's, or that of an attempt before this one
	}
	survey, err := s.Look(ctx)
	if err != nil {
		return err
	}
	return r.MayTakeOver(survey)
}

// ownLease returns the lease that the key is under if that is of an incarnation
// of this stay, or of an attempt at one: an attempt may have written the key and
// then failed, or only its answer was lost. It is NoLease if nobody has the key.
func (s *etcdSession) ownLease(ctx context.Context) (clientv3.LeaseID, error) {
	got, err := s.client.Get(ctx, s.key)
	if err != nil {
		return 0, err
	}
	if len(got.Kvs) == 0 {
		return clientv3.NoLease, nil
	}
	kv := got.Kvs[0]
	lease := clientv3.LeaseID(kv.Lease)
	switch {
	case lease == clientv3.NoLease, s.notes.isOurs(lease):
		return lease, nil
	case s.previous.sameStore(s.previous.mark(), got.Header) != nil, s.notes.isOlder(kv):
		return lease, nil // from a backup: whoever had it may long be over
	}
	return 0, s.holder(got.Kvs)
}

// storeMark is which store it is, and how far it has come.
type storeMark struct {
	cluster  uint64 // etcd's ID of itself; 0: not known yet
	revision int64
}

// mark returns the latest mark, to be taken before a request is sent.
func (s *etcdSession) mark() storeMark {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store
}

// sameStore tells whether an answer comes from the store that the mark was
// taken of. One at a lower revision was restored from a backup; one of another
// ID was put in its place. Only linearizable answers may be asked (a server that
// lags tells an old revision with every right), and only about a mark from
// before their request, since answers overtake one another.
func (s *etcdSession) sameStore(before storeMark, header *pb.ResponseHeader) error {
	switch {
	case before.cluster != 0 && header.ClusterId != before.cluster:
		return fmt.Errorf("%w: etcd cluster %x was %x", ErrRegistryReset, header.ClusterId, before.cluster)
	case header.Revision < before.revision:
		return fmt.Errorf("%w: etcd is at revision %d and was at %d", ErrRegistryReset, header.Revision, before.revision)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store = storeMark{header.ClusterId, max(header.Revision, s.store.revision)}
	return nil
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
	case s.notes.isOurs(clientv3.LeaseID(kvs[0].Lease)):
		return fmt.Errorf("%w: an earlier attempt to join has arrived late and replaced it", ErrRecordGone)
	case kvs[0].Lease == 0:
		return fmt.Errorf("%w: %s was overwritten without a lease", ErrRecordGone, s.key)
	}
	if s.notes.isOlder(kvs[0]) {
		return fmt.Errorf("%w: %s is older than what we have written", ErrRegistryReset, s.key)
	}
	return fmt.Errorf("%w: %s is held under lease %x, not %x", ErrInstanceTaken, s.key, kvs[0].Lease, int64(s.lease))
}

// Renew sends one keep-alive and reads the session's own key from the quorum, both at
// once, since a line may be slow: together they prove that the key was there after
// Renew was called, in whatever order etcd comes to them.
func (s *etcdSession) Renew(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		ttl   = s.ttl
		both  sync.WaitGroup
		once  sync.Once
		first error
	)
	half := func(send func() error) {
		both.Go(func() {
			if err := send(); err != nil {
				once.Do(func() { first = err })
				cancel() // the other proves nothing by itself
			}
		})
	}
	if !s.passive {
		half(func() (err error) {
			ttl, err = s.keepAlive(ctx)
			return err
		})
	}
	half(func() error { return s.confirm(ctx) })
	both.Wait()
	if first != nil {
		return 0, first
	}
	s.beat.set()
	return ttl, nil
}

// confirm finds the session's own key.
func (s *etcdSession) confirm(ctx context.Context) error {
	before := s.mark()
	got, err := s.client.Get(ctx, s.key)
	if err != nil {
		return recordError(err)
	}
	if err := s.sameStore(before, got.Header); err != nil || s.passive {
		return err
	}
	if err := s.holder(got.Kvs); err != nil {
		return err
	}
	return s.isOurRecord(got.Kvs[0])
}

// keepAlives is a stream of keep-alives, which ends with its session or before.
type keepAlives struct {
	pb.Lease_LeaseKeepAliveClient
	end context.CancelFunc
}

// keepAlive exchanges one request and one answer on a stream that nobody else uses
// meanwhile, so an answer is never taken for that to another request, however late it
// comes. After any failure the stream is given up. While one has not answered, the next
// request opens another, which goes to the next endpoint.
func (s *etcdSession) keepAlive(ctx context.Context) (ttl time.Duration, err error) {
	stream, err := s.takeStream(ctx)
	var answer *pb.LeaseKeepAliveResponse
	if err == nil {
		release := context.AfterFunc(ctx, stream.end)
		if err = stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(s.lease)}); err == nil {
			answer, err = stream.Recv()
		}
		if !release() && err == nil {
			err = context.Cause(ctx) // it is ending
		}
	}
	if err != nil {
		stream.end()
		if ctx.Err() != nil {
			err = fmt.Errorf("no answer to a keep-alive in time: %w", err)
		}
		return 0, recordError(err)
	}
	s.giveBack(stream)
	if answer.TTL <= 0 {
		return 0, fmt.Errorf("%w: the lease has expired", ErrRecordGone)
	}
	return time.Duration(answer.TTL) * time.Second, nil
}

// takeStream returns the stream that is idle, or opens one.
func (s *etcdSession) takeStream(ctx context.Context) (*keepAlives, error) {
	s.mu.Lock()
	stream := s.idle
	s.idle = nil
	s.mu.Unlock()
	if stream != nil {
		return stream, nil
	}
	streamCtx, end := context.WithCancel(s.ctx)
	defer context.AfterFunc(ctx, end)()
	client, err := pb.NewLeaseClient(s.client.ActiveConnection()).LeaseKeepAlive(streamCtx)
	return &keepAlives{client, end}, err
}

// giveBack keeps a stream for the next request, if none is kept.
func (s *etcdSession) giveBack(stream *keepAlives) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle == nil {
		s.idle = stream
	} else {
		stream.end()
	}
}

// Update writes the record, only while the key is still under our lease: a put
// with any other condition could revive a key that is no longer ours.
func (s *etcdSession) Update(ctx context.Context, m Member) error {
	if s.passive {
		return ErrPassive
	}
	record := string(m.Record())
	s.mu.Lock()
	s.record = record
	s.mu.Unlock()
	return s.write(ctx, clientv3.OpPut(s.key, record, clientv3.WithLease(s.lease)))
}

// write puts the key, which must still be under our lease.
func (s *etcdSession) write(ctx context.Context, puts ...clientv3.Op) error {
	return s.writeUnder(ctx, s.lease, puts...)
}

// writeUnder puts the key under a lease, from our own. If it is under that one
// already, the answer to the first of several requests was lost.
func (s *etcdSession) writeUnder(ctx context.Context, lease clientv3.LeaseID, puts ...clientv3.Op) error {
	return s.patiently(ctx, func(ctx context.Context) error {
		answer, err := s.client.Txn(ctx).If(s.heldBy(s.lease)).Then(puts...).Else(clientv3.OpGet(s.key)).Commit()
		if err != nil {
			return recordError(err)
		}
		if kvs := answer.Responses[0].GetResponseRange().GetKvs(); !answer.Succeeded &&
			(lease == s.lease || len(kvs) == 0 || kvs[0].Lease != int64(lease)) {
			return s.holder(kvs)
		}
		s.notes.written(answer.Header.Revision)
		return nil
	})
}

// Leave revokes the lease, and the key goes with it unless it is another's.
func (s *etcdSession) Leave(ctx context.Context) error {
	return errors.Join(s.revoke(ctx, s.lease), s.release())
}

// LeaveFor puts the key under a lease that lives for d and that nobody renews.
func (s *etcdSession) LeaveFor(ctx context.Context, d time.Duration, kept Member) error {
	return errors.Join(s.park(ctx, d, kept), s.release())
}

func (s *etcdSession) park(ctx context.Context, d time.Duration, kept Member) error {
	if s.passive {
		return nil
	}
	lease, err := s.grantFor(ctx, d)
	if err != nil {
		return err
	}
	puts := []clientv3.Op{clientv3.OpPut(s.key, string(kept.Record()), clientv3.WithLease(lease))}
	if s.mode == ModeExclusive {
		puts = append(puts, s.noteDrained(lease, DrainedForGood, lease))
	}
	if err := s.writeUnder(ctx, lease, puts...); err != nil {
		if isFinal(err) {
			err = errors.Join(err, s.revoke(ctx, lease), s.revoke(ctx, s.lease)) // nothing is kept
		}
		return err
	}
	return s.revoke(ctx, s.lease)
}

// grantFor gets a lease that nobody will renew.
func (s *etcdSession) grantFor(ctx context.Context, d time.Duration) (lease clientv3.LeaseID, err error) {
	err = s.patiently(ctx, func(ctx context.Context) error {
		granted, err := s.client.Grant(ctx, seconds(d))
		if err == nil {
			lease = granted.ID
		}
		return err
	})
	return lease, err
}

// seconds rounds up: no lease is shorter than asked for.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

func (s *etcdSession) revoke(ctx context.Context, lease clientv3.LeaseID) error {
	if s.passive {
		return nil
	}
	return s.patiently(ctx, func(ctx context.Context) error {
		_, err := s.client.Revoke(ctx, lease)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return nil
		}
		return err
	})
}

// Close ends the streams and leaves the lease to expire.
func (s *etcdSession) Close() error { return s.release() }

func (s *etcdSession) release() error {
	s.mu.Lock()
	s.cancel() // and no stream is opened any more
	s.mu.Unlock()
	s.streams.Wait()
	if !s.owned {
		return nil
	}
	if err := s.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
