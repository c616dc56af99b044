package kvtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/kv"
)

// mutant is a store that does one thing wrong, and the claims that must not hold of it.
type mutant struct {
	name   string
	claims []string
	alter  func(a *altered)
	space  func(name string) string // what it takes a space's name for
	spaces func(names []string) ([]string, error)
}

// altered is a space of a mutant. What is nil is as it was.
type altered struct {
	kv.Space
	store *mutated
	name  string

	begin  func(ctx context.Context, owner kv.Owner, ttl time.Duration) (time.Duration, error)
	renew  func(ctx context.Context, owner kv.Owner) (time.Duration, error)
	end    func(ctx context.Context, owner kv.Owner) error
	get    func(ctx context.Context, key string) (kv.Record, kv.Mark, error)
	list   func(ctx context.Context, prefix string) ([]kv.Record, kv.Mark, error)
	lists  func(ctx context.Context, prefix string, each func(kv.Record) error) (kv.Mark, error) // or like this
	commit func(ctx context.Context, tx kv.Tx) (kv.Result, error)
	watch  func(ctx context.Context, prefix string, after int64) (kv.Watch, error)
	next   func(ctx context.Context, w kv.Watch, n int) (kv.Changes, error) // for the nth time
	close  func() error
}

func (a *altered) Begin(ctx context.Context, owner kv.Owner, ttl time.Duration) (time.Duration, error) {
	if a.begin == nil {
		return a.Space.Begin(ctx, owner, ttl)
	}
	return a.begin(ctx, owner, ttl)
}

func (a *altered) Renew(ctx context.Context, owner kv.Owner) (time.Duration, error) {
	if a.renew == nil {
		return a.Space.Renew(ctx, owner)
	}
	return a.renew(ctx, owner)
}

func (a *altered) End(ctx context.Context, owner kv.Owner) error {
	if a.end == nil {
		return a.Space.End(ctx, owner)
	}
	return a.end(ctx, owner)
}

func (a *altered) Get(ctx context.Context, key string) (kv.Record, kv.Mark, error) {
	if a.get == nil {
		return a.Space.Get(ctx, key)
	}
	return a.get(ctx, key)
}

func (a *altered) List(ctx context.Context, prefix string, each func(kv.Record) error) (kv.Mark, error) {
	switch {
	case a.lists != nil:
		return a.lists(ctx, prefix, each)
	case a.list == nil:
		return a.Space.List(ctx, prefix, each)
	}
	records, mark, err := a.list(ctx, prefix)
	if err != nil {
		return mark, err
	}
	return mark, hand(records, each)
}

func (a *altered) Commit(ctx context.Context, tx kv.Tx) (kv.Result, error) {
	if a.commit == nil {
		return a.Space.Commit(ctx, tx)
	}
	return a.commit(ctx, tx)
}

func (a *altered) Watch(ctx context.Context, prefix string, after int64) (w kv.Watch, err error) {
	if a.watch == nil {
		w, err = a.Space.Watch(ctx, prefix, after)
	} else {
		w, err = a.watch(ctx, prefix, after)
	}
	if err != nil || a.next == nil {
		return w, err
	}
	return &alteredWatch{Watch: w, a: a}, nil
}

func (a *altered) Close() error {
	if a.close == nil {
		return a.Space.Close()
	}
	return a.close()
}

type alteredWatch struct {
	kv.Watch
	a *altered
	n int
}

func (w *alteredWatch) Next(ctx context.Context) (kv.Changes, error) {
	w.n++
	return w.a.next(ctx, w.Watch, w.n)
}

// watchFunc is a watch whose Next is a function.
type watchFunc struct {
	next  func(ctx context.Context) (kv.Changes, error)
	close func()
}

func (w watchFunc) Next(ctx context.Context) (kv.Changes, error) { return w.next(ctx) }
func (w watchFunc) Close()                                       { w.close() }

// mutated is the store of a mutant.
type mutated struct {
	*Memory
	mutant mutant

	mu     sync.Mutex
	opened []kv.Space
	memory map[string][]int64 // what a mutant has to remember
}

func (m *mutated) Open(ctx context.Context, name string) (kv.Space, error) {
	if m.mutant.space != nil {
		name = m.mutant.space(name)
	}
	s, err := m.Memory.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opened = append(m.opened, s)
	a := &altered{Space: s, store: m, name: name}
	if m.mutant.alter != nil {
		m.mutant.alter(a)
	}
	return a, nil
}

func (m *mutated) Spaces(ctx context.Context) ([]string, error) {
	names, err := m.Memory.Spaces(ctx)
	if err != nil || m.mutant.spaces == nil {
		return names, err
	}
	return m.mutant.spaces(slices.Sorted(slices.Values(names)))
}

func (m *mutated) remember(key string, value int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.memory[key] = append(m.memory[key], value)
}

func (m *mutated) remembers(key string) []int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.memory[key])
}

// inside does something to what the space holds.
func (a *altered) inside(do func(m *Memory, c *contents)) {
	a.store.lock()
	defer a.store.unlock()
	do(a.store.Memory, a.store.contents(a.name))
}

