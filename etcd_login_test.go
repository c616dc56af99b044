//go:build !wasm

package libcluster

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/libcluster/libcluster/internal/chance"
)

// authority is the part of an etcd that knows passwords.
type authority struct {
	pb.UnimplementedAuthServer
	password string
	asked    atomic.Int64
}

func (a *authority) Authenticate(_ context.Context, r *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	a.asked.Add(1)
	if r.Password != a.password {
		return nil, rpctypes.ErrGRPCAuthFailed
	}
	return &pb.AuthenticateResponse{Token: "token"}, nil
}

// An operator changes a password, and then restarts one instance after another with the new one. Each
// log-in costs etcd some 50 ms of a core, also with a wrong password.
func TestPasswordThatIsDeniedIsTriedLessAndLess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &authority{password: "new"}
		server, pipe := grpc.NewServer(), bufconn.Listen(1<<16)
		pb.RegisterAuthServer(server, a)
		go func() { _ = server.Serve(pipe) }()
		defer server.Stop()
		conn, err := grpc.NewClient("passthrough:///etcd", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }))
		require.NoError(t, err)
		defer conn.Close()
		login := (&etcdConnections{}).loginAs("app", NewSecret("old"), chance.New(1, "login"))

		began := time.Now()
		for time.Since(began) < 10*time.Minute {
			_, err = login.get(t.Context(), conn)
			require.ErrorContains(t, err, "authentication failed")
			time.Sleep(time.Second / 4)
		}
		require.Less(t, a.asked.Load(), int64(40))
		require.ErrorContains(t, login.wait(), "authentication failed")

		a.password = "old" // it is changed back
		synctest.Wait()
		time.Sleep(crowdCap)
		require.NoError(t, login.wait())
		token, err := login.get(t.Context(), conn)
		require.NoError(t, err)
		require.Equal(t, "token", token)
		login.refused(token, rpctypes.ErrInvalidAuthToken)
		_, err = login.get(t.Context(), conn)
		require.NoError(t, err, "a token that has expired is no password that is denied")
	})
}
