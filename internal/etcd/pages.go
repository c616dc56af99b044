//go:build !wasm

package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/libcluster/libcluster/kv"
)

// maxPage is how many keys are read at once. Most clusters have fewer, and are listed in
// one answer.
const maxPage = 250

// List reads every key below a prefix in pages, as of one revision.
func (s *Space) List(ctx context.Context, prefix string, each func(kv.Record) error) (kv.Mark, error) {
	first, err := s.page(ctx, s.Prefix+prefix, s.Prefix+prefix, 0)
	if err != nil {
		return kv.Mark{}, s.explained(err)
	}
	if err := s.pages(ctx, prefix, first.Header, first, each); err != nil {
		return kv.Mark{}, err
	}
	if s.Passive {
		s.joined.Store(true)
	}
	return mark(first.Header), nil
}

// pages hands over every key below a prefix, of which the first page is there already.
func (s *Space) pages(
	ctx context.Context, prefix string, first *pb.ResponseHeader, page *clientv3.GetResponse, each func(kv.Record) error,
) error {
	for {
		for _, of := range page.Kvs {
			if err := each(s.record(of)); err != nil {
				return err
			}
		}
		if !page.More || len(page.Kvs) == 0 {
			return nil
		}
		next, err := s.page(ctx, string(page.Kvs[len(page.Kvs)-1].Key)+"\x00", s.Prefix+prefix, first.Revision)
		switch {
		case errors.Is(err, rpctypes.ErrCompacted), errors.Is(err, rpctypes.ErrFutureRev):
			return fmt.Errorf("revision %d has gone while it was read: %s", first.Revision, err.Error()) // no refusal: another one is there
		case err != nil:
			return s.explained(err)
		case next.Header.ClusterId != first.ClusterId:
			return fmt.Errorf("etcd cluster %x was %x while it was read", next.Header.ClusterId, first.ClusterId)
		}
		page = next
	}
}

// page reads one page from a key on, and a smaller one if an answer is too large.
func (s *Space) page(ctx context.Context, from, prefix string, revision int64) (*clientv3.GetResponse, error) {
	for {
		one, cancel := s.bound(ctx)
		got, err := s.Client.Get(one, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)),
			clientv3.WithRev(revision), clientv3.WithLimit(s.Shared.page()))
		cancel()
		if !isTooLong(err) || !s.Shared.shrinkPage() {
			return got, err
		}
	}
}

// firstPage reads the first page in a transaction.
func (s *Space) firstPage(prefix string) clientv3.Op {
	return clientv3.OpGet(s.Prefix+prefix, clientv3.WithPrefix(), clientv3.WithLimit(s.Shared.page()))
}

// isTooLong reports whether gRPC has refused to take an answer: more than the client takes.
func isTooLong(err error) bool {
	return status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "message larger than max")
}

// page returns how many keys to read at once.
func (s *Shared) page() int64 { return max(1, int64(maxPage>>s.shrunk.Load())) }

// shrinkPage has fewer keys be read at once, if that can be.
func (s *Shared) shrinkPage() bool {
	if s.page() == 1 {
		return false
	}
	s.shrunk.Add(2)
	return true
}
