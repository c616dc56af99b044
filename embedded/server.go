package embedded

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Server is an etcd that this process runs. Its methods may be called by any
// goroutine at any time.
type Server struct {
	etcd  *etcd
	close func() error
}

// Start runs an etcd on loopback and returns when it serves, or with an error,
// and then nothing is left running. ctx bounds only the start.
//
// It fails at once if the port or the data folder is in use.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	data, err := claim(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	e, err := listenAndServe(ctx, cfg, data.dir)
	if err != nil {
		return nil, fmt.Errorf("embedded: %w", errors.Join(err, data.leave()))
	}
	return &Server{
		etcd: e,
		close: sync.OnceValue(func() error {
			e.stop()
			defer cfg.Logger.Sync() // a log that is written too slowly is no failure to close
			if err := data.leave(); err != nil {
				return fmt.Errorf("embedded: %w", err)
			}
			return nil
		}),
	}, nil
}

// Endpoint returns the URL for clients: http://127.0.0.1:PORT.
func (s *Server) Endpoint() string { return s.etcd.endpoint }

// Close stops the etcd and returns when nothing of it is left: its port is
// free, its goroutines have ended, a temporary data folder is removed. It does
// not wait for clients; their requests fail. Closing twice is closing once.
//
// An error says that the temporary folder could not be removed.
func (s *Server) Close() error { return s.close() }
