package peers

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/etcdserver"
	"github.com/libcluster/libcluster/internal/testhost"
)

const patience = time.Minute

// alone returns the only peer of a cluster.
func alone(t *testing.T) *Peers {
	p, err := New(Config{ID: "a", Listen: testhost.FreeAddress(t), DataDir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// serving returns the run of a peer, when its server is ready.
func serving(t *testing.T, ctx context.Context) *run {
	r, err := alone(t).running(zap.NewNop())
	require.NoError(t, err)
	select {
	case <-r.ready:
	case <-ctx.Done():
		require.Fail(t, "the server is not ready")
	}
	return r
}

// The figures are those that doc.go and Config name.
func TestDefaultsAreThoseThatAreSaid(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r := serving(t, ctx)
	c, err := libcluster.New(libcluster.Config{Key: "k", Registry: r.p})
	require.NoError(t, err)
	require.Equal(t, 3*time.Second, c.Config().TTL)
	etcd := r.p.etcdConfig(zap.NewNop(), r.p.voters, nil)
	require.Equal(t, []uint{300, 30}, []uint{etcd.ElectionMs, etcd.TickMs})
	logs, err := filepath.Glob(filepath.Join(r.p.cfg.DataDir, "member", "wal", "*.wal"))
	require.NoError(t, err)
	require.Len(t, logs, 1)
	log, err := os.Stat(logs[0])
	require.NoError(t, err)
	require.EqualValues(t, 2<<20, log.Size())
}

// As a voter it would count towards the majority before it has any data.
func TestPeerThatEntersIsALearnerFirst(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	there := serving(t, ctx)
	newcomer, err := New(Config{ID: "b", Listen: "127.0.0.1:1", DataDir: t.TempDir(), Peers: []Peer{{Address: there.p.self.Address}}})
	require.NoError(t, err)
	servers, err := (&run{p: newcomer, log: zap.NewNop()}).enter(ctx, there.p.voters)
	require.NoError(t, err)
	require.ElementsMatch(t, newcomer.voters, servers)
	list, err := there.client.MemberList(ctx)
	require.NoError(t, err)
	for _, m := range list.Members {
		require.Equal(t, addressOf(m) == newcomer.self.Address, m.IsLearner, "%v", m)
	}
}

func TestLearnerThatWasRemovedWaitsForNothing(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r := serving(t, ctx)
	require.ErrorContains(t, r.promote(ctx, 1, r.p.voters, nil), "if this peer was removed")
}

func TestLearnerWhoseServerHasEndedWaitsForNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p := alone(t) // nobody answers
	r := &run{p: p, log: zap.NewNop(), broken: make(chan struct{})}
	ended := make(chan struct{})
	close(ended)
	require.ErrorContains(t, r.promote(ctx, 1, p.voters, ended), "the server has stopped")
}

func TestDatabaseThatWasFullTakesWritesAgain(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r := serving(t, ctx)
	list, err := r.client.MemberList(ctx)
	require.NoError(t, err)
	_, err = pb.NewMaintenanceClient(r.client.ActiveConnection()).Alarm(ctx, &pb.AlarmRequest{
		Action: pb.AlarmRequest_ACTIVATE, MemberID: list.Members[0].ID, Alarm: pb.AlarmType_NOSPACE,
	})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := r.client.Put(ctx, "key", "value")
		return err == nil
	}, patience, 10*time.Millisecond)
}

func TestServerThatDoesNotStopIsAnError(t *testing.T) {
	p := alone(t)
	r := &run{p: p, log: zap.NewNop(), board: newBoard(word{}), broken: make(chan struct{})}
	_, err := etcdserver.StageOf(p.cfg.DataDir)
	require.NoError(t, err)
	f, err := openFront(t.Context(), p.cfg.Listen, nil, r.board)
	require.NoError(t, err)
	defer f.close()
	s, err := r.openServer(t.Context(), f, p.voters, lots{p.self.Address: "x"})
	require.NoError(t, err)
	release := make(chan struct{})
	s.serve.Go(func() { <-release })
	require.ErrorContains(t, s.close(time.Millisecond), "etcd does not stop")
	close(release)
	for range s.etcd.Err() { // it is closed when all has ended
	}
}
