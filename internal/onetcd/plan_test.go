package onetcd_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/between"
)

func TestAPlanInEtcdKeepsAssignments(t *testing.T) {
	for _, mode := range withPlan {
		t.Run(mode.String(), func(t *testing.T) {
			cluster := key(t)
			var nodes []*instance
			for n, workers := range []int{2, 1, 2} {
				nodes = append(nodes, start(t, libcluster.Config{
					Key: cluster, ID: fmt.Sprintf("node%d", 9-n), Workers: workers, Mode: mode, Address: "host:80",
				}))
			}
			nodes[0].Becomes(0, 5)
			nodes[1].Becomes(2, 5)
			nodes[2].Becomes(3, 5)
			want := []libcluster.Assignment{
				{Member: libcluster.Member{ID: "node9", Workers: 2, Address: "host:80"}, Index: 0},
				{Member: libcluster.Member{ID: "node8", Workers: 1, Address: "host:80"}, Index: 2},
				{Member: libcluster.Member{ID: "node7", Workers: 2, Address: "host:80"}, Index: 3},
			}
			for _, n := range nodes {
				require.Equal(t, want, n.Members())
			}
			nodes[0].Leaves()
			nodes[2].Becomes(0, 3)
			nodes[1].Becomes(2, 3)
			require.NoError(t, nodes[1].SetWorkers(t.Context(), 4))
			nodes[1].Becomes(2, 6)

			watching := start(t, libcluster.Config{Key: cluster, ID: "x", Passive: true, Mode: mode})
			watching.Becomes(-1, 6)
			require.Len(t, watching.Members(), 2)
		})
	}
}

func TestManyJoinAtOnceByAPlan(t *testing.T) {
	t.Parallel()
	for _, mode := range withPlan {
		t.Run(mode.String(), func(t *testing.T) {
			const n = joinAtOnce
			cluster := key(t)
			nodes := make([]*instance, n)
			var joining sync.WaitGroup
			for i := range nodes {
				nodes[i] = prepare(t, libcluster.Config{Key: cluster, Mode: mode, Registry: libcluster.EtcdConfig{
					Endpoints:      []string{etcdURL(t)},
					RequestTimeout: patience, // what is given up on a busy machine makes it busier
				}})
				joining.Go(func() {
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					defer cancel()
					if err := nodes[i].Join(ctx); err != nil {
						t.Error(err)
					}
				})
			}
			joining.Wait()
			require.Eventually(t, func() bool {
				held := map[int]bool{}
				for _, n := range nodes {
					if s := n.State(); s.Active() && s.Total == len(nodes) {
						held[s.Index] = true
					}
				}
				return len(held) == n
			}, patience, 10*time.Millisecond)
		})
	}
}

func TestACrashIsWaitedForOnEtcd(t *testing.T) {
	t.Parallel() // it waits for a TTL
	cluster, client := key(t), etcdClient(t)
	a := start(t, libcluster.Config{Key: cluster, ID: "a", Mode: libcluster.ModeExclusive, TTL: 20 * time.Second})
	b := start(t, libcluster.Config{Key: cluster, ID: "b", Mode: libcluster.ModeExclusive, TTL: 20 * time.Second})
	a.Becomes(0, 2)
	b.Becomes(1, 2)

	// Its key goes, and it comes back as another incarnation at once: since that
	// has stopped before, nobody has to wait, and a is not called back at all.
	told := len(a.Told())
	_, err := client.Delete(t.Context(), "/"+cluster+"/production/b")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(b.Told()) == 3 }, patience, time.Millisecond)

	b.Becomes(1, 2)
	require.Len(t, a.Told(), told)

	// An instance that has gone for good is waited for, by the instances that are there then.
	const ttl = 5 * time.Second
	cluster = key(t)
	a = start(t, libcluster.Config{Key: cluster, ID: "a", Mode: libcluster.ModeExclusive, TTL: ttl})
	b = start(t, libcluster.Config{Key: cluster, ID: "b", Mode: libcluster.ModeExclusive, TTL: ttl})
	a.Becomes(0, 2)
	gone := time.Now()
	_, err = client.Put(t.Context(), "/"+cluster+"/production/b", "another's")
	require.NoError(t, err)
	b.Leaves()
	a.Becomes(0, 1)
	require.Greater(t, time.Since(gone), ttl*6/10, "until b must have stopped by any clock")
}

