package libclustertest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/chance"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/kv/kvtest"
)

// Registry is a [libcluster.Registry] on a store in memory, with faults. Make one with
// [New]. Its methods may be called at any time by any goroutine, also by an interceptor.
type Registry struct {
	store *kvtest.Memory
	epoch atomic.Int64 // grows when the store goes back or drops its history

	mu        sync.Mutex          // guards what follows; nobody waits while holding it
	spaces    map[string]kv.Space // of each cluster that was used, as strangers have it
	stolen    kv.Owner            // the latest that a stranger has drawn
	granted   time.Duration
	cut       map[string]chan struct{} // by instance; closed when it is healed
	allCut    chan struct{}            // the same for everybody
	intercept func(context.Context, Call) error
	counts    Counts
	seeded    bool // seed is set
	seed      uint64
}

// New returns an empty registry.
func New() *Registry {
	return &Registry{
		store:  kvtest.NewMemory(),
		spaces: make(map[string]kv.Space),
		cut:    make(map[string]chan struct{}),
	}
}

// Seed has the instances that are made from now on draw what they leave to chance, such
// as how long to wait after a failure, from one seed. In the same order of events they
// then do the same.
func (r *Registry) Seed(seed uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seeded, r.seed = true, seed
}

// Chance is called by libcluster.
func (r *Registry) Chance(instance string) *chance.Source {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.seeded {
		return nil
	}
	r.seed++ // two instances may have one ID after each other
	return chance.New(r.seed, instance)
}

// String returns "memory".
func (r *Registry) String() string { return "memory" }

// Join records the member under a new lease, or for a passive instance only
// opens a session. It grants the TTL that is asked for unless [Registry.GrantTTL]
// says otherwise.
//
// Of an attempt to join what changes something is intercepted: [OpOpen] begins the lease,
// [OpJoin] writes the record and lists the members. What it reads before is not.
func (r *Registry) Join(ctx context.Context, reg libcluster.Registration) (libcluster.Session, time.Duration, error) {
	if reg.Logger == nil {
		reg.Logger = zap.NewNop()
	}
	if reg.TTL == 0 {
		reg.TTL = libcluster.DefaultTTL
	}
	if previous, ok := reg.Previous.(*session); ok {
		reg.Previous = previous.all
	}
	l := &line{
		r: r, call: Call{Cluster: reg.Cluster(), ID: reg.Member.ID},
		plan: reg.Mode != libcluster.ModeDirect, passive: reg.Passive,
	}
	l.joining.Store(true)
	if err := r.pass(ctx, l.call.ID); err != nil {
		return nil, 0, err
	}
	opened, ttl, err := libcluster.OnStore(l).Join(ctx, reg)
	if err != nil {
		return nil, 0, err
	}
	l.joining.Store(false)
	s := &session{
		registry: r, call: l.call, all: opened.(everything), line: l, hearing: make(turn, 1), surveying: make(turn, 1),
	}
	s.life, s.end = context.WithCancelCause(context.Background())
	return s, ttl, nil
}

// everything is what a session on a store can do.
type everything interface {
	libcluster.Session
	libcluster.Returner
	libcluster.Looker
	libcluster.Planner
}

var errClosed = errors.New("libclustertest: the session is closed")
