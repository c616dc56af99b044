package libclustertest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

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
	spaces    map[string]kv.Space // of each cluster that was used, as another program would have it
	stolen    kv.Owner            // the latest that was drawn here, for another program
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

// Capabilities are all there are.
func (r *Registry) Capabilities() libcluster.Capabilities {
	return libcluster.OnStore(r.store).Capabilities()
}

// Enter begins a membership.
func (r *Registry) Enter(reg libcluster.Registration) (libcluster.Membership, error) {
	if reg.TTL == 0 {
		reg.TTL = libcluster.DefaultTTL
	}
	m := &membership{registry: r, reg: reg}
	var err error
	m.Membership, err = libcluster.OnStore(m).Enter(reg)
	return m, err
}

// membership is one instance's membership. It is the store of its sessions, each of which
// has a line of its own.
type membership struct {
	registry *Registry
	reg      libcluster.Registration
	line     *line // of the attempt to join that is under way
	libcluster.Membership
}

// Open is called by the attempt to join.
func (m *membership) Open(_ context.Context, space string) (kv.Space, error) {
	m.line = &line{
		Space: m.registry.space(space), r: m.registry, call: Call{Cluster: m.reg.Cluster(), ID: m.reg.Member.ID},
		plan: m.reg.Mode != libcluster.ModeDirect, passive: m.reg.Passive,
	}
	m.line.joining.Store(true)
	return m.line, nil
}

// Join records the member under a new lease, or for a passive instance only
// opens a session. It grants the TTL that is asked for unless [Registry.GrantTTL]
// says otherwise.
//
// Of an attempt to join what changes something is intercepted: [OpOpen] begins the lease,
// [OpJoin] writes the record and lists the members. What it reads before is not.
func (m *membership) Join(ctx context.Context, own libcluster.Member) (libcluster.Session, time.Duration, error) {
	r := m.registry
	if err := r.pass(ctx, own.ID); err != nil {
		return nil, 0, err
	}
	opened, ttl, err := m.Membership.Join(ctx, own)
	if err != nil {
		return nil, 0, err
	}
	m.line.joining.Store(false)
	s := &session{
		Planner: opened.(libcluster.Planner), registry: r, call: m.line.call, line: m.line,
		hearing: make(turn, 1), surveying: make(turn, 1),
	}
	s.life, s.end = context.WithCancelCause(context.Background())
	return s, ttl, nil
}

var errClosed = errors.New("libclustertest: the session is closed")
