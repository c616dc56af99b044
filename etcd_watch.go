//go:build !wasm

package libcluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// silentPart is the part of the TTL for which a watch may leave a question
// unanswered: two heartbeats as a rule. Not longer, since until then the
// instance goes by an old state; not one, since a busy server answers late.
const silentPart = 4

// Next waits for the next change under the prefix. A watch that was cut is
// resumed after the last revision seen; one that can't be, because its history
// was compacted, is preceded by a new list. When nobody waits for the next one
// any more, the watch is given up: what it reports would be kept for ever.
func (s *etcdSession) Next(ctx context.Context) (Change, error) {
	for {
		if s.compacted {
			if err := s.mayList(); err != nil {
				return Change{}, err
			}
			if err := s.paged(ctx, s.list); err != nil {
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
		case answer, ok := <-s.watch.answers:
			if err := s.checkWatch(answer, ok); err != nil {
				return Change{}, err
			}
			s.asked = time.Time{}
			if events := s.unseen(answer.Events); len(events) > 0 {
				change, err := s.change(events)
				if err != nil {
					s.endWatch()
				}
				return change, err
			}
		case <-s.beat:
			if err := s.probeWatch(); err != nil {
				return Change{}, err
			}
		case <-ctx.Done():
			s.endWatch()
			return Change{}, context.Cause(ctx)
		}
	}
}

// startWatch opens the watch that Next reads.
func (s *etcdSession) startWatch(ctx context.Context) {
	s.watch = s.openWatch(ctx, min(s.timeout, s.ttl/silentPart/2), s.watched(), clientv3.WithRev(s.next))
	s.asked = time.Time{}
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
	s.endWatch()
	return err
}

func (s *etcdSession) endWatch() {
	s.watch.stop()
	s.watch = nil
}

// probeWatch asks the watch for a sign of life, once a heartbeat. A server that
// is frozen with its connections open looks like one with nothing to report;
// without this, it would be found out only when gRPC's own probe fails, after
// 13 s. A watch that leaves a question unanswered is given up, and the next one
// goes to another server.
func (s *etcdSession) probeWatch() error {
	if silent := time.Since(s.asked); !s.asked.IsZero() && silent > s.ttl/silentPart {
		s.endWatch()
		return fmt.Errorf("the watch has not answered for %v", silent.Round(time.Millisecond))
	}
	ctx, cancel := context.WithTimeout(s.watch.ctx, s.timeout)
	defer cancel()
	if s.asked.IsZero() {
		s.asked = time.Now()
	}
	// What fails here shows as a closed watch, or as no answer.
	_ = s.watch.watcher.RequestProgress(ctx)
	return nil
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
	if s.mode != ModeDirect {
		return s.planChange(events), nil
	}
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
		event, why := s.event(e.Kv, gone)
		s.weights.member(event, e.Kv)
		change.foreign = s.found(change.foreign, e.Kv, why)
		if event.Gone && event.Member.ID == s.id() && !s.passive {
			return Change{}, fmt.Errorf("%w: %s holds what is no member's record", ErrRecordGone, s.key)
		}
		change.Events = append(change.Events, event)
	}
	s.next = change.Generation + 1
	if err := s.check(s.weights); err != nil {
		s.compacted = true // what has been dropped is read when there is room for it
		return Change{}, err
	}
	return change, nil
}

// event translates one key. Who is a member depends on nothing but what the
// store holds, so that all instances agree: what does not parse is no member, also
// if it was one before. The error says why.
func (s *etcdSession) event(kv *mvccpb.KeyValue, gone bool) (Event, error) {
	id := strings.TrimPrefix(string(kv.Key), s.prefix)
	if gone {
		return Event{Member: Member{ID: id}, Gone: true}, nil
	}
	member, err := ParseMember(id, kv.Value)
	if err != nil {
		return Event{Member: Member{ID: id}, Gone: true}, err
	}
	return Event{Member: member, Orphan: kv.Lease == 0}, nil
}

// found adds a key to the foreign ones of a change, if that is why it is no member's.
// Enough of them are kept to report that there are many.
func (s *etcdSession) found(keys []foreign, kv *mvccpb.KeyValue, why error) []foreign {
	if why == nil || len(keys) > mostForeign || s.isOwn(kv) {
		return keys
	}
	return append(keys, foreign{string(kv.Key), why})
}

// isOwn reports whether libcluster itself has written a key: of this cluster's plan, or of
// a cluster whose name begins with this one's, which is a member's record or of a plan too.
func (s *etcdSession) isOwn(kv *mvccpb.KeyValue) bool {
	name := strings.TrimPrefix(string(kv.Key), s.prefix)
	if isOfPlan(name) {
		return true
	}
	env, name, nested := strings.Cut(name, "/")
	if !nested || checkName("Env", env) != nil {
		return false
	}
	_, err := ParseMember(name, kv.Value)
	return err == nil || isOfPlan(name)
}

func isOfPlan(name string) bool {
	return strings.HasPrefix(name, etcdPublic) || strings.HasPrefix(name, etcdDrained)
}

func (s *etcdSession) id() string { return strings.TrimPrefix(s.key, s.prefix) }
