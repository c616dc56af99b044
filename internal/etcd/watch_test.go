package etcd_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/libcluster/libcluster/internal/etcd"
	"github.com/libcluster/libcluster/internal/testetcd"
	"github.com/libcluster/libcluster/kv"
)

// asking counts how often a watch is asked for a sign of life.
type asking struct {
	clientv3.Watcher
	times atomic.Int32
}

func (a *asking) RequestProgress(ctx context.Context) error {
	a.times.Add(1)
	return a.Watcher.RequestProgress(ctx)
}

// watching opens a space on a client of its own, and a watch of all that is in it.
func watching(t *testing.T, options ...grpc.DialOption) (*etcd.Space, kv.Watch, *asking) {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{testetcd.URL(t)}, Logger: zap.NewNop(), DialOptions: options})
	require.NoError(t, err)
	asked := &asking{Watcher: client.Watcher}
	client.Watcher = asked
	space := etcd.Open(etcd.Config{
		Client: client, Owned: true, Prefix: "/" + t.Name() + "/", Timeout: testetcd.Patience, Silence: testetcd.Patience,
		Shared: &etcd.Shared{}, Log: zap.NewNop(),
	})
	t.Cleanup(func() { require.NoError(t, space.Close()) })
	w, err := space.Watch(t.Context(), "", 0)
	require.NoError(t, err)
	return space, w, asked
}

func TestWatchThatHasToldAllIsNotAsked(t *testing.T) {
	space, w, asked := watching(t)
	next := func() {
		done, err := space.Commit(t.Context(), kv.Tx{Put: []kv.Record{{Key: "a"}}})
		require.NoError(t, err)
		changes, err := w.Next(t.Context())
		require.NoError(t, err)
		require.Equal(t, done.Mark.Revision, changes.Mark.Revision)
	}
	next()
	for range 100 {
		_, _, err := space.Get(t.Context(), "a")
		require.NoError(t, err)
		next() // which would ask
	}
	require.Zero(t, asked.times.Load())
}

// mute is a stream of which nothing comes any more, as of a server that has frozen since.
type mute struct {
	grpc.ClientStream
	frozen *atomic.Bool
}

func (s mute) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if s.frozen.Load() {
		<-s.Context().Done()
		return s.Context().Err()
	}
	return err
}

func TestWatchThatDoesNotTellOfWhatThereIsIsGivenUp(t *testing.T) {
	var frozen atomic.Bool
	space, w, asked := watching(t, grpc.WithChainStreamInterceptor(func(ctx context.Context,
		desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		stream, err := open(ctx, desc, cc, method, opts...)
		if method == pb.Watch_Watch_FullMethodName && err == nil {
			stream = mute{stream, &frozen}
		}
		return stream, err
	}))
	space.Silence = 10 * time.Millisecond // from now on, since it also bounds the opening
	frozen.Store(true)
	_, err := space.Commit(t.Context(), kv.Tx{Put: []kv.Record{{Key: "a"}}})
	require.NoError(t, err)
	ended := make(chan error)
	go func() {
		_, err := w.Next(t.Context())
		ended <- err
	}()
	for watchdog := time.After(testetcd.Patience); ; {
		select {
		case err := <-ended:
			require.Error(t, err)
			require.NotZero(t, asked.times.Load())
			return
		case <-watchdog:
			t.Fatal("nobody finds out")
		default:
			_, _, err := space.Get(t.Context(), "a")
			require.NoError(t, err)
		}
	}
}
