package onetcd_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/between"
	"github.com/libcluster/libcluster/internal/testcluster"
)

// putRecords writes members' records as instances do, each of one under a lease of its own,
// with so many bytes of metadata. It returns what deletes them.
func putRecords(t testing.TB, client *clientv3.Client, cluster string, mode libcluster.Mode, number, size int) (remove func()) {
	t.Helper()
	record := fmt.Sprintf(`{"workers":1,"mode":%q,"metadata":{"x":%q}}`, mode, strings.Repeat("x", size))
	var ops []clientv3.Op
	var leases []clientv3.LeaseID
	for n := range number {
		if mode != libcluster.ModeDirect || n == 0 { // there one lease does
			lease, err := client.Grant(t.Context(), 3600)
			require.NoError(t, err)
			leases = append(leases, lease.ID)
		}
		ops = append(ops, clientv3.OpPut(fmt.Sprintf("/%s/production/x%05d", cluster, n), record, clientv3.WithLease(leases[len(leases)-1])))
		if len(ops) == 100 || len(ops)*(size+100) > 1<<20 || n == number-1 {
			_, err := client.Txn(t.Context()).Then(ops...).Commit()
			require.NoError(t, err)
			ops = nil
		}
	}
	return func() {
		for _, lease := range leases {
			_, err := client.Revoke(context.Background(), lease)
			require.NoError(t, err)
		}
	}
}

// sums waits until an instance knows of so many workers.
func (i *instance) sums(total int) {
	i.t.Helper()
	require.Eventually(i.t, func() bool { return i.State().Total == total }, patience, time.Millisecond, "want a total of %d", total)
}

// Members are read in pages, which are all of one moment: what changes meanwhile comes
// after it.
func TestAListOfManyPagesIsOfOneMoment(t *testing.T) {
	t.Parallel()
	for _, mode := range allModes[:2] {
		t.Run(mode.String(), func(t *testing.T) {
			cluster, stranger := key(t), etcdClient(t)
			defer putRecords(t, stranger, cluster, mode, 1200, 1)()
			pages := 0
			var once sync.Once
			client := etcdClient(t, func(c *clientv3.Config) {
				c.DialOptions = append(c.DialOptions, grpc.WithChainUnaryInterceptor(func(
					ctx context.Context, method string, request, answer any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
				) error {
					if r, ok := request.(*pb.RangeRequest); ok && r.Revision > 0 {
						pages++
						once.Do(func() {
							_, err := stranger.Delete(ctx, "/"+cluster+"/production/x01199")
							require.NoError(t, err)
							_, err = stranger.Put(ctx, "/"+cluster+"/production/x00000", "7")
							require.NoError(t, err)
						})
					}
					return invoke(ctx, method, request, answer, conn, opts...)
				}))
			})
			registry := libcluster.EtcdConfig{Client: client, RequestTimeout: patience}
			if mode == libcluster.ModePlanned { // the coordinator reads them
				start(t, libcluster.Config{Key: cluster, ID: "a", Mode: mode, Registry: registry}).sums(1200 - 1)
				require.GreaterOrEqual(t, pages, 4)
				return
			}
			session, _, err := between.Join(t.Context(), registry, libcluster.Registration{
				Key: cluster, Env: "production", Member: libcluster.Member{ID: "a", Workers: 1}, TTL: testcluster.Unfenced, Logger: zap.NewNop(),
			})
			require.NoError(t, err)
			defer session.Leave(context.Background(), libcluster.Departure{})
			require.Equal(t, 4, pages)
			change, err := session.Next(t.Context())
			require.NoError(t, err)
			require.True(t, change.Reset)
			require.Len(t, change.Events, 1201)
			first := change.Generation
			for _, e := range change.Events {
				require.Equal(t, 1, e.Member.Workers)
			}
			for gone := false; !gone; gone = change.Events[0].Gone {
				change, err = session.Next(t.Context())
				require.NoError(t, err)
				require.Greater(t, change.Generation, first)
			}
		})
	}
}

var heavy sync.Mutex

// alone waits for the other tests that move tens of megabytes: what one of them reads is
// enough for a machine at a time.
func alone() (unlock func()) {
	heavy.Lock()
	return sync.OnceFunc(heavy.Unlock)
}

// A client of the caller's may take no large answers, and what strangers have put may be
// large.
func TestPagesThatAreTooLargeAreReadInSmallerOnes(t *testing.T) {
	t.Parallel()
	for _, mode := range allModes[:2] {
		for size, n := range map[int]int{1000: 300, 30_000: 40} { // of the latter one at a time
			t.Run(fmt.Sprint(mode, size), func(t *testing.T) {
				defer alone()()
				cluster, stranger := key(t), etcdClient(t)
				defer putRecords(t, stranger, cluster, mode, n, size)()
				small := etcdClient(t, func(c *clientv3.Config) { c.MaxCallSendMsgSize, c.MaxCallRecvMsgSize = 40<<10, 40<<10 })
				i := start(t, libcluster.Config{Key: cluster, ID: "a", Mode: mode, Registry: libcluster.EtcdConfig{Client: small}})
				i.sums(1 + n)
				i.becomesCovered(1 + n)
			})
		}
	}
}

