package libclustertest

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/chance"
)

// Registry is a [libcluster.Registry] in memory. Make one with [New]. Its methods
// may be called at any time by any goroutine, also by an interceptor.
type Registry struct {
	mu        sync.Mutex // guards everything below; nobody waits while holding it
	store     store
	alarm     *time.Timer // rings when the next lease expires
	armed     time.Time   // for when alarm is set; zero: it is not
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
		store: store{clusters: make(map[string]*cluster)},
		cut:   make(map[string]chan struct{}),
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

// lock takes the mutex and brings the store up to now, so that nobody ever sees
// a lease whose time has passed, whether or not the alarm has been served yet.
func (r *Registry) lock() {
	r.mu.Lock()
	r.store.expire(time.Now())
}

func (r *Registry) unlock() {
	r.arm()
	r.mu.Unlock()
}

// arm sets the alarm for the lease that expires next. One alarm serves all
// leases: those of one instant then expire in the order of their numbers.
func (r *Registry) arm() {
	next, ok := r.store.nextExpiry()
	if !ok || next.Equal(r.armed) {
		return // one alarm too many finds nothing to do
	}
	r.armed = next
	if r.alarm == nil {
		r.alarm = time.AfterFunc(time.Until(next), r.ring)
	} else {
		r.alarm.Reset(time.Until(next))
	}
}

func (r *Registry) ring() {
	r.mu.Lock()
	r.armed = time.Time{}
	r.store.expire(time.Now())
	r.unlock()
}

// Join records the member under a new lease, or for a passive instance only
// opens a session. It grants the TTL that is asked for unless [Registry.GrantTTL]
// says otherwise.
func (r *Registry) Join(ctx context.Context, reg libcluster.Registration) (libcluster.Session, time.Duration, error) {
	s := &session{
		stay:     reg.Stay,
		registry: r,
		cluster:  reg.Cluster(),
		id:       reg.Member.ID,
		passive:  reg.Passive,
		mode:     reg.Mode,
		log:      reg.Logger,
	}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	if previous, ok := reg.Previous.(*session); ok && s.stay == nil {
		s.stay = previous.stay
	}
	if s.stay == nil {
		s.stay = &libcluster.Stay{}
	}
	r.mu.Lock()
	s.sent = r.store.lastLease
	r.mu.Unlock()
	opened, err := exchange(ctx, r, s.call(OpJoin), func(context.Context) (opening, error) {
		return s.open(reg)
	})
	if err != nil {
		return nil, 0, err
	}
	s.lease, s.listed, s.epoch = opened.lease, &opened.list, opened.epoch
	s.next = opened.list.Generation + 1
	if s.mode != libcluster.ModeDirect {
		s.next = opened.lease.seen + 1
	}
	return s, s.lease.ttl, nil
}

// opening is what a request to join brings back.
type opening struct {
	lease *lease
	list  libcluster.Change
	epoch int
}

// open has the effect of joining. Every time that the request arrives it makes
// another lease, which is what a request that is sent twice would do.
func (s *session) open(reg libcluster.Registration) (opening, error) {
	r := s.registry
	r.lock()
	defer r.unlock()
	c := r.store.cluster(s.cluster)
	ttl := reg.TTL
	if r.granted > 0 {
		ttl = r.granted
	}
	if ttl <= 0 {
		ttl = libcluster.DefaultTTL
	}
	if s.passive {
		r.counts.Reads++
		return opening{&lease{ttl: ttl, seen: s.revisionFor(c)}, s.list(c), c.epoch}, nil
	}
	previous, rejoins := reg.Previous.(*session)
	if rejoins {
		if err := r.store.foreign(c, s.id, previous.lease); err != nil {
			return opening{}, err
		}
	}
	if held := c.records[s.id].lease; !rejoins && held != nil && held.stay != s.stay {
		if err := reg.MayTakeOver(s.everything(c)); err != nil {
			return opening{}, err
		}
	}
	l := r.store.grant(ttl)
	l.stay = s.stay
	if rejoins {
		l.follow(previous.lease)
	}
	// An attempt whose answer was lost is over, too; but not one that was made
	// since this request was sent, which may be late.
	if held := c.records[s.id].lease; held != nil && held.stay == s.stay && held.id <= s.sent {
		l.follow(held)
	}
	r.store.put(c, s.id, string(reg.Member.Record()), l)
	if s.mode == libcluster.ModeExclusive {
		for _, incarnation := range l.before {
			r.store.noteDrained(c, incarnation, libcluster.DrainedForGood, l)
		}
	}
	l.seen = s.revisionFor(c)
	r.counts.Writes++
	r.counts.Reads++
	return opening{l, s.list(c), c.epoch}, nil
}
