package etcd_test

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster/internal/etcd"
	"github.com/libcluster/libcluster/internal/testetcd"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/kv/kvtest"
)

func TestMain(m *testing.M) { testetcd.Main(m) }

// spaces opens each space on a client of its own, as the registry does.
type spaces struct{ t *testing.T }

func (s spaces) Open(_ context.Context, name string) (kv.Space, error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{testetcd.URL(s.t)}, Logger: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	return etcd.Open(etcd.Config{
		Client: client, Owned: true, Prefix: "/" + name + "/", Timeout: testetcd.Patience, Silence: testetcd.Patience,
		Shared: &etcd.Shared{}, Log: zap.NewNop(),
	}), nil
}

func TestEtcdIsAStore(t *testing.T) {
	kvtest.Run(t, kvtest.Harness{
		Open:     func(t *testing.T) kv.Store { return spaces{t} },
		TTL:      5 * time.Second,
		Patience: testetcd.Patience,
		Nests:    true,
	})
}
