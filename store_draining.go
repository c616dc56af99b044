package libcluster

import (
	"context"
	"strings"
	"time"

	"github.com/libcluster/libcluster/kv"
)

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
