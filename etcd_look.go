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
	var m *etcdMirror
	err := s.patiently(ctx, func(ctx context.Context) (err error) {
		m, _, err = s.readMirror(ctx)
		return err
	})
	if err != nil {
		return Survey{}, err
	}
	return m.survey(m.header.Revision), nil
}