// show has every record be shown as something else.
func (a *altered) show(as func(r kv.Record) kv.Record) {
	all := func(records []kv.Record) []kv.Record {
		for i := range records {
			records[i] = as(records[i])
		}
		return records
	}
	a.get = func(ctx context.Context, key string) (kv.Record, kv.Mark, error) {
		r, mark, err := a.Space.Get(ctx, key)
		return as(r), mark, err
	}
	a.list = func(ctx context.Context, prefix string) ([]kv.Record, kv.Mark, error) {
		records, mark, err := listAll(ctx, a.Space, prefix)
		return all(records), mark, err
	}
	a.commit = func(ctx context.Context, tx kv.Tx) (kv.Result, error) {
		if each := tx.Each; each != nil {
			tx.Each = func(r kv.Record) error { return each(as(r)) }
		}
		result, err := a.Space.Commit(ctx, tx)
		all(result.Records)
		return result, err
	}
	a.next = func(ctx context.Context, w kv.Watch, _ int) (kv.Changes, error) {
		changes, err := w.Next(ctx)
		for i := range changes.Records {
			changes.Records[i].Record = as(changes.Records[i].Record)
		}
		return changes, err
	}
}

// keys has every transaction be about other keys.
func (a *altered) keys(as func(key string) string) {
	a.commit = func(ctx context.Context, tx kv.Tx) (kv.Result, error) {
		tx.If, tx.Put, tx.Delete = slices.Clone(tx.If), slices.Clone(tx.Put), slices.Clone(tx.Delete)
		for i := range tx.If {
			tx.If[i].Key = as(tx.If[i].Key)
		}
		for i := range tx.Put {
			tx.Put[i].Key = as(tx.Put[i].Key)
		}
		for i := range tx.Delete {
			tx.Delete[i] = as(tx.Delete[i])
		}
		return a.Space.Commit(ctx, tx)
	}
}

// unless leaves out the conditions of one kind.
func unless(conditions []kv.Cond, owned bool) []kv.Cond {
	return slices.DeleteFunc(slices.Clone(conditions), func(c kv.Cond) bool { return c.Owned == owned })
}

// like is what a database may take a prefix for.
func like(prefix, key string) bool {
	pattern := strings.NewReplacer("%", ".*", "_", ".").Replace(regexp.QuoteMeta(prefix))
	return regexp.MustCompile("(?s)^" + pattern).MatchString(key)
}

// trial is a judge that the test goes on after.
type trial struct {
	mu       sync.Mutex
	failures []string
	cleanups []func()
}

func (j *trial) Helper()             {}
func (j *trial) Logf(string, ...any) {}
func (j *trial) FailNow()            { runtime.Goexit() }

func (j *trial) Errorf(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failures = append(j.failures, fmt.Sprintf(format, args...))
}

func (j *trial) Cleanup(f func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.cleanups = append(j.cleanups, f)
}

// try returns what a claim has against a mutant.
func try(t *testing.T, c claim, m mutant) []string {
	j := &trial{}
	synctest.Test(t, func(*testing.T) {
		store := &mutated{Memory: NewMemory(), mutant: m, memory: make(map[string][]int64)}
		s := newSuite(j, inBubbles().withDefaults(), store)
		s.forget = func() { store.Forget(s.space) }
		over := make(chan struct{})
		go func() {
			defer close(over)
			c.test(s)
		}()
		<-over
		for _, cleanup := range slices.Backward(j.cleanups) {
			cleanup()
		}
		for _, opened := range store.opened { // the mutant's Close may have done nothing
			opened.Close()
		}
		time.Sleep(time.Hour) // until the mutant's last call has returned
	})
	return j.failures
}

func TestClaimsFindMutants(t *testing.T) {
	t.Parallel()
	byName := make(map[string]claim)
	for _, c := range claims {
		byName[c.name] = c
	}
	found := make(map[string]bool)
	for _, m := range slices.Concat(mutants, eachMutants, watchMutants) {
		require.NotEmpty(t, m.claims, m.name)
		for _, name := range m.claims {
			require.Contains(t, byName, name)
			found[name] = true
			t.Run(strings.ReplaceAll(m.name, " ", "_")+"/"+name, func(t *testing.T) {
				t.Parallel()
				failures := try(t, byName[name], m)
				assert.NotEmpty(t, failures, "%s, and the claim holds", m.name)
				for _, failure := range failures {
					t.Logf("%.300s", failure)
				}
			})
		}
	}
	require.ElementsMatch(t, slices.Collect(maps.Keys(byName)), slices.Collect(maps.Keys(found)), "each claim finds something")
}

func TestClaimsHoldOfAMutantThatIsNone(t *testing.T) {
	t.Parallel()
	for _, c := range claims {
		require.Empty(t, try(t, c, mutant{alter: func(a *altered) {
			a.show(func(r kv.Record) kv.Record { return r })
		}}), c.name)
	}
}

func ended(err error) bool { return errors.Is(err, kv.ErrEnded) }
