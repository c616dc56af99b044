package embedded

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/libcluster/libcluster/internal/etcdserver"
)

const (
	// startTimeout bounds each start, for a context that has no deadline. A
	// start takes well under a second.
	startTimeout = time.Minute

	// An etcd without others to hear from elects itself after one to two of
	// its election timeouts, most of which it skips: at half a second, half of
	// etcd's default, it serves after 0.2 to 0.6 s, and grants leases from 1 s.
	tick, election         = 100 * time.Millisecond, 500 * time.Millisecond
	fastTick, fastElection = 10 * time.Millisecond, 100 * time.Millisecond

	// Members are small, and what was overwritten an hour ago is discarded.
	quota      = 512 << 20
	compaction = "1h"
)

// etcd is a running one.
//
// The listener and the gRPC server are ours and not those of package embed,
// which would wait 7 s on closing for clients that watch, without end for a
// connection on which nothing was ever sent, and could not take a port that is
// already known to be free.
type etcd struct {
	endpoint string
	server   *embed.Etcd
	grpc     *grpc.Server
	logs     zap.AtomicLevel
	served   chan struct{} // closed when grpc accepts no more
}

// listenAndServe runs an etcd on the port of cfg with its data in dir, and
// returns when it is ready for clients.
func listenAndServe(ctx context.Context, cfg Config, dir string) (*etcd, error) {
	l, err := listen(ctx, cfg.Port)
	if err != nil {
		return nil, err
	}
	return serve(ctx, cfg, dir, l, nil)
}

// serve runs an etcd with its data in dir, for the clients that connect to l,
// and returns when it is ready for them. It closes l if it fails. secured is nil for
// one without TLS.
func serve(ctx context.Context, cfg Config, dir string, l net.Listener, secured *tls.Config) (_ *etcd, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	defer func() {
		if err != nil {
			l.Close()
			_ = cfg.Logger.Sync() // it may say more
			err = fmt.Errorf("start an etcd with its data in %s: %w", dir, err)
		}
	}()
	endpoint := url.URL{Scheme: "http", Host: l.Addr().String()}
	if secured != nil {
		endpoint.Scheme = "https"
	}
	logger, level := etcdserver.Logger(cfg.Logger, func(why string) { panic("embedded: etcd cannot go on: " + why) })
	config := etcdConfig(cfg, dir, endpoint, logger)
	if err := beginNew(dir); err != nil {
		return nil, err
	}
	server, err := etcdserver.Start(ctx, config)
	if err != nil {
		return nil, err
	}
	select {
	case <-server.Server.ReadyNotify():
	case <-server.Server.StopNotify():
		err = errors.New("it has stopped; its log says why")
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err == nil {
		err = etcdserver.Serves(dir)
	}
	if err != nil {
		server.Close()
		return nil, err
	}
	e := &etcd{
		endpoint: endpoint.String(),
		server:   server,
		logs:     level,
		served:   make(chan struct{}),
		grpc: v3rpc.Server(server.Server, secured, nil,
			// As package embed has it. Without the first, clients would be cut
			// off that look every 10 s whether the server is still there.
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: config.GRPCKeepAliveMinTime}),
			grpc.KeepaliveParams(keepalive.ServerParameters{
				Time: config.GRPCKeepAliveInterval, Timeout: config.GRPCKeepAliveTimeout,
			}),
			// No request is still at work on an etcd that is being closed.
			grpc.WaitForHandlers(true),
		),
	}
	go func() {
		defer close(e.served)
		_ = e.grpc.Serve(l) // nil after Stop, else the listener is gone
	}()
	return e, nil
}

// stop ends it, and returns when nothing of it is left.
func (e *etcd) stop() {
	e.grpc.Stop() // and with it the listener, and so all connections
	<-e.served
	// On stopping it complains that it cannot go on with this and that.
	e.logs.SetLevel(zap.FatalLevel)
	e.server.Close()
}

func etcdConfig(cfg Config, dir string, endpoint url.URL, logger *zap.Logger) *embed.Config {
	c := embed.NewConfig()
	c.Name = "libcluster"
	c.Dir = dir

	// No listener of its own. The peers' URL is one that nobody can connect to
	// and that never changes, as it is kept with the data.
	c.ListenClientUrls, c.ListenPeerUrls = nil, nil
	c.AdvertiseClientUrls = []url.URL{endpoint}
	c.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: net.JoinHostPort(loopback, "0")}}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.EnableGRPCGateway = false

	ticks, elections := tick, election
	if cfg.Fast {
		ticks, elections = fastTick, fastElection
		c.UnsafeNoFsync = true
		c.BcryptCost = 4 // the least: a log-in takes a millisecond, not fifty
	}
	c.TickMs, c.ElectionMs = uint(ticks.Milliseconds()), uint(elections.Milliseconds())

	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModePeriodic, compaction
	c.QuotaBackendBytes = quota

	c.LogLevel = "warn"
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(logger)
	return c
}
