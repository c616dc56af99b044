package libcluster

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"

	"github.com/libcluster/libcluster/kv"
)

// What a cluster with a plan has besides its members is below an empty segment,
// where no ID, environment or partition can be. All members watch what is public.
const (
	publicKeys       = "/p/"
	planKey          = publicKeys + "plan"
	coordinatorKey   = publicKeys + "coordinator"
	acknowledgedKeys = "/acknowledged/"
	// besideKeys are what package heartbeats keeps beside the members.
	besideKeys = "/heartbeats/"
)

// reflect notes what a public record holds.
func (now *Planning) reflect(r kv.Record, gone bool) {
	switch r.Key {
	case planKey:
		now.Plan, now.Revision = r.Value, r.Version
		if gone {
			now.Plan, now.Revision = nil, 0
		}
	case coordinatorKey:
		now.Coordinator = r.Value
		if gone || r.Owner == 0 { // without a lease: another program has written it
			now.Coordinator = nil
		}
	default:
		if id, draining := strings.CutPrefix(r.Key, drainingKeys); draining {
			now.reflectDraining(id, gone)
		}
	}
}

// noteOf is the record that says up to which generation an incarnation has stopped.
// Behind a space is what it has not stopped.
func noteOf(of kv.Owner, generation int64, remaining string, under kv.Owner) kv.Record {
	value := strconv.AppendInt(nil, generation, 10)
	if remaining != "" {
		value = append(append(value, ' '), remaining...)
	}
	return kv.Record{Key: acknowledgedKeys + incarnationOf(of), Value: value, Owner: under}
}

// readNote reads the value of a note that an incarnation has written.
func readNote(value []byte) (generation int64, remaining string, err error) {
	number, remaining, _ := strings.Cut(string(value), " ")
	generation, err = strconv.ParseInt(number, 10, 64)
	return generation, remaining, err
}

// saysAsMuch reports whether a note says that all has stopped that a later one would say.
func saysAsMuch(note kv.Record, generation int64, remaining string) bool {
	its, left, err := readNote(note.Value)
	if err != nil || its != generation {
		return false
	}
	has, err1 := parsePartitions(left, MaxPartitions)
	mayHave, err2 := parsePartitions(remaining, MaxPartitions)
	return err1 == nil && err2 == nil && len(has.minus(mayHave)) == 0
}

// writtenIn are the keys besides its own that a session of a mode may have to write.
func writtenIn(mode Mode, passive bool) []string {
	if passive || mode == ModeDirect {
		return nil
	}
	return []string{planKey, coordinatorKey, acknowledgedKeys + "0"}
}

// storeWord is what a session has said of plans.
type storeWord struct {
	mu      sync.Mutex // guards what follows
	claimed bool       // it may be the coordinator
	note    kv.Record  // what it has stopped; of version 0 if it has said nothing
}

// claims notes that the session asks to be the coordinator, whatever becomes of the answer. It
// reports whether it has asked before.
func (w *storeWord) claims() (before bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before, w.claimed = w.claimed, true
	return before
}

// hasClaimed reports whether the session may be the coordinator.
func (w *storeWord) hasClaimed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.claimed
}

// lastNote returns the session's note as far as it knows.
func (w *storeWord) lastNote() kv.Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.note
}

func (w *storeWord) setNote(note kv.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note = note
}

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

// leaveStopped deletes the record and leaves the note that the application has stopped for
// good under our lease, which expires.
func (s *storeSession) leaveStopped(ctx context.Context) error {
	if s.passive {
		return nil
	}
	claimed := s.hasClaimed()
	note, left := noteOf(s.owner, StoppedForGood, "", s.owner), false
	tx := kv.Tx{If: []kv.Cond{s.ours()}, Put: []kv.Record{note}, Delete: []string{s.id}}
	err := s.insist(ctx, func(ctx context.Context) (err error) {
		var done kv.Result
		if claimed { // our lease lives on, and meanwhile nobody would coordinate
			done, err = s.space.Commit(ctx, kv.Tx{
				If: append(tx.If, kv.OwnedBy(coordinatorKey, s.owner)), Put: tx.Put, Delete: append(tx.Delete, coordinatorKey),
			})
		}
		if err == nil && !done.Done {
			done, err = s.space.Commit(ctx, tx)
		}
		if left = done.Done; err != nil || left {
			return leaseError(err)
		}
		found, _, err := s.get(ctx, note.Key) // the answer to the first of several may have been lost
		left = found.Version != 0
		return err
	})
	if err != nil || left {
		return err
	}
	return s.end(ctx, s.owner)
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
