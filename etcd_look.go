//go:build !wasm

package libcluster

import (
	"context"
	"errors"
)

// Look reads everything below the cluster's key at once, from the quorum. It touches
// nothing that Next or Survey use.
func (s *etcdSession) Look(ctx context.Context) (Survey, error) {
	if s.ctx.Err() != nil {
		return Survey{}, errors.New("the session is closed")
	}
	if err := s.notes.tooLarge(); err != nil {
		return Survey{}, err
	}
	var m *etcdMirror
	err := s.patiently(ctx, func(context.Context) (err error) {
		m, _, err = s.readMirror(ctx) // which may be many requests, each with its own time
		return err
	})
	if err != nil {
		return Survey{}, err
	}
	return m.survey(m.header.Revision), nil
}
