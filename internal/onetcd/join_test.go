package onetcd_test

import (
	"context"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/libcluster/libcluster"
)

// An etcd that is slow because many join at once would stay slow if each of them gave up
// as soon again and again.
func TestSlowAnswersToJoiningAreWaitedFor(t *testing.T) {
	t.Parallel()
	const slow = 5 * time.Second / 2 // longer than another request may take
	client := etcdClient(t, func(config *clientv3.Config) {
		config.DialOptions = append(config.DialOptions, grpc.WithChainUnaryInterceptor(func(ctx context.Context,
			method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
		) error {
			err := invoke(ctx, method, req, reply, cc, opts...)
			if method != pb.Lease_LeaseGrant_FullMethodName && method != pb.KV_Txn_FullMethodName {
				return err
			}
			select {
			case <-time.After(slow):
			case <-ctx.Done():
				err = ctx.Err()
			}
			return err
		}))
	})
	start(t, libcluster.Config{Key: key(t), Registry: libcluster.EtcdConfig{Client: client}}).Becomes(0, 1)
}
