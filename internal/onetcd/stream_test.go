package onetcd_test

import (
	"context"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/between"
)

// streamGoroutines counts what clientv3 runs for streams of watches, wherever in this
// process: one for each stream, and one for each that a server has taken.
func streamGoroutines() int {
	stacks := make([]byte, 8<<20)
	all := string(stacks[:runtime.Stack(stacks, true)])
	return strings.Count(all, ".(*watchGRPCStream).run(") + strings.Count(all, ".(*watchGRPCStream).serveWatchClient(")
}

// In an outage no server takes a stream, and clientv3 never ends one of those.
func TestOutageLeavesNoStreamOnTheCallersClient(t *testing.T) {
	require.Zero(t, streamGoroutines())
	for _, mode := range []libcluster.Mode{libcluster.ModeDirect, libcluster.ModePlanned} {
		t.Run(mode.String(), func(t *testing.T) {
			line := &cuttable{}
			registry := libcluster.EtcdConfig{Client: line.client(t), RequestTimeout: 50 * time.Millisecond}
			r := libcluster.Registration{
				Key: key(t), Env: "e", Member: libcluster.Member{ID: "a", Workers: 1}, TTL: time.Minute,
				Logger: zap.NewNop(), Mode: mode,
			}
			s, _, err := between.Join(t.Context(), libcluster.EtcdConfig{Client: registry.Client, RequestTimeout: patience}, r)
			require.NoError(t, err)
			membership, err := registry.Enter(r)
			require.NoError(t, err)
			next(t, s)
			require.Equal(t, 2, streamGoroutines())
			line.cut(true)
			for range 3 {
				_, _, err = membership.Join(t.Context(), r.Member)
				require.Error(t, err)
			}
			require.NoError(t, s.Close())
			require.Zero(t, streamGoroutines(), "while the line is cut")
			line.mend()
			_, err = registry.Client.Get(t.Context(), "x")
			require.NoError(t, err)
			require.Zero(t, streamGoroutines(), "after the line was mended")
		})
	}
}

// silentStream takes requests and answers none, as a server that is frozen.
type silentStream struct{ grpc.ClientStream }

func (silentStream) SendMsg(any) error { return nil }

func TestWatchThatNoServerHasConfirmedIsOpenedOnAnotherStream(t *testing.T) {
	t.Parallel()
	var opened atomic.Int32
	client := etcdClient(t, func(config *clientv3.Config) {
		config.DialOptions = append(config.DialOptions, grpc.WithChainStreamInterceptor(func(ctx context.Context,
			desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption,
		) (grpc.ClientStream, error) {
			stream, err := open(ctx, desc, cc, method, opts...)
			if method == pb.Watch_Watch_FullMethodName && opened.Add(1) == 1 {
				stream = silentStream{stream}
			}
			return stream, err
		}))
	})
	cluster := key(t)
	a := session(t, libcluster.EtcdConfig{Client: client}, cluster, "a")
	require.Equal(t, []string{"a"}, ids(next(t, a)))
	_, err := a.Next(t.Context())
	require.ErrorContains(t, err, "the watch was closed")
	session(t, patient(t), cluster, "b")
	require.Equal(t, []string{"b"}, ids(next(t, a)))
	require.EqualValues(t, 2, opened.Load())
}

func TestClientOfTheCallersMayBeInANamespace(t *testing.T) {
	t.Parallel()
	plain, client, cluster := etcdClient(t), etcdClient(t), key(t)
	client.KV = namespace.NewKV(client.KV, "/within")
	client.Watcher = namespace.NewWatcher(client.Watcher, "/within")
	client.Lease = namespace.NewLease(client.Lease, "/within")
	a := session(t, libcluster.EtcdConfig{Client: client}, cluster, "a")
	require.Equal(t, []string{"a"}, ids(next(t, a)))
	_, err := plain.Put(t.Context(), "/within/"+cluster+"/e/b", "1")
	require.NoError(t, err)
	require.Equal(t, []string{"b"}, ids(next(t, a)))
	got, err := plain.Get(t.Context(), "/within/"+cluster+"/e/a")
	require.NoError(t, err)
	require.Len(t, got.Kvs, 1)
}

// lateStream is told everything late, as over a long line.
type lateStream struct {
	grpc.ClientStream
	by time.Duration
}

func (s lateStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	<-time.After(s.by)
	return err
}

// A heartbeat may take 3/10 of the TTL, and so may a watch to be opened: an instance that
// keeps its place must also be told what becomes of the others.
func TestInstanceOnALongLineIsToldOfChanges(t *testing.T) {
	t.Parallel()
	for _, mode := range allModes[:2] {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			client := etcdClient(t, func(config *clientv3.Config) {
				config.DialOptions = append(config.DialOptions, grpc.WithChainStreamInterceptor(func(ctx context.Context,
					desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption,
				) (grpc.ClientStream, error) {
					stream, err := open(ctx, desc, cc, method, opts...)
					if method == pb.Watch_Watch_FullMethodName && err == nil {
						stream = lateStream{stream, 1100 * time.Millisecond}
					}
					return stream, err
				}))
			})
			cfg := libcluster.Config{Key: key(t), Mode: mode, TTL: 8 * time.Second}
			cfg.ID, cfg.Registry = "a", libcluster.EtcdConfig{Client: client}
			a := start(t, cfg)
			a.Becomes(0, 1)
			cfg.ID, cfg.Registry = "b", nil
			start(t, cfg)
			a.Becomes(0, 2)
		})
	}
}
