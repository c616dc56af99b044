package onetcd_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/libcluster/libcluster"
)

// refusing is an etcd that refuses as many writes as left says, with an error.
type refusing struct {
	left atomic.Int32
	err  error
	late bool // it carries them out first
}

func (r *refusing) client(t *testing.T) *clientv3.Client {
	return etcdClient(t, func(config *clientv3.Config) {
		config.DialOptions = append(config.DialOptions, grpc.WithChainUnaryInterceptor(r.answer))
	})
}

func (r *refusing) answer(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	writes := strings.HasSuffix(method, "/Txn") || strings.HasSuffix(method, "/LeaseGrant") || strings.HasSuffix(method, "/LeaseRevoke")
	if !writes || r.left.Add(-1) < 0 {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	if r.late {
		_ = invoke(ctx, method, req, reply, cc, opts...)
	}
	return r.err
}

// passingErrors are what etcd has been seen to answer while its servers were restarted
// one by one.
var passingErrors = map[string]error{
	"leader changed":       status.Error(codes.Unavailable, "etcdserver: leader changed"),
	"stopped":              status.Error(codes.Unknown, "raft: stopped"),
	"a learner, etcd 3.4":  status.Error(codes.Unavailable, "etcdserver: rpc not supported for learner"),
	"a learner, etcd 3.7":  status.Error(codes.FailedPrecondition, "etcdserver: rpc not supported for learner"),
	"too many requests":    status.Error(codes.ResourceExhausted, "etcdserver: too many requests"),
	"a proxy has given up": status.Error(codes.Internal, "stream terminated by RST_STREAM"),
}

func TestPassingErrorsDoNotEndALeave(t *testing.T) {
	for name, err := range passingErrors {
		for _, mode := range []libcluster.Mode{libcluster.ModeDirect, libcluster.ModeExclusive} {
			for how, options := range map[string][]libcluster.LeaveOption{"for good": nil, "returning": {libcluster.Returning(time.Hour)}} {
				t.Run(name+"/"+mode.String()+"/"+how, func(t *testing.T) {
					t.Parallel()
					cluster, etcd := key(t), &refusing{err: err}
					i := start(t, libcluster.Config{
						Key: cluster, ID: "a", Mode: mode, TTL: time.Minute,
						Registry: libcluster.EtcdConfig{Client: etcd.client(t)},
					})
					etcd.left.Store(3)
					i.Leaves(options...)
					got, err := etcdClient(t).Get(t.Context(), "/"+cluster+"/production/a")
					require.NoError(t, err)
					require.Len(t, got.Kvs, len(options), "the record")
				})
			}
		}
	}
}

func TestAssignmentIsKeptWhenTheAnswersAreLost(t *testing.T) {
	t.Parallel()
	for _, mode := range []libcluster.Mode{libcluster.ModeDirect, libcluster.ModeExclusive} {
		t.Run(mode.String(), func(t *testing.T) {
			cluster, etcd := key(t), &refusing{err: passingErrors["leader changed"], late: true}
			i := start(t, libcluster.Config{
				Key: cluster, ID: "a", Mode: mode, TTL: time.Minute,
				Registry: libcluster.EtcdConfig{Client: etcd.client(t)},
			})
			etcd.left.Store(3)
			i.Leaves(libcluster.Returning(time.Hour))
			got, err := etcdClient(t).Get(t.Context(), "/"+cluster+"/production/a")
			require.NoError(t, err)
			require.Len(t, got.Kvs, 1, "the record that is kept")
		})
	}
}

func TestPassingErrorsDoNotFailSetWorkers(t *testing.T) {
	for name, err := range passingErrors {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			etcd := &refusing{err: err}
			i := start(t, libcluster.Config{
				Key: key(t), ID: "a", TTL: time.Minute,
				Registry: libcluster.EtcdConfig{Client: etcd.client(t)},
			})
			etcd.left.Store(2)
			require.NoError(t, i.SetWorkers(t.Context(), 3))
			i.Becomes(0, 3)
		})
	}
}

func TestRefusalEndsJoiningAtOnce(t *testing.T) {
	for name, err := range map[string]error{
		"no permission": status.Error(codes.PermissionDenied, "etcdserver: permission denied"),
		"too large":     status.Error(codes.InvalidArgument, "etcdserver: request is too large"),
		"no etcd":       status.Error(codes.Unimplemented, "unknown service etcdserverpb.Lease"),
	} {
		t.Run(name, func(t *testing.T) {
			etcd := &refusing{err: err}
			etcd.left.Store(1)
			i := prepare(t, libcluster.Config{Key: key(t), ID: "a", Registry: libcluster.EtcdConfig{Client: etcd.client(t)}})
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			require.ErrorContains(t, i.Join(ctx), status.Convert(err).Message())
			require.NoError(t, ctx.Err(), "it went on trying")
		})
	}
}

func TestClientThatWillNotDoIsAConfigurationError(t *testing.T) {
	closed := etcdClient(t)
	require.NoError(t, closed.Close())
	for name, client := range map[string]*clientv3.Client{
		"Client is closed":         closed,
		"Client has no connection": clientv3.NewCtxClient(t.Context()), // as v3client.New makes it
	} {
		t.Run(name, func(t *testing.T) {
			_, err := libcluster.New(libcluster.Config{Key: key(t), Registry: libcluster.EtcdConfig{Client: client}})
			var wrong *libcluster.ConfigError
			require.ErrorAs(t, err, &wrong)
			require.ErrorContains(t, err, name)
		})
	}
}

func TestJoiningOnAClosedClientEndsAtOnce(t *testing.T) {
	client := etcdClient(t)
	i := prepare(t, libcluster.Config{Key: key(t), ID: "a", Registry: libcluster.EtcdConfig{Client: client}})
	require.NoError(t, client.Close())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.ErrorContains(t, i.Join(ctx), "Client is closed")
	require.NoError(t, ctx.Err(), "it went on trying")
}
