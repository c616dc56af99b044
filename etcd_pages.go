//go:build !wasm

package libcluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// maxRecords bounds the records of all members together, as an instance keeps them
	// that lists them: each counts what it holds, and something for the books.
	maxRecords = 32 << 20

	// recordCost and entryCost are what a member and an entry of its metadata take
	// besides their text, or nearly so.
	recordCost = 256
	entryCost  = 64

	// maxAnswer bounds an answer of etcd's, which is in memory as a whole. It has room for
	// a page of the largest records that a member may have, or for some of the largest
	// values that etcd takes.
	maxAnswer = 20 << 20

	// maxPage is how many keys are read at once. Most clusters have fewer, and are listed
	// in one answer.
	maxPage = 250

	// rereadPause is how long an instance waits that has found the records too large,
	// before it reads them again.
	rereadPause = 10 * time.Second
)

// pages hands over every key below a prefix, as of one revision, of which the first page
// is there already.
func (s *etcdSession) pages(
	ctx context.Context, prefix string, first *pb.ResponseHeader, page *clientv3.GetResponse, each func(*mvccpb.KeyValue) error,
) error {
	for {
		for _, kv := range page.Kvs {
			if err := each(kv); err != nil {
				return err
			}
		}
		if !page.More || len(page.Kvs) == 0 {
			return nil
		}
		next := string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
		var err error
		if page, err = s.nextPage(ctx, next, prefix, first); err != nil {
			return err
		}
	}
}

func (s *etcdSession) nextPage(ctx context.Context, from, prefix string, first *pb.ResponseHeader) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	page, err := s.client.Get(ctx, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)),
		clientv3.WithRev(first.Revision), clientv3.WithLimit(s.notes.page()))
	switch {
	case errors.Is(err, rpctypes.ErrCompacted), errors.Is(err, rpctypes.ErrFutureRev):
		return nil, fmt.Errorf("revision %d has gone while it was read: %s", first.Revision, err.Error()) // no refusal: another one is there
	case err == nil && page.Header.ClusterId != first.ClusterId:
		return nil, fmt.Errorf("%w: etcd cluster %x was %x", ErrRegistryReset, page.Header.ClusterId, first.ClusterId)
	}
	return page, err
}

// firstPage reads the first page of what is below a prefix.
func (s *etcdSession) firstPage(prefix string) clientv3.Op {
	return clientv3.OpGet(prefix, clientv3.WithPrefix(), clientv3.WithLimit(s.notes.page()))
}

// take reads the list on from its first page.
func (s *etcdSession) take(ctx context.Context, header *pb.ResponseHeader, page *clientv3.GetResponse) error {
	if s.mode != ModeDirect {
		return s.planOf(ctx, header, page)
	}
	change, weights := &Change{Generation: header.Revision, Reset: true}, newWeights()
	err := s.pages(ctx, s.prefix, header, page, func(kv *mvccpb.KeyValue) error {
		e, why := s.event(kv, false)
		weights.member(e, kv)
		if !e.Gone {
			change.Events = append(change.Events, e)
		}
		change.foreign = s.found(change.foreign, kv, why)
		return s.check(weights)
	})
	if err != nil {
		return err
	}
	s.listed, s.next, s.compacted, s.weights = change, header.Revision+1, false, weights
	return nil
}

// paged does what reads pages, and again with smaller ones while an answer was too large.
func (s *etcdSession) paged(ctx context.Context, read func(context.Context) error) error {
	for {
		err := read(ctx)
		if !isTooLong(err) || !s.notes.shrinkPage() {
			return err
		}
	}
}

// isTooLong reports whether gRPC has refused to take an answer: more than maxAnswer, or
// than the caller's client takes.
func isTooLong(err error) bool {
	return status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "message larger than max")
}

// page returns how many keys to read at once.
func (n *etcdNotes) page() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return max(1, int64(maxPage>>n.shrunk))
}

// shrinkPage has fewer keys be read at once, if that can be.
func (n *etcdNotes) shrinkPage() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if maxPage>>n.shrunk <= 1 {
		return false
	}
	n.shrunk += 2
	return true
}

// tooLarge returns why the members are not read, for a while after their records were too
// large.
func (n *etcdNotes) tooLarge() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.large != nil && time.Since(n.largeSince) < rereadPause {
		return n.large
	}
	return nil
}

// tooLargeError is why an instance does not take in the records of a cluster.
type tooLargeError struct {
	cluster, largest string
	bytes            int
}

func (e *tooLargeError) Error() string {
	return fmt.Sprintf("the records of the members of %s are together larger than %d MiB, the most that an instance takes in; "+
		"the largest is that of the key %q with %d bytes", e.cluster, maxRecords>>20, e.largest, e.bytes)
}

// weights is how much memory the records of members take.
type weights struct {
	of    map[string]int // by what follows the prefix
	total int
}

func newWeights() *weights { return &weights{of: make(map[string]int)} }

// member notes a member's record, or that there is none.
func (w *weights) member(e Event, kv *mvccpb.KeyValue) {
	if e.Gone {
		w.put(e.Member.ID, 0)
	} else {
		w.put(e.Member.ID, len(kv.Key)+len(kv.Value)+recordCost+entryCost*len(e.Member.Metadata))
	}
}

// put notes what one key takes.
func (w *weights) put(name string, bytes int) {
	w.total += bytes - w.of[name]
	delete(w.of, name)
	if bytes > 0 {
		w.of[name] = bytes
	}
}

// mayList returns why not, in direct mode, in which listing is to read all members.
func (s *etcdSession) mayList() error {
	if s.mode != ModeDirect {
		return nil
	}
	return s.notes.tooLarge()
}

// check returns an error if they take too much.
func (s *etcdSession) check(w *weights) error {
	if w.total <= maxRecords {
		return nil
	}
	err := &tooLargeError{cluster: strings.Trim(s.prefix, "/")}
	for name, bytes := range w.of {
		if bytes > err.bytes || bytes == err.bytes && s.prefix+name < err.largest {
			err.largest, err.bytes = s.prefix+name, bytes
		}
	}
	s.notes.mu.Lock()
	defer s.notes.mu.Unlock()
	s.notes.large, s.notes.largeSince = err, time.Now()
	return err
}