func TestLargeForeignValuesHoldUpNobody(t *testing.T) {
	t.Parallel()
	for _, mode := range allModes[:2] { // all modes with a plan read alike
		t.Run(mode.String(), func(t *testing.T) {
			defer alone()()
			cluster, client := key(t), etcdClient(t)
			prefix := "/" + cluster + "/production/"
			for n := range 24 { // more than an answer may have
				_, err := client.Put(t.Context(), fmt.Sprint(prefix, "foreign", n), strings.Repeat("x", 1<<20))
				require.NoError(t, err)
			}
			defer client.Delete(context.Background(), prefix, clientv3.WithPrefix())
			start(t, libcluster.Config{Key: cluster, ID: "a", Mode: mode, Registry: patient(t)})
		})
	}
}

// What members' records may take is bounded. Those that have joined keep their places, and
// see the others again when there is room.
func TestRecordsThatAreTooLargeTogetherAreNotTakenIn(t *testing.T) {
	t.Parallel()
	for _, mode := range allModes[:2] {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			cluster, client := key(t), etcdClient(t)
			core, logs := observer.New(zap.WarnLevel)
			a := start(t, libcluster.Config{Key: cluster, ID: "a", Mode: mode, Logger: zap.New(core), Registry: patient(t)})
			unlock := alone()
			defer unlock()
			remove := putRecords(t, client, cluster, libcluster.ModeDirect, 600, 60000)
			_, err := client.Put(t.Context(), "/"+cluster+"/production/x00000", `{"workers":1,"version":"`+strings.Repeat("y", 63000)+`"}`)
			require.NoError(t, err)
			why := func() (text string) {
				for _, line := range logs.All() {
					text += fmt.Sprint(line.ContextMap()["error"])
				}
				return text
			}
			require.Eventually(t, func() bool { return strings.Contains(why(), "32 MiB") }, patience, time.Millisecond)
			require.Contains(t, why(), cluster+"/production")
			require.True(t, a.State().Active())
			require.Eventually(t, func() bool {
				_, err = a.Coverage(t.Context())
				return err != nil && strings.Contains(err.Error(), "32 MiB")
			}, patience, time.Millisecond)

			b := prepare(t, libcluster.Config{Key: cluster, ID: "b", Mode: mode, Registry: patient(t)})
			joined := make(chan error, 1)
			joining, end := context.WithTimeout(context.Background(), 2*patience) // for two readings
			defer end()
			go func() { joined <- b.Join(joining) }()
			if mode == libcluster.ModeDirect {
				err := <-joined
				require.ErrorContains(t, err, "32 MiB")
				require.ErrorContains(t, err, cluster+"/production are together")
				require.ErrorContains(t, err, `"/`+cluster+`/production/x00000" with 63`)
				require.NoError(t, joining.Err())
			}
			unlock()
			remove()
			_, err = client.Delete(t.Context(), "/"+cluster+"/production/x00000")
			require.NoError(t, err)
			if mode == libcluster.ModeDirect {
				joined <- b.Join(joining)
			}
			require.NoError(t, <-joined)
			a.sums(2)
			b.sums(2)
		})
	}
}

// One note under the coordinator's key may name half a million.
func TestFloodOfNamesIsCutShort(t *testing.T) {
	cluster, client := key(t), etcdClient(t)
	lease, err := client.Grant(t.Context(), 3600)
	require.NoError(t, err)
	says := "planned\tnobody\n" + strings.Repeat("1\tx\n", 1<<18)
	_, err = client.Put(t.Context(), "/"+cluster+"/production//p/coordinator", says, clientv3.WithLease(lease.ID))
	require.NoError(t, err)
	core, logs := observer.New(zap.DebugLevel)
	i := prepare(t, libcluster.Config{Key: cluster, Mode: libcluster.ModePlanned, Logger: zap.New(core)})
	joining, end := context.WithCancel(t.Context())
	joined := make(chan error)
	go func() { joined <- i.Join(joining) }()
	require.Eventually(t, func() bool { return len(i.Blockers()) > 0 }, patience, time.Millisecond)
	require.Len(t, i.Blockers(), 100)
	end()
	err = <-joined
	require.Less(t, len(err.Error()), 1000)
	require.Less(t, logs.Len(), 10)
}
