//go:build !wasm

package libcluster

import (
	"context"
	"errors"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Look reads everything below the cluster's key at once, from the quorum. It touches
// nothing that Next or Survey use.
func (s *etcdSession) Look(ctx context.Context) (Survey, error) {
	if s.ctx.Err() != nil {
		return Survey{}, errors.New("the session is closed")
	}
	m := newEtcdMirror()
	var revision int64
	err := s.patiently(ctx, func(ctx context.Context) error {
		got, err := s.client.Get(ctx, s.prefix, clientv3.WithPrefix())
		if err != nil {
			return err
		}
		revision = got.Header.Revision
		for _, kv := range got.Kvs {
			m.reflect(s, kv, false)
		}
		return nil
	})
	if err != nil {
		return Survey{}, err
	}
	return m.survey(revision), nil
}
