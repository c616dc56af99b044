//go:build !wasm

package etcd

import (
	"context"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/libcluster/libcluster/kv"
)

// Begin has etcd grant the lease of that ID. The seconds are rounded up, and etcd may grant
// more.
func (s *Space) Begin(ctx context.Context, owner kv.Owner, ttl time.Duration) (time.Duration, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if s.Begins != nil && !s.begun.Swap(true) {
		s.Begins(owner)
	}
	var checking sync.WaitGroup
	var forbidden error
	if len(s.MayWrite) > 0 && !s.joined.Load() {
		checking.Go(func() {
			if forbidden = s.mayWrite(ctx); forbidden == nil {
				s.allowing.Do(func() { close(s.allowed) })
			}
		})
	}
	granted, err := pb.NewLeaseClient(s.Client.ActiveConnection()).LeaseGrant(ctx, &pb.LeaseGrantRequest{
		ID: int64(owner), TTL: int64((ttl + time.Second - 1) / time.Second),
	})
	checking.Wait()
	switch {
	case err != nil:
		return 0, s.explained(clientv3.ContextError(ctx, err))
	case forbidden != nil:
		_ = s.End(context.WithoutCancel(ctx), owner) // or it expires
		return 0, s.explained(forbidden)
	}
	return time.Duration(granted.TTL) * time.Second, nil
}

// mayWrite asks whether the user may write some keys by what never writes them.
func (s *Space) mayWrite(ctx context.Context) error {
	var puts []clientv3.Op
	for _, key := range s.MayWrite {
		puts = append(puts, clientv3.OpPut(s.Prefix+key, ""))
	}
	never := clientv3.Compare(clientv3.Version(s.Prefix+s.MayWrite[0]), "<", 0)
	_, err := s.Client.Txn(ctx).If(never).Then(puts...).Commit()
	return err
}

// End revokes the lease.
func (s *Space) End(ctx context.Context, owner kv.Owner) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	_, err := s.Client.Revoke(ctx, clientv3.LeaseID(owner))
	if rpctypes.Error(err) == rpctypes.ErrLeaseNotFound {
		return nil
	}
	return s.explained(err)
}

// keepAlives is a stream of keep-alives, which ends with its space or before.
type keepAlives struct {
	pb.Lease_LeaseKeepAliveClient
	end context.CancelFunc
}

// Renew exchanges one request and one answer on a stream that nobody else uses
// meanwhile, so an answer is never taken for that to another request, however late it
// comes. After any failure the stream is given up. While one has not answered, the next
// request opens another, which goes to the next endpoint.
func (s *Space) Renew(ctx context.Context, owner kv.Owner) (time.Duration, error) {
	stream, err := s.takeStream(ctx)
	var answer *pb.LeaseKeepAliveResponse
	if err == nil {
		release := context.AfterFunc(ctx, stream.end)
		if err = stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(owner)}); err == nil {
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
		return 0, s.explained(err)
	}
	s.giveBack(stream)
	if answer.TTL <= 0 {
		return 0, kv.ErrEnded
	}
	return time.Duration(answer.TTL) * time.Second, nil
}

// takeStream returns the stream that is idle, or opens one.
func (s *Space) takeStream(ctx context.Context) (*keepAlives, error) {
	s.mu.Lock()
	stream := s.idle
	s.idle = nil
	s.mu.Unlock()
	if stream != nil {
		return stream, nil
	}
	streamCtx, end := context.WithCancel(s.ctx)
	defer context.AfterFunc(ctx, end)()
	client, err := pb.NewLeaseClient(s.Client.ActiveConnection()).LeaseKeepAlive(streamCtx)
	return &keepAlives{client, end}, err
}

// giveBack keeps a stream for the next request, if none is kept.
func (s *Space) giveBack(stream *keepAlives) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle == nil {
		s.idle = stream
	} else {
		stream.end()
	}
}
