//go:build !wasm

package libcluster

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// What a cluster with a plan has besides its members is below an empty segment,
// where no ID, environment or partition can be. All members watch what is public.
const (
	etcdPublic      = "/p/"
	etcdPlan        = etcdPublic + "plan"
	etcdCoordinator = etcdPublic + "coordinator"
	etcdDrained     = "/drained/"
)

// etcdPlanning is the part of a session that a plan needs.
type etcdPlanning struct {
	mode Mode
	now  Planning // as Next has it; used by Next only

	claimed bool // it may be the coordinator; guarded by etcdSession.mu

	surveys etcdSurveyor // the coordinator's goroutine's
}

// watched is the prefix that Next watches.
func (s *etcdSession) watched() string {
	if s.mode == ModeDirect {
		return s.prefix
	}
	return s.prefix + etcdPublic
}

// planned notes what a public key holds.
func (s *etcdSession) planned(now *Planning, kv *mvccpb.KeyValue, gone bool) {
	switch strings.TrimPrefix(string(kv.Key), s.prefix) {
	case etcdPlan:
		now.Plan, now.Revision = kv.Value, kv.ModRevision
		if gone {
			now.Plan, now.Revision = nil, 0
		}
	case etcdCoordinator:
		now.Coordinator = kv.Value
		if gone || kv.Lease == 0 { // nobody's, or a stranger's
			now.Coordinator = nil
		}
	}
}

func (s *etcdSession) planChange(events []*clientv3.Event) Change {
	for _, e := range events {
		s.planned(&s.now, e.Kv, e.Type == clientv3.EventTypeDelete)
		s.next = e.Kv.ModRevision + 1
	}
	now := s.now
	return Change{Planned: &now}
}

// Incarnation is the lease.
func (s *etcdSession) Incarnation() string { return incarnationOf(s.lease) }

func incarnationOf(lease clientv3.LeaseID) string { return strconv.FormatInt(int64(lease), 16) }

// mayPlan tells whether etcd lets this user write what a coordinator writes, without
// writing it: any member may have to coordinate.
func (s *etcdSession) mayPlan(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	plan, coordinator := s.prefix+etcdPlan, s.prefix+etcdCoordinator
	never := clientv3.Compare(clientv3.Version(plan), "<", 0)
	_, err := s.client.Txn(ctx).If(never).Then(
		clientv3.OpPut(plan, ""), clientv3.OpPut(coordinator, ""), s.noteDrained(clientv3.NoLease, 0, clientv3.NoLease)).Commit()
	return err
}

// Claim puts the coordinator's key if nobody has it, under our lease.
func (s *etcdSession) Claim(ctx context.Context, says []byte) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	s.mu.Lock()
	s.claimed = true // whatever becomes of the answer
	s.mu.Unlock()
	key := s.prefix + etcdCoordinator
	put := clientv3.OpPut(key, string(says), clientv3.WithLease(s.lease))
	// A key that is not there has no lease, nor has a stranger's.
	vacant := clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.LeaseValue(key), "=", clientv3.NoLease), s.heldBy(s.lease)},
		[]clientv3.Op{put}, nil)
	answer, err := s.client.Txn(ctx).If(s.coordinates(), s.heldBy(s.lease)).
		Then(put).Else(vacant).Commit()
	if err != nil {
		return false, recordError(err)
	}
	if answer.Succeeded || answer.Responses[0].GetResponseTxn().Succeeded {
		s.surveys.wrote(answer.Header.Revision)
		return true, nil
	}
	s.surveys.end()
	return false, nil
}

// Swap puts the plan while the session coordinates and its record is there.
func (s *etcdSession) Swap(ctx context.Context, revision int64, plan []byte) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	coordinator := s.prefix + etcdCoordinator
	answer, err := s.client.Txn(ctx).If(s.planIs(revision), s.coordinates(), s.heldBy(s.lease)).
		Then(clientv3.OpPut(s.prefix+etcdPlan, string(plan))).
		Else(clientv3.OpGet(s.key), clientv3.OpGet(coordinator)).Commit()
	if err != nil {
		return err
	}
	if !answer.Succeeded {
		if err := s.holder(answer.Responses[0].GetResponseRange().Kvs); err != nil {
			return err
		}
		for _, kv := range answer.Responses[1].GetResponseRange().Kvs {
			if kv.Lease == int64(s.lease) {
				return ErrPlanChanged
			}
		}
		return ErrNotCoordinator
	}
	s.surveys.wrote(answer.Header.Revision)
	return nil
}

// coordinates compares the lease of the coordinator's key.
func (s *etcdSession) coordinates() clientv3.Cmp {
	return clientv3.Compare(clientv3.LeaseValue(s.prefix+etcdCoordinator), "=", s.lease)
}

func (s *etcdSession) planIs(revision int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(s.prefix+etcdPlan), "=", revision)
}

// Drained puts a note under our lease.
func (s *etcdSession) Drained(ctx context.Context, revision, generation int64) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	answer, err := s.client.Txn(ctx).If(s.heldBy(s.lease), s.planIs(revision)).
		Then(s.noteDrained(s.lease, generation, s.lease)).Else(clientv3.OpGet(s.key)).Commit()
	if err != nil {
		return recordError(err)
	}
	if answer.Succeeded {
		return nil
	}
	if err := s.holder(answer.Responses[0].GetResponseRange().Kvs); err != nil {
		return err
	}
	return ErrPlanChanged
}

func (s *etcdSession) noteDrained(of clientv3.LeaseID, generation int64, under clientv3.LeaseID) clientv3.Op {
	return clientv3.OpPut(s.prefix+etcdDrained+incarnationOf(of), strconv.FormatInt(generation, 10), clientv3.WithLease(under))
}

