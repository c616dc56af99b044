package registrytest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
)

const (
	// longTTL is asked for where nothing must expire.
	longTTL = 10 * time.Minute

	// soon is how long a call may take in virtual time to return after its context
	// has ended.
	soon = 2 * time.Second
)

// suite is one test's registry.
type suite struct {
	*testing.T
	h        Harness
	registry libcluster.Registry
	key      string
	mode     libcluster.Mode // of those who join
}

// within returns a context for what must happen.
func (s *suite) within() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), s.h.Patience)
	s.Cleanup(cancel)
	return ctx
}

// briefly returns a context for a call that has nothing to do.
func (s *suite) briefly() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), s.h.Quiet)
	s.Cleanup(cancel)
	return ctx
}

// asked is what an instance asks for when it joins.
type asked struct {
	libcluster.Registration
	membership libcluster.Membership // nil: a new one
}

// option changes that.
type option func(*asked)

func workers(n int) option       { return func(a *asked) { a.Member.Workers = n } }
func passive() option            { return func(a *asked) { a.Passive = true } }
func ttl(d time.Duration) option { return func(a *asked) { a.TTL = d } }

// after is for an instance that rejoins, having lost or closed another session.
func after(previous *instance) option {
	return func(a *asked) { a.membership = previous.reg.membership }
}

func in(partition, env string) option {
	return func(a *asked) { a.Partition, a.Env = partition, env }
}

// asks is for an instance with one worker, unless options say more.
func (s *suite) asks(id string, options ...option) asked {
	a := asked{Registration: libcluster.Registration{
		Key: s.key, Env: "production", Mode: s.mode, TTL: longTTL, Logger: zap.NewNop(),
		Member: libcluster.Member{ID: id, Workers: 1},
	}}
	for _, o := range options {
		o(&a)
	}
	return a
}

// join asks the registry.
func (a *asked) join(ctx context.Context, registry libcluster.Registry) (libcluster.Session, time.Duration, error) {
	if a.membership == nil {
		var err error
		if a.membership, err = registry.Enter(a.Registration); err != nil {
			return nil, 0, err
		}
	}
	return a.membership.Join(ctx, a.Member)
}

// cluster is the name of the cluster that instances join by default.
func (s *suite) cluster() string { return s.asks("").Cluster() }

// instance is one session and what it has been told.
type instance struct {
	*suite
	reg     asked
	session libcluster.Session
	granted time.Duration
	left    atomic.Bool // by leave or close

	members    map[string]libcluster.Member
	orphans    map[string]bool // of each member whether it is one
	generation int64
	changes    int
	// history has one entry for each event that told something: "b=2" when b
	// appeared or changed, "b gone" when it went. Of a list, only what differs
	// from what was known: a registry may send one again at any time.
	history []string
}

// join joins, and leaves when the test ends.
func (s *suite) join(id string, options ...option) *instance {
	s.Helper()
	i, err := s.tryJoin(id, options...)
	require.NoError(s, err, "Join of %q", id)
	return i
}

// tryJoin is join for goroutines that may not fail the test.
func (s *suite) tryJoin(id string, options ...option) (*instance, error) {
	i := &instance{suite: s, reg: s.asks(id, options...), members: map[string]libcluster.Member{}, orphans: map[string]bool{}}
	var err error
	i.session, i.granted, err = i.reg.join(s.within(), s.registry)
	if err != nil {
		return nil, err
	}
	s.Cleanup(func() {
		if i.left.Load() {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), s.h.soon)
		defer cancel()
		_ = i.session.Leave(ctx, libcluster.Departure{}) // the test may have lost or closed it
	})
	return i, nil
}

// leave leaves, which must work.
func (i *instance) leave() {
	i.Helper()
	require.NoError(i, i.tryLeave(), "Leave of %q", i.reg.Member.ID)
}

// tryLeave is leave for goroutines that may not fail the test.
func (i *instance) tryLeave() error {
	i.left.Store(true)
	return i.session.Leave(i.within(), libcluster.Departure{})
}

// close closes the session, which must work.
func (i *instance) close() {
	i.Helper()
	i.left.Store(true)
	require.NoError(i, i.session.Close(), "Close of %q", i.reg.Member.ID)
}

// update publishes another worker count, which must work.
func (i *instance) update(n int) {
	i.Helper()
	require.NoError(i, i.session.Update(i.within(), i.with(n)), "Update of %q to %d workers", i.reg.Member.ID, n)
}

// with is the instance's member with another worker count.
func (i *instance) with(n int) libcluster.Member {
	m := i.reg.Member
	m.Workers = n
	return m
}

// change calls the session's Next, and calls it again as long as the session does not
// know, unless that has been ended.
func (i *instance) change(ctx context.Context) (libcluster.Change, error) {
	for {
		change, err := i.session.Next(ctx)
		if err == nil || ctx.Err() != nil || isFinal(err) || i.left.Load() {
			return change, err
		}
		select {
		case <-time.After(nextAgain):
		case <-ctx.Done():
			return change, errors.Join(ctx.Err(), err)
		}
	}
}

// nextAgain is how long to wait before Next is called again.
const nextAgain = 10 * time.Millisecond