func TestLeavingAPlanLeavesOnlyThePlan(t *testing.T) {
	t.Parallel()
	for _, mode := range withPlan {
		t.Run(mode.String(), func(t *testing.T) {
			cluster, client := key(t), etcdClient(t)
			a := start(t, libcluster.Config{Key: cluster, ID: "a", Mode: mode, TTL: 2 * time.Second})
			b := start(t, libcluster.Config{Key: cluster, ID: "b", Mode: mode, TTL: 2 * time.Second})
			a.Leaves()
			b.Leaves()
			require.Eventually(t, func() bool {
				got, err := client.Get(t.Context(), "/"+cluster+"/", clientv3.WithPrefix())
				require.NoError(t, err)
				for _, kv := range got.Kvs {
					name := strings.TrimPrefix(string(kv.Key), "/"+cluster+"/production")
					require.False(t, strings.HasPrefix(name, "/a") || strings.HasPrefix(name, "/b"), name)
				}
				return len(got.Kvs) == 1 && strings.HasSuffix(string(got.Kvs[0].Key), "/plan")
			}, patience, 50*time.Millisecond, "the notes go with their leases")
		})
	}
}

func TestASupersededOwnersWriteIsRefusedByEtcd(t *testing.T) {
	cluster, client := key(t), etcdClient(t)
	a := start(t, libcluster.Config{Key: cluster, ID: "a", Mode: libcluster.ModeExclusive})
	before := a.Becomes(0, 1)
	fence, err := a.EtcdFence(a.State())
	require.NoError(t, err)
	write := func(value string, fence []clientv3.Cmp) bool {
		answer, err := client.Txn(t.Context()).If(fence...).Then(clientv3.OpPut(cluster, value)).Commit()
		require.NoError(t, err)
		return answer.Succeeded
	}
	require.True(t, write("while it is a's", fence))

	b := start(t, libcluster.Config{Key: cluster, ID: "b", Mode: libcluster.ModeExclusive})
	b.Becomes(1, 2)
	require.False(t, write("late", fence), "a has read its state before b came")
	a.Becomes(0, 2)
	_, err = a.EtcdFence(before)
	require.ErrorIs(t, err, libcluster.ErrRebalanced, "nor is there a fence for it any more")
	fence, err = b.EtcdFence(b.State())
	require.NoError(t, err)
	require.True(t, write("b's", fence))
	b.Leaves()
	require.False(t, write("later", fence))
	_, err = b.EtcdFence(b.State())
	require.ErrorIs(t, err, libcluster.ErrLeft)

	direct := start(t, libcluster.Config{Key: cluster + "2", ID: "a"})
	_, err = direct.EtcdFence(direct.State())
	require.ErrorContains(t, err, "mode direct")
}

func TestAnotherModeIsRefusedOnEtcd(t *testing.T) {
	modes := append([]libcluster.Mode{libcluster.ModeDirect}, withPlan...)
	for _, runs := range modes {
		for _, joins := range modes {
			if runs == joins {
				continue
			}
			cluster := key(t)
			a := start(t, libcluster.Config{Key: cluster, ID: "a", Mode: runs})
			x, err := libcluster.New(libcluster.Config{Key: cluster, ID: "x", Mode: joins, Registry: libcluster.Etcd(etcdURL(t))})
			require.NoError(t, err)
			var refused *libcluster.ModeError
			require.ErrorAs(t, x.Join(t.Context()), &refused)
			require.Equal(t, libcluster.ModeError{Mode: joins, Cluster: runs}, *refused)
			a.Becomes(0, 1)
		}
	}
}

// startMany starts instances 0, 1 and so on, one after another.
func startMany(t *testing.T, many int, cfg libcluster.Config) (nodes []*instance) {
	t.Helper()
	for n := range many {
		cfg.ID = fmt.Sprint(n)
		nodes = append(nodes, start(t, cfg))
	}
	return nodes
}

func TestACoordinatorThatLeavesIsReplacedAtOnce(t *testing.T) {
	for _, mode := range withPlan {
		t.Run(mode.String(), func(t *testing.T) {
			nodes := startMany(t, 4, libcluster.Config{Key: key(t), Mode: mode, TTL: time.Hour})
			for n := range 3 {
				nodes[3].Becomes(nodes[3].State().Index, 4-n)
				nodes[n].Leaves()
				nodes[3].Becomes(0, 3-n) // at once: nothing expires within a TTL of an hour
				if n == 0 {
					nodes[1].Becomes(1, 3)
				}
			}
		})
	}
}

