package onetcd_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/between"
)

// claiming is a registry that has something happen when a session claims, and when it has.
func claiming(on libcluster.Registry, before, after func()) libcluster.Registry {
	return between.Registry{Registry: on, Joining: func(ctx context.Context, m libcluster.Member, below libcluster.Membership,
	) (libcluster.Session, time.Duration, error) {
		s, ttl, err := below.Join(ctx, m)
		if err != nil {
			return nil, 0, err
		}
		return claimingSession{s.(libcluster.Planner), before, after}, ttl, nil
	}}
}

type claimingSession struct {
	libcluster.Planner
	before, after func()
}

func (s claimingSession) Claim(ctx context.Context, says []byte) (bool, error) {
	s.before()
	claimed, err := s.Planner.Claim(ctx, says)
	if claimed {
		s.after()
	}
	return claimed, err
}

func registration(cluster, id string, mode libcluster.Mode) libcluster.Registration {
	return libcluster.Registration{
		Key: cluster, Env: "production", Mode: mode, TTL: time.Minute, Logger: zap.NewNop(),
		Member: libcluster.Member{ID: id, Workers: 1},
	}
}

// The exclusive coordinator has left, and the others are slow to claim. An instance of mode
// planned claims, and loses its record to a second one of its ID before it looks who is
// there: nothing says that it is none of them.
func TestAnInstanceOfAnotherModeWithoutARecordMakesNoPlan(t *testing.T) {
	cluster, client, registry := key(t), etcdClient(t), patient(t)
	slow := make(chan struct{})
	var release sync.Once
	let := func() { release.Do(func() { close(slow) }) }
	t.Cleanup(let)
	a := start(t, libcluster.Config{Key: cluster, ID: "a", Mode: libcluster.ModeExclusive})
	waits := claiming(registry, func() { <-slow }, func() {})
	b := start(t, libcluster.Config{Key: cluster, ID: "b", Mode: libcluster.ModeExclusive, Registry: waits})
	c := start(t, libcluster.Config{Key: cluster, ID: "c", Mode: libcluster.ModeExclusive, Registry: waits})
	c.Becomes(2, 3)
	a.Leaves()
	var once sync.Once
	lease, err := client.Grant(t.Context(), 60)
	require.NoError(t, err)
	x := prepare(t, libcluster.Config{Key: cluster, ID: "x", Mode: libcluster.ModePlanned, Registry: claiming(registry, func() {}, func() {
		once.Do(func() { // a second one of its ID that does not ask whether it may
			_, err := client.Put(context.Background(), "/"+cluster+"/production/x", `{"workers":1,"mode":"planned"}`,
				clientv3.WithLease(lease.ID))
			require.NoError(t, err)
		})
	})})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.Error(t, x.Join(ctx))
	_, err = client.Revoke(ctx, lease.ID)
	require.NoError(t, err)
	let()
	b.Becomes(1, 2)
	c.Becomes(0, 2)
	watch := client.Watch(ctx, "/"+cluster+"/production//p/plan", clientv3.WithRev(1))
	for _, e := range (<-watch).Events {
		require.True(t, strings.HasPrefix(string(e.Kv.Value), "exclusive\t"), "%q", e.Kv.Value)
	}
}

// The same promise is in the suite for registries.
func TestSwapHasNoEffectForOneThatDoesNotCoordinate(t *testing.T) {
	cluster, registry := key(t), patient(t)
	s, _, err := between.Join(t.Context(), registry, registration(cluster, "a", libcluster.ModeExclusive))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Leave(context.Background(), libcluster.Departure{})) })
	p := s.(libcluster.Planner)
	require.ErrorIs(t, p.Swap(t.Context(), 0, []byte("1")), libcluster.ErrNotCoordinator)
	claimed, err := p.Claim(t.Context(), []byte("a"))
	require.NoError(t, err)
	require.True(t, claimed)
	require.NoError(t, p.Swap(t.Context(), 0, []byte("1")))
}

func TestADirectInstanceThatWasAwayIsRefusedOnEtcd(t *testing.T) {
	t.Parallel()
	for _, mode := range withPlan {
		t.Run(mode.String(), func(t *testing.T) {
			cluster, client := key(t), etcdClient(t)
			line := &cuttable{}
			a := start(t, libcluster.Config{
				Key: cluster, ID: "a", TTL: 2 * time.Second,
				Registry: libcluster.EtcdConfig{Client: line.client(t), RequestTimeout: time.Second},
			})
			a.Becomes(0, 1)
			line.cut(true)
			require.Eventually(t, func() bool {
				got, err := client.Get(t.Context(), "/"+cluster+"/production/a")
				return err == nil && len(got.Kvs) == 0
			}, patience, 10*time.Millisecond)
			b := start(t, libcluster.Config{Key: cluster, ID: "b", Mode: mode})
			b.Becomes(0, 1)
			line.mend()
			require.Eventually(t, func() bool { return errors.As(a.Err(), new(*libcluster.ModeError)) }, patience, 10*time.Millisecond)
			require.False(t, a.State().Active())
			require.Eventually(t, func() bool {
				got, err := client.Get(t.Context(), "/"+cluster+"/production/a")
				return err == nil && len(got.Kvs) == 0
			}, patience, 10*time.Millisecond, "its record is removed")
		})
	}
}
