package peers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/etcdhttp"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/libcluster/libcluster/internal/etcdserver"
	"github.com/libcluster/libcluster/kv"
)

const (
	// quota is where etcd refuses writes. Old revisions are kept for one to two times as long as
	// compaction says; what they have taken is used again.
	quota       = 2 << 30
	compaction  = "5m"
	maxLearners = 2
	segment     = 2 << 20

	// closeTimeout is longer than an etcd takes to hand its leadership to another server that
	// does not answer. One whose disk failed may never close.
	closeTimeout = 10 * time.Second

	// lateAnswer is how much later than another leader an answer of the last one may come.
	lateAnswer = 100 * time.Millisecond

	pipeSize = 256 << 10
)

// Two log files are allocated ahead, by default of 64 MB each. The variable is etcd's, for
// the whole process, and must not change while an etcd runs.
func init() { wal.SegmentSizeBytes = segment }

// server is this peer's etcd.
type server struct {
	etcd  *embed.Etcd
	grpc  *grpc.Server
	pipe  *bufconn.Listener // for clients in this process
	level zap.AtomicLevel
	serve sync.WaitGroup // of clients, and what else ends before etcd does
}

// openServer starts etcd, and serves the other servers on front and clients of this process on a
// pipe. It is not ready yet, and is not shown to other clients before it is: its data may be old.
func (r *run) openServer(ctx context.Context, front *front, servers []string, named lots) (*server, error) {
	etcdLog := zap.NewNop() // it says much that nobody need do anything about
	if given := r.p.cfg.Logger; given != nil {
		etcdLog = given.With(zap.String("self", r.p.self.ID))
	}
	log, level := etcdserver.Logger(etcdLog, r.breaks)
	config := r.p.etcdConfig(log, servers, named)
	etcd, err := etcdserver.Start(ctx, config)
	if err != nil {
		return nil, err
	}
	handler := etcdhttp.NewPeerHandler(log, etcd.Server)
	front.raft.Store(&handler)
	s := &server{
		etcd: etcd, level: level, pipe: bufconn.Listen(pipeSize),
		grpc: v3rpc.Server(etcd.Server, nil, nil,
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: config.GRPCKeepAliveMinTime}),
			grpc.KeepaliveParams(keepalive.ServerParameters{
				Time: config.GRPCKeepAliveInterval, Timeout: config.GRPCKeepAliveTimeout,
			}),
			grpc.WaitForHandlers(true),
		),
	}
	s.serveOn(s.pipe)
	return s, nil
}

// serveOn serves clients.
func (s *server) serveOn(l net.Listener) {
	s.serve.Go(func() { _ = s.grpc.Serve(l) }) // nil after Stop, else the listener is gone
}

// close stops the server, and returns when nothing of it is left, or an error when that takes
// too long.
func (s *server) close(timeout time.Duration) error {
	closed := make(chan struct{})
	go func() { // where etcd would end the process, its logger ends this goroutine
		defer close(closed)
		s.grpc.Stop() // waits for requests, which may wait for a disk
		s.serve.Wait()
		s.level.SetLevel(zap.FatalLevel) // on stopping it complains that it cannot go on with this and that
		s.etcd.Close()
	}()
	select {
	case <-closed:
		return nil
	case <-time.After(timeout):
		return errors.New("etcd does not stop; it has the data folder until this process ends")
	}
}

func (p *Peers) etcdConfig(log *zap.Logger, servers []string, named lots) *embed.Config {
	c := embed.NewConfig()
	c.Name, c.Dir = p.self.Address, p.cfg.DataDir

	own, err := url.Parse(p.url(p.self.Address))
	if err != nil {
		panic(err) // the address was checked
	}
	c.ListenClientUrls, c.ListenPeerUrls = nil, nil // the front listens
	c.AdvertiseClientUrls, c.AdvertisePeerUrls = []url.URL{*own}, []url.URL{*own}
	c.EnableGRPCGateway = false
	c.PeerTLSInfo = p.cfg.TLS.info()

	var initial []string
	for _, address := range servers {
		initial = append(initial, address+"="+p.url(address))
	}
	c.InitialCluster = strings.Join(initial, ",")
	c.InitialClusterToken = named.token()
	c.ClusterState = embed.ClusterStateFlagNew
	if named == nil {
		c.ClusterState = embed.ClusterStateFlagExisting
	}
	c.StrictReconfigCheck = true
	c.MaxLearners = maxLearners

	c.ElectionMs = uint(p.cfg.Election.Milliseconds())
	c.TickMs = c.ElectionMs / heartbeats
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModePeriodic, compaction
	c.QuotaBackendBytes = quota

	c.LogLevel = "warn"
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log)
	return c
}

// dial returns a client to this server, whose leases are noted on the board.
func (s *server) dial(endpoint string, board *board) (*clientv3.Client, error) {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:          []string{endpoint},
		Logger:             zap.NewNop(), // every error comes back
		MaxCallRecvMsgSize: maxAnswer,
		DialOptions: []grpc.DialOption{
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.pipe.DialContext(ctx) }),
			grpc.WithChainUnaryInterceptor(board.intercept, s.abandon),
			reconnect,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("client of the own server: %w", err)
	}
	return client, nil
}

// abandon ends a request that was sent to a leader which is leader no more: nobody answers
// it, and etcd would wait for five seconds. What has become of it is not known, as with any
// request that is not answered.
func (s *server) abandon(ctx context.Context, method string, request, answer any,
	conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changed := s.etcd.Server.LeaderChangedNotify()
	var abandoned atomic.Bool
	go func() {
		select {
		case <-changed:
			sleep(ctx, lateAnswer)
			abandoned.Store(ctx.Err() == nil)
			cancel()
		case <-ctx.Done():
		}
	}()
	err := invoke(ctx, method, request, answer, conn, options...)
	if err != nil && abandoned.Load() {
		return status.Error(codes.Unavailable, "the peers have another leader now, and the last one has not answered")
	}
	return err
}

// begins notes a session's lease before it is asked for: if this process ends in the next moment,
// the others know of it. What a session leaves behind when it leaves for a restart is under another
// lease, which has to outlive the process, and of which the others are not told.
func (b *board) begins(owner kv.Owner) { b.lease(int64(owner), false) }

// intercept forgets each lease that has ended.
func (b *board) intercept(ctx context.Context, method string, request, answer any,
	conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	err := invoke(ctx, method, request, answer, conn, options...)
	if revoke, ok := request.(*pb.LeaseRevokeRequest); ok && err == nil {
		b.lease(revoke.ID, true)
	}
	return err
}
