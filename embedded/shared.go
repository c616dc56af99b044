package embedded

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"go.uber.org/zap"
)

const (
	// hostRetry is how often a process looks whether the host has ended.
	hostRetry = 200 * time.Millisecond
	// openRetry is the same, and whether the host serves, on opening.
	openRetry = 20 * time.Millisecond
	// failedRetry is how long to wait after a take-over that has failed.
	failedRetry = time.Second
	// A host that was killed may lose its lock a moment before its port.
	portRetry, portTimeout = 20 * time.Millisecond, 500 * time.Millisecond
)

// Shared is an etcd that this process shares with others, hosted by one of
// them. Its methods may be called by any goroutine at any time.
type Shared struct {
	cfg     Config
	data    *folder
	tls     *tls.Config
	host    *flock.Flock
	serving *flock.Flock
	hosting atomic.Bool

	etcd  *etcd // nil unless we host it; run's alone once Open has returned
	done  chan struct{}
	close func() error
}

// Open joins the processes of this user that share the etcd at cfg.Port, which
// must not be 0, and returns when it serves: hosted by another of them, or by
// this one if no other does. An error leaves nothing running. ctx bounds only
// the opening.
//
// From then on, whenever the host has ended, one of the others takes over. If
// that fails, because some other program got hold of the port for example,
// they go on trying, and use nothing else in its place.
//
// To open twice in one process is as good as in two.
func Open(ctx context.Context, cfg Config) (*Shared, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if cfg.Port == 0 {
		return nil, errors.New("embedded: Port 0: a shared etcd needs a port that all its users know, such as 2379")
	}
	data, err := share(ctx, cfg.Dir, cfg.Port)
	if err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	secured, err := tlsOf(data.identity)
	if err != nil {
		return nil, fmt.Errorf("embedded: %w", errors.Join(err, data.leave()))
	}
	s := &Shared{
		cfg:     cfg,
		tls:     secured,
		data:    data,
		host:    flock.New(data.file(hostFile)),
		serving: flock.New(data.file(servingFile)),
		done:    make(chan struct{}),
	}
	if err := s.open(ctx); err != nil {
		return nil, fmt.Errorf("embedded: %w", errors.Join(err, data.leave()))
	}
	life, end := context.WithCancel(context.Background())
	s.close = sync.OnceValue(func() error {
		end()
		<-s.done
		defer s.cfg.Logger.Sync() // a log that is written too slowly is no failure to close
		if err := data.leave(); err != nil {
			return fmt.Errorf("embedded: %w", err)
		}
		return nil
	})
	go s.run(life)
	return s, nil
}

// Endpoint returns the URL for clients: https://127.0.0.1:PORT. It stays the
// same, whichever process hosts the etcd.
func (s *Shared) Endpoint() string {
	return "https://" + net.JoinHostPort(loopback, strconv.Itoa(s.cfg.Port))
}

// TLS returns what clients need: as the TLS of a libcluster.EtcdConfig, or of a
// clientv3.Config. It serves no other etcd, and nobody is served without it.
func (s *Shared) TLS() *tls.Config { return s.tls.Clone() }

// Hosting reports whether this process hosts the etcd now.
func (s *Shared) Hosting() bool { return s.hosting.Load() }

// Close leaves those who share the etcd. If this process hosts it, it is
// stopped as [Server.Close] does, and another takes over. Closing twice is
// closing once.
//
// An error says that the temporary folder, which the last one to close
// removes, could not be removed.
func (s *Shared) Close() error { return s.close() }

// open returns when the etcd serves, whichever process hosts it.
func (s *Shared) open(ctx context.Context) error {
	for {
		if err := s.tryHost(ctx); s.etcd != nil || err != nil {
			return err
		}
		if served, err := s.data.served(); served || err != nil {
			return err
		}
		select {
		case <-time.After(openRetry):
		case <-ctx.Done():
			return fmt.Errorf("another process hosts the etcd with its data in %s and does not serve: %w",
				s.data.dir, context.Cause(ctx))
		}
	}
}

// run hosts the etcd, or waits to, until ctx ends.
func (s *Shared) run(ctx context.Context) {
	defer close(s.done)
	var failure string
	for {
		if s.etcd != nil {
			s.hostOn(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		wait := hostRetry
		if err := s.tryHost(ctx); err != nil {
			wait = failedRetry
			if err.Error() != failure && ctx.Err() == nil {
				failure = err.Error()
				s.cfg.Logger.Error("no etcd: could not take over, trying on", s.fields(zap.Error(err))...)
			}
		}
		if s.etcd != nil {
			failure = ""
			continue
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// hostOn hosts the etcd until ctx ends, or until it ends by itself.
func (s *Shared) hostOn(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-s.etcd.served:
		s.cfg.Logger.Error("the etcd has lost its port, starting it anew", s.fields()...)
	case <-s.etcd.server.Server.StopNotify():
		s.cfg.Logger.Error("the etcd has stopped by itself, starting it anew", s.fields()...)
	}
	s.hosting.Store(false)
	// In this order: what is not locked any more is not there any more, and
	// nobody opens what is about to stop.
	err := s.serving.Unlock()
	s.etcd.stop()
	s.etcd = nil
	if err := errors.Join(err, s.host.Unlock()); err != nil {
		s.cfg.Logger.Error("could not give up hosting the etcd", s.fields(zap.Error(err))...)
	}
}

// tryHost starts the etcd, which s.etcd is then, unless somebody else hosts it.
func (s *Shared) tryHost(ctx context.Context) error {
	ours, err := s.host.TryLock()
	if err != nil {
		return fmt.Errorf("lock data folder %s: %w", s.data.dir, err)
	}
	if !ours {
		return nil
	}
	e, err := s.start(ctx)
	if err == nil {
		// Others lock it for an instant, to see whether they can.
		_, err = s.serving.TryLockContext(ctx, time.Millisecond)
		if err != nil {
			e.stop()
		}
	}
	if err != nil {
		return errors.Join(err, s.host.Unlock())
	}
	s.etcd = e
	s.hosting.Store(true)
	s.cfg.Logger.Info("hosting the etcd", s.fields()...)
	return nil
}

// start starts the etcd, and is patient with the port.
func (s *Shared) start(ctx context.Context) (*etcd, error) {
	deadline := time.Now().Add(portTimeout)
	for {
		l, err := listen(ctx, s.cfg.Port)
		if err == nil {
			return serve(ctx, s.cfg, s.data.dir, l, s.tls)
		}
		if time.Now().After(deadline) {
			return nil, err
		}
		select {
		case <-time.After(portRetry):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

func (s *Shared) fields(more ...zap.Field) []zap.Field {
	return append([]zap.Field{zap.String("endpoint", s.Endpoint()), zap.String("folder", s.data.dir)}, more...)
}
