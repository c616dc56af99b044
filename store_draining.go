package libcluster

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/libcluster/libcluster/kv"
)

// drainingKeys are the keys of what operators ask for, each with an instance's ID.
const drainingKeys = publicKeys + "draining/"

// mostDraining is how many of them count.
const mostDraining = 10_000

// SetDraining writes or deletes what an operator asks for. The value is for people.
func (s *storeSession) SetDraining(ctx context.Context, id string, draining bool) error {
	tx := kv.Tx{Delete: []string{drainingKeys + id}}
	if draining {
		tx = kv.Tx{Put: []kv.Record{{Key: drainingKeys + id, Value: time.Now().UTC().AppendFormat(nil, time.RFC3339)}}}
	}
	return s.insist(ctx, func(ctx context.Context) error {
		_, err := s.space.Commit(ctx, tx)
		return err
	})
}

// reflectDraining notes what an operator asks for, in a slice of its own: others have the one
// before.
func (now *Planning) reflectDraining(id string, gone bool) {
	at, known := slices.BinarySearch(now.Draining, id)
	switch {
	case known && gone:
		now.Draining = slices.Delete(slices.Clone(now.Draining), at, at+1)
	case !known && !gone && len(now.Draining) < mostDraining && checkName("ID", id) == nil:
		now.Draining = slices.Insert(slices.Clone(now.Draining), at, id)
	}
}

// isDrained reports whether a record of this space has this session leave.
func (s *storeSession) isDrained(key string) bool {
	id, order := strings.CutPrefix(key, drainingKeys)
	return order && id == s.id && s.mode == ModeDirect && !s.passive
}

// awaitUndrained returns an error while what has had this membership leave is still there. So a
// drained instance reads, and begins nothing.
func (s *storeSession) awaitUndrained(ctx context.Context) error {
	if !s.attempts.drained {
		return nil
	}
	found, _, err := s.get(ctx, drainingKeys+s.id)
	if err == nil && found.Version != 0 {
		err = ErrDrained
	}
	s.attempts.drained = err != nil
	return err
}