// LeaveDrained deletes the key and leaves the note under our lease, which expires;
// or puts both under a lease of d.
func (s *etcdSession) LeaveDrained(ctx context.Context, d time.Duration, kept Member) error {
	return errors.Join(s.leaveDrained(ctx, d, kept), s.release())
}

func (s *etcdSession) leaveDrained(ctx context.Context, d time.Duration, kept Member) error {
	under := s.lease
	leave := clientv3.OpDelete(s.key)
	if d > 0 {
		var err error
		if under, err = s.grantFor(ctx, d); err != nil {
			return err
		}
		leave = clientv3.OpPut(s.key, string(kept.Record()), clientv3.WithLease(under))
	}
	then := []clientv3.Op{leave, s.noteDrained(s.lease, DrainedForGood, under)}
	if d > 0 {
		// What stays is an incarnation of its own, and nobody acts as that.
		then = append(then, s.noteDrained(under, DrainedForGood, under))
	}
	s.mu.Lock()
	if s.claimed {
		release := clientv3.OpDelete(s.prefix + etcdCoordinator)
		then = append(then, clientv3.OpTxn([]clientv3.Cmp{s.coordinates()}, []clientv3.Op{release}, nil))
	}
	s.mu.Unlock()
	left := false
	err := s.patiently(ctx, func(ctx context.Context) error {
		note := clientv3.OpGet(s.prefix+etcdDrained+s.Incarnation(), clientv3.WithKeysOnly())
		answer, err := s.client.Txn(ctx).If(s.heldBy(s.lease)).Then(then...).Else(note).Commit()
		if err == nil {
			// The answer to the first of several may have been lost.
			left = answer.Succeeded || len(answer.Responses[0].GetResponseRange().Kvs) > 0
		}
		return err
	})
	switch {
	case err != nil || d == 0 && left:
		return err
	case d > 0 && !left:
		// Nothing was kept, and nobody will use that lease.
		return errors.Join(ErrRecordGone, s.revoke(ctx, under), s.revoke(ctx, s.lease))
	}
	return s.revoke(ctx, s.lease)
}

// isOurRecord finds a record that somebody has overwritten under our lease: to the
// coordinator it is no member, and so we must be none.
func (s *etcdSession) isOurRecord(kv *mvccpb.KeyValue) error {
	if s.mode == ModeDirect {
		return nil // Next finds it
	}
	s.mu.Lock()
	own, _ := ParseMember(s.id(), []byte(s.record))
	s.mu.Unlock()
	m, err := ParseMember(s.id(), kv.Value)
	if err != nil || m.plans.mode != own.plans.mode {
		return fmt.Errorf("%w: %s holds what is not our record", ErrRecordGone, s.key)
	}
	return nil
}

// unseat removes the claim of whoever had the record before us, under a lease that may
// live on for long. It is over, and meanwhile nobody would coordinate.
func (s *etcdSession) unseat(ctx context.Context, before *mvccpb.KeyValue) error {
	if s.mode == ModeDirect || before == nil || before.Lease == 0 || before.Lease == int64(s.lease) {
		return nil
	}
	key := s.prefix + etcdCoordinator
	_, err := s.client.Txn(ctx).If(clientv3.Compare(clientv3.LeaseValue(key), "=", before.Lease)).
		Then(clientv3.OpDelete(key)).Commit()
	return err
}

// endPrevious ends what is left of the previous incarnation, once this one has its key.
func (s *etcdSession) endPrevious(ctx context.Context) {
	if s.mode == ModeDirect || s.passive || s.previous == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout) // this one has its place already
	defer cancel()
	if _, err := s.client.Revoke(ctx, s.previous.lease); err != nil {
		s.log.Debug("could not revoke the previous lease", zap.Error(err))
	}
}

// EtcdFence returns comparisons for a transaction of the application's own on the
// same etcd: it then has an effect only while the plan is in force that gave this
// instance the place s, the state that the application goes by. So a write that was
// held up for however long is refused by etcd itself. The cluster must be on etcd in
// mode [ModeExclusive], and s this instance's present state; otherwise the error says what
// is missing, and is [ErrRebalanced] if there is a newer one.
//
// It is refused too after a plan that leaves this instance where it is: read the state
// again, and repeat.
func (c *Cluster) EtcdFence(s State) ([]clientv3.Cmp, error) {
	v := c.view.Load()
	switch why := v.reason(); {
	case why != nil:
		return nil, why
	case !s.Active() || !v.state.Active():
		return nil, errors.New("libcluster: no fence: this instance holds no place")
	case s.Generation != v.state.Generation:
		return nil, fmt.Errorf("libcluster: no fence for generation %d: %w", s.Generation, ErrRebalanced)
	}
	session, ok := v.inc.session.(*etcdSession)
	if !ok || session.mode != ModeExclusive {
		return nil, fmt.Errorf("libcluster: no fence: the cluster must be on etcd and in mode exclusive, and is in mode %v", c.cfg.Mode)
	}
	return []clientv3.Cmp{session.heldBy(session.lease), session.planIs(v.plan.revision)}, nil
}

// planOf reads the public keys.
func (s *etcdSession) planOf(ctx context.Context, header *pb.ResponseHeader, page *clientv3.GetResponse) error {
	var now Planning
	err := s.pages(ctx, s.watched(), header, page, func(kv *mvccpb.KeyValue) error {
		s.planned(&now, kv, false)
		return nil
	})
	if err != nil {
		return err
	}
	s.now = now
	s.listed, s.next, s.compacted = &Change{Planned: &now}, header.Revision+1, false
	return nil
}