func TestAnAssignmentReservedInAPlanInEtcdCallsNobodyElseBack(t *testing.T) {
	for _, mode := range withPlan {
		t.Run(mode.String(), func(t *testing.T) {
			cluster := key(t)
			nodes := startMany(t, 3, libcluster.Config{Key: cluster, Mode: mode})
			for n := range 3 {
				nodes[n].Becomes(n, 3)
			}
			told := []int{len(nodes[0].Told()), len(nodes[2].Told())}
			nodes[1].Leaves(libcluster.Returning(time.Minute))
			start(t, libcluster.Config{Key: cluster, ID: "1", Mode: mode}).Becomes(1, 3)
			require.Equal(t, told, []int{len(nodes[0].Told()), len(nodes[2].Told())})

			// While the assignment of node 3 is reserved, no instance waits for node 3.
			nodes[2].Leaves(libcluster.Returning(time.Minute))
			start(t, libcluster.Config{Key: cluster, ID: "3", Mode: mode}).Becomes(3, 4)
		})
	}
}

// A record that is overwritten under its lease is no member's. Its instance must find that out,
// since the others do not wait for it.
func TestOneWhoseRecordWasOverwrittenUnderItsLeaseRejoins(t *testing.T) {
	t.Parallel()
	for _, mode := range withPlan {
		cluster, client := key(t), etcdClient(t)
		start(t, libcluster.Config{Key: cluster, ID: "a", Mode: mode, TTL: 2 * time.Second})
		b := start(t, libcluster.Config{Key: cluster, ID: "b", Mode: mode, TTL: 2 * time.Second})
		b.Becomes(1, 2)
		told := len(b.Told())
		_, err := client.Put(t.Context(), "/"+cluster+"/production/b", "garbage", clientv3.WithIgnoreLease())
		require.NoError(t, err)
		require.Eventually(t, func() bool { return len(b.Told()) > told && b.State().Active() }, patience, time.Millisecond)
		b.Becomes(1, 2)
	}
}

func TestCoordinatorThatIsCancelledWatchesNoMore(t *testing.T) {
	becomeWatches(t, 0)
	s, _, err := between.Join(t.Context(), patient(t), libcluster.Registration{
		Key: key(t), Env: "e", Member: libcluster.Member{ID: "a", Workers: 1}, TTL: time.Minute, Logger: zap.NewNop(), Mode: libcluster.ModePlanned,
	})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	survey, err := s.(libcluster.Planner).Survey(t.Context(), 0)
	require.NoError(t, err)
	becomeWatches(t, 2) // its own, of the plan, and the coordinator's
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	_, err = s.(libcluster.Planner).Survey(ctx, survey.Revision)
	require.ErrorIs(t, err, context.Canceled)
	becomeWatches(t, 1)
}

// The request of an attempt to join that was given up has its effect when a later
// attempt has succeeded, whose instance may act by then: nobody may be told that it has
// stopped.
func TestAnAttemptThatArrivesLateSaysNothingOfALaterOne(t *testing.T) {
	t.Parallel()
	var late func() error
	registry := libcluster.EtcdConfig{Client: etcdClient(t, func(config *clientv3.Config) {
		config.DialOptions = append(config.DialOptions, grpc.WithChainUnaryInterceptor(func(ctx context.Context,
			method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
		) error {
			txn, _ := req.(*pb.TxnRequest)
			switch {
			case late == nil && txn != nil && txn.Compare[0].Target == pb.Compare_MOD: // the one that writes the record
				late = func() error { return invoke(context.WithoutCancel(ctx), method, req, reply, cc, opts...) }
				return errors.New("no answer")
			case method == pb.Lease_LeaseRevoke_FullMethodName:
				return errors.New("no answer") // so that the lease is there when the request is
			}
			return invoke(ctx, method, req, reply, cc, opts...)
		}))
	}), RequestTimeout: patience}
	attempt := libcluster.Registration{
		Key: key(t), Env: "e", Member: libcluster.Member{ID: "a", Workers: 1}, TTL: time.Minute, Logger: zap.NewNop(),
		Mode: libcluster.ModeExclusive,
	}
	membership, err := registry.Enter(attempt)
	require.NoError(t, err)
	join := func() (libcluster.Session, error) {
		s, _, err := membership.Join(t.Context(), attempt.Member)
		if err == nil {
			t.Cleanup(func() { s.Close() })
		}
		return s, err
	}
	drained := func(s libcluster.Session) map[string]int64 {
		survey, err := s.(libcluster.Planner).Look(t.Context())
		require.NoError(t, err)
		return survey.Acknowledged
	}
	_, err = join()
	require.ErrorContains(t, err, "no answer")
	joined, err := join()
	require.NoError(t, err)
	require.NoError(t, late())
	_, err = joined.Renew(t.Context())
	require.NoError(t, err, "the record has changed since the late request was made")
	incarnation := joined.(libcluster.Planner).Incarnation()
	require.NotContains(t, drained(joined), incarnation)

	again, err := join()
	require.NoError(t, err)
	require.Contains(t, drained(again), incarnation, "it has stopped before it rejoined")
}