// isFinal reports whether err says that the session is over.
func isFinal(err error) bool {
	return errors.Is(err, libcluster.ErrRecordGone) || errors.Is(err, libcluster.ErrInstanceTaken) || errors.Is(err, libcluster.ErrDrained) ||
		errors.Is(err, libcluster.ErrRegistryReset)
}

// next waits for one change and takes it in.
func (i *instance) next(ctx context.Context) error {
	change, err := i.change(ctx)
	if err != nil {
		return err
	}
	return i.take(change)
}

// take applies a change, and says what is wrong with it.
func (i *instance) take(change libcluster.Change) error {
	first := i.changes == 0
	i.changes++
	switch {
	case first && !change.Reset:
		return fmt.Errorf("the first change must have Reset: it is the list of all members; got %+v", change)
	case change.Generation < i.generation:
		return fmt.Errorf("the generation must not shrink: it was %d, got %d", i.generation, change.Generation)
	case i.h.has(order) && !change.Reset && len(change.Events) > 0 && change.Generation == i.generation:
		return fmt.Errorf("the generation must grow with events: it was %d already, got %+v", i.generation, change)
	}
	i.generation = change.Generation
	events := change.Events
	if change.Reset {
		if slices.ContainsFunc(events, func(e libcluster.Event) bool { return e.Gone }) {
			return fmt.Errorf("a list must hold members only, not those that are gone; got %+v", change)
		}
		events = i.news(events)
	}
	i.members = maps.Clone(i.members)
	for _, e := range events {
		i.apply(e)
	}
	return nil
}

// news returns the events that make the known members those of the list.
func (i *instance) news(list []libcluster.Event) []libcluster.Event {
	var events []libcluster.Event
	listed := map[string]bool{}
	for _, e := range list {
		id := e.Member.ID
		listed[id] = true
		if known, ok := i.members[id]; !ok || i.orphans[id] != e.Orphan || !reflect.DeepEqual(known, e.Member) {
			events = append(events, e)
		}
	}
	for id, known := range i.members {
		if !listed[id] {
			events = append(events, libcluster.Event{Member: known, Gone: true})
		}
	}
	return events
}

func (i *instance) apply(e libcluster.Event) {
	id := e.Member.ID
	if !e.Gone {
		i.members[id], i.orphans[id] = e.Member, e.Orphan
		i.history = append(i.history, fmt.Sprintf("%s=%d", id, e.Member.Workers))
		return
	}
	if _, was := i.members[id]; was {
		delete(i.members, id)
		delete(i.orphans, id)
		i.history = append(i.history, id+" gone")
	}
}

// until takes in changes until the members are as wanted.
func (i *instance) until(want string, ok func() bool) {
	i.Helper()
	ctx := i.within()
	for !ok() {
		if err := i.next(ctx); err != nil {
			require.FailNow(i, "the members did not become what was expected",
				"%q expected %s, but: %v\nmembers: %s\nhistory: %s",
				i.reg.Member.ID, want, err, i.seen(), strings.Join(i.history, ", "))
		}
	}
}

// sees waits until the members and their worker counts are these, "a=1 b=2".
func (i *instance) sees(want string) {
	i.Helper()
	i.until("the members "+want, func() bool { return i.changes > 0 && i.seen() == want })
}

// seen is what the instance has been told, sorted, as sees takes it.
func (i *instance) seen() string {
	ids := slices.Sorted(maps.Keys(i.members))
	for n, id := range ids {
		ids[n] = fmt.Sprintf("%s=%d", id, i.members[id].Workers)
	}
	return strings.Join(ids, " ")
}

// staysQuiet fails if the members change within the time that the harness has
// for it.
func (i *instance) staysQuiet(why string) {
	i.Helper()
	i.staysQuietFor(i.h.Quiet, why)
}

func (i *instance) staysQuietFor(d time.Duration, why string) {
	i.Helper()
	require.NoError(i, i.quietFor(d), "%q while nothing happens: %s", i.reg.Member.ID, why)
}

// quietFor returns what there was instead of quiet.
func (i *instance) quietFor(d time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	for before, history := i.seen(), len(i.history); ; {
		switch err := i.next(ctx); {
		case errors.Is(err, context.DeadlineExceeded):
			return nil
		case err != nil:
			return fmt.Errorf("Next has ended: %w", err)
		case i.seen() != before || len(i.history) != history:
			return fmt.Errorf("the members were %q and are %q: %q", before, i.seen(), i.history[history:])
		}
	}
}

// lost waits until Next returns an error of its own, which must be want, and
// holds the other calls to it.
func (i *instance) lost(want error) {
	i.Helper()
	ctx := i.within()
	err := i.next(ctx)
	for err == nil {
		err = i.next(ctx)
	}
	require.ErrorIs(i, err, want, "Next of %q, whose record is lost", i.reg.Member.ID)
	_, err = i.session.Renew(i.within())
	require.ErrorIs(i, err, want, "Renew of %q, whose record is lost", i.reg.Member.ID)
	err = i.session.Update(i.within(), i.with(7))
	require.ErrorIs(i, err, want, "Update of %q, whose record is lost", i.reg.Member.ID)
}

// ended reports whether err is what a call returns whose context has ended.
func ended(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
