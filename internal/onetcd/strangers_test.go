package onetcd_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/embedded"
	"github.com/libcluster/libcluster/internal/between"
)

// withPlan are those with a plan.

func TestTwoRecordsUnderOneLeaseDoNotStopACluster(t *testing.T) {
	for _, mode := range withPlan {
		t.Run(mode.String(), func(t *testing.T) {
			cluster, client := key(t), etcdClient(t)
			prefix := "/" + cluster + "/production/"
			a := start(t, libcluster.Config{Key: cluster, ID: "a", Mode: mode})
			b := start(t, libcluster.Config{Key: cluster, ID: "b", Mode: mode})
			got, err := client.Get(t.Context(), prefix+"b")
			require.NoError(t, err)
			_, err = client.Put(t.Context(), prefix+"z", string(got.Kvs[0].Value), clientv3.WithLease(clientv3.LeaseID(got.Kvs[0].Lease)))
			require.NoError(t, err)
			c := start(t, libcluster.Config{Key: cluster, ID: "c", Mode: mode})
			a.Becomes(0, 3)
			b.Becomes(1, 3)
			c.Becomes(2, 3)
			plan, err := client.Get(t.Context(), prefix+"/p/plan")
			require.NoError(t, err)
			require.Less(t, plan.Kvs[0].Version, int64(20), "no plan is made again and again")
		})
	}
}

// Each member may have to coordinate. That it may not is found before it is needed.
func TestWithoutPermissionForThePlanJoiningFailsAtOnce(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	server, admin := startWithUsers(t, ctx)
	cluster := key(t)
	prefix := "/" + cluster + "/production/"
	_, err := admin.RoleAdd(ctx, "member")
	require.NoError(t, err)
	_, err = admin.RoleGrantPermission(ctx, "member", prefix, clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermRead))
	require.NoError(t, err)
	_, err = admin.RoleGrantPermission(ctx, "member", prefix+"a", prefix+"b", clientv3.PermissionType(clientv3.PermReadWrite))
	require.NoError(t, err)
	_, err = admin.UserAdd(ctx, "app", "secret")
	require.NoError(t, err)
	_, err = admin.UserGrantRole(ctx, "app", "member")
	require.NoError(t, err)
	registry := libcluster.EtcdConfig{Endpoints: []string{server.Endpoint()}, Username: "app", Password: libcluster.NewSecret("secret")}
	written := admin.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-written
	for _, mode := range withPlan {
		err := prepare(t, libcluster.Config{Key: cluster, ID: "a", Mode: mode, Registry: registry}).Join(ctx)
		require.ErrorContains(t, err, "permission denied", mode)
		require.NoError(t, ctx.Err(), "it went on trying")
	}
	_, err = admin.Put(ctx, prefix+"last", "")
	require.NoError(t, err)
	require.Equal(t, prefix+"last", string((<-written).Events[0].Kv.Key), "a refused instance has written nothing, not even for a moment")
	start(t, libcluster.Config{Key: cluster, ID: "a", Registry: registry}).Leaves()
}

// An operator needs no more of an etcd than the instances do.
func TestWhoHasOnlyTheClustersPrefixDrains(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	server, admin := startWithUsers(t, ctx)
	for _, mode := range []libcluster.Mode{
		libcluster.ModeDirect, libcluster.ModePlanned, libcluster.ModeExclusive, libcluster.ModeCooperative,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			cluster, user := key(t), mode.String()
			prefix := "/" + cluster + "/production/"
			_, err := admin.RoleAdd(ctx, user)
			require.NoError(t, err)
			_, err = admin.RoleGrantPermission(ctx, user, prefix, clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermReadWrite))
			require.NoError(t, err)
			_, err = admin.UserAdd(ctx, user, "secret")
			require.NoError(t, err)
			_, err = admin.UserGrantRole(ctx, user, user)
			require.NoError(t, err)
			config := libcluster.Config{Key: cluster, Mode: mode, Registry: libcluster.EtcdConfig{
				Endpoints: []string{server.Endpoint()}, Username: user, Password: libcluster.NewSecret("secret"),
			}}
			if mode == libcluster.ModeCooperative {
				config.Partitions = 4
			}
			member := func(id string) *instance {
				c := config
				c.ID = id
				return start(t, c)
			}
			a, b := member("a"), member("b")
			c := config
			c.Passive = true
			operator := start(t, c)
			active := func(want bool) {
				t.Helper()
				require.Eventually(t, func() bool { return a.State().Active() == want && b.State().Active() }, patience, time.Millisecond)
			}
			active(true)
			require.NoError(t, operator.Drain(ctx, "a"))
			active(false)
			require.ErrorIs(t, a.Err(), libcluster.ErrDrained)
			found, err := operator.Coverage(ctx)
			require.NoError(t, err)
			require.True(t, slices.ContainsFunc(found.Problems, func(p libcluster.CoverageProblem) bool {
				return p.Kind == libcluster.ProblemDraining && p.ID == "a"
			}), "%v", found.Problems)
			require.NoError(t, operator.Undrain(ctx, "a"))
			active(true)
		})
	}
}

