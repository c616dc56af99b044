package libcluster

import (
	"context"
	"errors"

	"github.com/libcluster/libcluster/kv"
)

// Incarnation is the lease.
func (s *storeSession) Incarnation() string { return incarnationOf(s.owner) }

// Claim writes the coordinator's record under our lease, if nobody has it.
func (s *storeSession) Claim(ctx context.Context, says []byte) (bool, error) {
	holders := []kv.Owner{0, s.owner}
	if s.claims() {
		holders = []kv.Owner{s.owner, 0}
	}
	for _, holder := range holders {
		done, err := s.space.Commit(ctx, kv.Tx{
			If:  []kv.Cond{s.ours(), kv.OwnedBy(coordinatorKey, holder)},
			Put: []kv.Record{{Key: coordinatorKey, Value: says, Owner: s.owner}},
		})
		switch {
		case err != nil:
			return false, leaseError(err)
		case done.Done:
			s.surveyor.wrote(done.Mark.Revision)
			return true, nil
		case s.holder(done.Records[0]) != nil, done.Records[1].Owner != 0 && done.Records[1].Owner != s.owner:
			s.surveyor.end() // another coordinates
			return false, nil
		}
	}
	return false, errors.New("the coordinator's record has changed while it was asked for")
}

// Swap writes the plan while the session coordinates and its record is there.
func (s *storeSession) Swap(ctx context.Context, revision int64, plan []byte) error {
	done, err := s.space.Commit(ctx, kv.Tx{
		If:  []kv.Cond{s.ours(), kv.OwnedBy(coordinatorKey, s.owner), kv.AtVersion(planKey, revision)},
		Put: []kv.Record{{Key: planKey, Value: plan}},
	})
	switch {
	case err != nil:
		return err
	case done.Done:
		s.surveyor.wrote(done.Mark.Revision)
		return nil
	}
	if err := s.holder(done.Records[0]); err != nil {
		return err
	}
	if done.Records[1].Owner != s.owner {
		return ErrNotCoordinator
	}
	return ErrPlanChanged
}

// Acknowledge writes a note under our lease, if the last one is as this session knows it: so an
// earlier request that arrives late does not take back what a later one has said.
func (s *storeSession) Acknowledge(ctx context.Context, revision, generation int64, remaining string) error {
	for {
		note, last := noteOf(s.owner, generation, remaining, s.owner), s.lastNote()
		if saysAsMuch(last, generation, remaining) {
			note.Value = last.Value // and whether that plan is the present one is found out as ever
		}
		done, err := s.space.Commit(ctx, kv.Tx{
			If:  []kv.Cond{s.ours(), kv.AtVersion(planKey, revision), kv.AtVersion(note.Key, last.Version)},
			Put: []kv.Record{note},
		})
		switch {
		case err != nil:
			return leaseError(err)
		case done.Done:
			note.Version = done.Mark.Revision
			s.setNote(note)
			return nil
		}
		if err := s.holder(done.Records[0]); err != nil {
			return err
		}
		if done.Records[1].Version != revision {
			return ErrPlanChanged
		}
		s.setNote(done.Records[2]) // an earlier request has arrived only now
	}
}

// vacate removes the claim of an owner, if it has one.
func (s *storeSession) vacate(ctx context.Context, owner kv.Owner) error {
	_, err := s.space.Commit(ctx, kv.Tx{If: []kv.Cond{kv.OwnedBy(coordinatorKey, owner)}, Delete: []string{coordinatorKey}})
	return err
}

// planFence is the plan of a revision.
func (s *storeSession) planFence(revision int64) kv.Fence {
	return kv.Fence{
		Space: s.attempts.reg.Cluster(), Key: planKey, Mark: kv.Mark{Store: s.latest().Store, Revision: revision},
	}
}

// noteFence is the session's note as it is now, beside the record.
func (s *storeSession) noteFence() kv.Fence {
	return kv.Fence{
		Space: s.attempts.reg.Cluster(), Key: acknowledgedKeys + s.Incarnation(),
		Mark:   kv.Mark{Store: s.latest().Store, Revision: s.lastNote().Version},
		Member: s.id, Owner: s.owner,
	}
}

// own returns the condition that the session's record is its own, and where.
func (s *storeSession) own() (kv.Space, kv.Cond) { return s.space, s.ours() }