// startWithUsers starts an etcd that wants a user, and returns root's client.
func startWithUsers(t *testing.T, ctx context.Context) (*embedded.Server, *clientv3.Client) {
	t.Helper()
	server, err := embedded.Start(ctx, embedded.Config{Fast: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	config := clientv3.Config{Endpoints: []string{server.Endpoint()}, Logger: zap.NewNop()}
	first, err := clientv3.New(config)
	require.NoError(t, err)
	defer first.Close()
	_, err = first.UserAdd(ctx, "root", "s3cret")
	require.NoError(t, err)
	_, err = first.UserGrantRole(ctx, "root", "root")
	require.NoError(t, err)
	_, err = first.AuthEnable(ctx)
	require.NoError(t, err)
	config.Username, config.Password = "root", "s3cret"
	admin, err := clientv3.New(config)
	require.NoError(t, err)
	t.Cleanup(func() { admin.Close() })
	return server, admin
}

// README has these commands for an instance that surely does not run any more.
func TestOneThatIsSaidToHaveStoppedIsNotWaitedFor(t *testing.T) {
	cluster, client := key(t), etcdClient(t)
	prefix := "/" + cluster + "/production/"
	lease := func() clientv3.LeaseID {
		granted, err := client.Grant(t.Context(), 3600)
		require.NoError(t, err)
		return granted.ID
	}
	b := start(t, libcluster.Config{Key: cluster, ID: "b", Mode: libcluster.ModeExclusive, TTL: time.Hour})
	// An instance that comes, gets a place, and vanishes.
	a := lease()
	_, err := client.Put(t.Context(), prefix+"a", `{"workers":1,"mode":"exclusive","window":2160000}`, clientv3.WithLease(a))
	require.NoError(t, err)
	b.Becomes(0, 2)
	incarnation := fmt.Sprintf("%x", a)
	plan, err := client.Get(t.Context(), prefix+"/p/plan")
	require.NoError(t, err)
	require.Contains(t, string(plan.Kvs[0].Value), "\n"+incarnation+"\t", "the plan names it")
	_, err = client.Revoke(t.Context(), a)
	require.NoError(t, err)

	// The others would wait for most of an hour.
	_, err = client.Put(t.Context(), prefix+"/acknowledged/"+incarnation, fmt.Sprint(int64(libcluster.StoppedForGood)), clientv3.WithLease(lease()))
	require.NoError(t, err)
	start(t, libcluster.Config{Key: cluster, ID: "c", Mode: libcluster.ModeExclusive, TTL: time.Hour}).Becomes(1, 2)
}

func TestAnAssignmentThatCannotBeReservedSinceItsRecordIsGoneIsNotLostSilently(t *testing.T) {
	for _, mode := range []libcluster.Mode{libcluster.ModeDirect, libcluster.ModePlanned, libcluster.ModeExclusive} {
		cluster, client := key(t), etcdClient(t)
		s, _, err := between.Join(t.Context(), patient(t), registration(cluster, "a", mode))
		require.NoError(t, err)
		_, err = client.Delete(t.Context(), "/"+cluster+"/production/a")
		require.NoError(t, err)
		before, err := client.Leases(t.Context())
		require.NoError(t, err)
		kept := libcluster.Member{ID: "a", Workers: 1}
		err = s.Leave(t.Context(), libcluster.Departure{Reserve: 77 * time.Minute, Last: kept, Stopped: mode == libcluster.ModeExclusive})
		require.ErrorIs(t, err, libcluster.ErrRecordGone, mode)
		require.NotContains(t, grantedSince(t, client, before), int64(77*60), "no lease is left for what was not kept")
	}
}

// grantedSince returns what was granted to the leases that are new.
func grantedSince(t *testing.T, client *clientv3.Client, before *clientv3.LeaseLeasesResponse) (all []int64) {
	t.Helper()
	now, err := client.Leases(t.Context())
	require.NoError(t, err)
	for _, l := range now.Leases {
		if slices.Contains(before.Leases, l) {
			continue
		}
		granted, err := client.TimeToLive(t.Context(), l.ID)
		require.NoError(t, err)
		all = append(all, granted.GrantedTTL)
	}
	return all
}

func TestIDIsReclaimedOnEtcdWhenItsKeyHasBeenFreeForLong(t *testing.T) {
	t.Parallel()
	for _, mode := range allModes[:3] { // in which the total is that of the workers
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			cluster := key(t)
			older := start(t, libcluster.Config{Key: cluster, ID: "a", Mode: mode, TTL: 5 * time.Second, ReclaimAfter: time.Second})
			older.Becomes(0, 1)
			newer := start(t, libcluster.Config{Key: cluster, ID: "a", Mode: mode, TTL: 5 * time.Second, Workers: 2})
			newer.Becomes(0, 2)
			older.Becomes(-1, 0)
			// On a busy machine the deadline of the older may pass before the older learns that.
			require.Eventually(t, func() bool { return errors.Is(older.Err(), libcluster.ErrInstanceTaken) }, patience, time.Millisecond)
			newer.Leaves()
			older.Becomes(0, 1)
			require.NoError(t, older.Err())
		})
	}
}
