package heartbeats_test

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/dirstore"
	"github.com/libcluster/libcluster/heartbeats"
	"github.com/libcluster/libcluster/kv"
)

// ttl is that of instances here: a quarter of it is silence.
const ttl = 8 * time.Second

// company is a cluster in a folder, each of whose instances is like a process of its own.
type company struct {
	testing.TB
	dir     string
	config  heartbeats.Config
	cluster libcluster.Config

	mu    sync.Mutex
	names map[string]string // by the address at which they listen
	cut   func(from, to string) bool
}

func newCompany(t *testing.T, c heartbeats.Config, cluster libcluster.Config) *company {
	c.Bind = loopback.Bind
	cluster.Key, cluster.TTL = "company", ttl
	return &company{TB: t, dir: shm(t), config: c, cluster: cluster, names: map[string]string{}}
}

// instance is one of a company.
type instance struct {
	*libcluster.Cluster
	name    string
	sent    atomic.Int64           // packets, those that were lost too
	noStore *atomic.Bool           // the folder cannot be reached
	logs    *observer.ObservedLogs // of heartbeats
	ended   chan error             // from OnExit

	mu   sync.Mutex
	told []libcluster.State // by all callbacks
}

// instance joins.
func (c *company) instance(name string) *instance {
	c.Helper()
	i := &instance{name: name, noStore: &atomic.Bool{}, ended: make(chan error, 1)}
	config := c.config
	var core zapcore.Core
	core, i.logs = observer.New(zap.InfoLevel)
	config.Logger = zap.New(core)
	store := heartbeats.Beside(severed{dirstore.Dir(c.dir), i.noStore}, config)
	store.Through(func(address string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.names[address] = name
	}, func(to string) bool {
		i.sent.Add(1)
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.cut != nil && c.cut(name, c.names[to])
	})
	cluster := c.cluster
	cluster.ID, cluster.Registry, cluster.Logger = name, libcluster.OnStore(store), zap.NewNop()
	cluster.OnRebalance = func(s libcluster.State) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.told = append(i.told, s)
	}
	cluster.OnExit = func(err error) { i.ended <- err }
	var err error
	i.Cluster, err = libcluster.New(cluster)
	require.NoError(c, err)
	c.Cleanup(func() {
		for _, line := range i.logs.All() {
			c.Log(name, line.Time, line.Message, line.ContextMap())
		}
		i.noStore.Store(false)
		_ = i.Leave(patience(c)) // it may have left
	})
	require.NoError(c, i.Join(patience(c)))
	return i
}

// lose has all packets be lost for which cut is true; nil: none.
func (c *company) lose(cut func(from, to string) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
}

// isolates is what cuts one instance off.
func isolates(name string) func(from, to string) bool {
	return func(from, to string) bool { return from == name || to == name }
}

func everything(string, string) bool { return true }

// until waits for what must come.
func (c *company) until(what string, is func() bool) {
	c.Helper()
	require.Eventually(c, is, watchdog, 5*time.Millisecond, what)
}

// tile waits until the instances divide all between them, and returns the generation.
func (c *company) tile(all ...*instance) (generation int64) {
	c.Helper()
	c.until("they divide all between them", func() bool {
		states := make([]libcluster.State, len(all))
		for n, i := range all {
			states[n] = i.State()
		}
		slices.SortFunc(states, func(a, b libcluster.State) int { return cmp.Compare(a.Index, b.Index) })
		for n, s := range states {
			if s.Index != n || s.Total != len(all) || s.Generation != states[0].Generation {
				return false
			}
		}
		for _, i := range all {
			if last := i.lastTold(); last.Total != len(all) || last.Index != i.State().Index {
				return false // a callback is still to come
			}
		}
		generation = states[0].Generation
		return true
	})
	return generation
}

// hearEachOther waits until all have heard all others.
func (c *company) hearEachOther(all ...*instance) {
	c.Helper()
	c.exchange(3, all...)
}

// exchange waits until each has sent some rounds of packets, lost or not.
func (c *company) exchange(rounds int64, all ...*instance) {
	c.Helper()
	for _, i := range all {
		enough := i.sent.Load() + rounds*int64(len(all)-1)
		c.until("packets are sent", func() bool { return i.sent.Load() >= enough })
	}
}

// says waits until the heartbeats of an instance have logged a message so often.
func (c *company) says(i *instance, message string, times int) {
	c.Helper()
	c.until(message, func() bool { return i.logged(message) >= times })
}

func (i *instance) logged(message string) (n int) {
	for _, e := range i.logs.All() {
		if strings.Contains(e.Message, message) {
			n++
		}
	}
	return n
}

// heard returns the indexes that an instance was told.
func (i *instance) heard() []int {
	i.mu.Lock()
	defer i.mu.Unlock()
	indexes := make([]int, len(i.told))
	for n, s := range i.told {
		indexes[n] = s.Index
	}
	return indexes
}

// lastTold returns the state that an instance was told last.
func (i *instance) lastTold() (last libcluster.State) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.told) > 0 {
		last = i.told[len(i.told)-1]
	}
	return last
}

// idleSince reports whether it has been told of no index since the first n times. That it has none
// it may be told again: the others' total may change.
func (i *instance) idleSince(n int) bool {
	return !slices.ContainsFunc(i.heard()[n:], func(index int) bool { return index != -1 })
}

var errSevered = errors.New("the folder cannot be reached")

// severed is a store that cannot be reached while gone is set.
type severed struct {
	kv.Store
	gone *atomic.Bool
}

func (s severed) Look(space string) { s.Store.(*dirstore.Store).Look(space) }

func (s severed) Open(ctx context.Context, name string) (kv.Space, error) {
	if s.gone.Load() {
		return nil, errSevered
	}
	space, err := s.Store.Open(ctx, name)
	return severedSpace{space, s.gone}, err
}

type severedSpace struct {
	kv.Space
	gone *atomic.Bool
}

func (s severedSpace) Begin(ctx context.Context, owner kv.Owner, ttl time.Duration) (time.Duration, error) {
	if s.gone.Load() {
		return 0, errSevered
	}
	return s.Space.Begin(ctx, owner, ttl)
}

func (s severedSpace) Renew(ctx context.Context, owner kv.Owner) (time.Duration, error) {
	if s.gone.Load() {
		return 0, errSevered
	}
	return s.Space.Renew(ctx, owner)
}

func (s severedSpace) End(ctx context.Context, owner kv.Owner) error {
	if s.gone.Load() {
		return errSevered
	}
	return s.Space.End(ctx, owner)
}

func (s severedSpace) Get(ctx context.Context, key string) (kv.Record, kv.Mark, error) {
	if s.gone.Load() {
		return kv.Record{}, kv.Mark{}, errSevered
	}
	return s.Space.Get(ctx, key)
}

func (s severedSpace) List(ctx context.Context, keys string, each func(kv.Record) error) (kv.Mark, error) {
	if s.gone.Load() {
		return kv.Mark{}, errSevered
	}
	return s.Space.List(ctx, keys, each)
}

func (s severedSpace) Commit(ctx context.Context, tx kv.Tx) (kv.Result, error) {
	if s.gone.Load() {
		return kv.Result{}, errSevered
	}
	return s.Space.Commit(ctx, tx)
}

func (s severedSpace) Watch(ctx context.Context, keys string, after int64) (kv.Watch, error) {
	if s.gone.Load() {
		return nil, errSevered
	}
	w, err := s.Space.Watch(ctx, keys, after)
	return severedWatch{w, s.gone}, err
}

type severedWatch struct {
	kv.Watch
	gone *atomic.Bool
}

func (w severedWatch) Next(ctx context.Context) (kv.Changes, error) {
	if w.gone.Load() {
		return kv.Changes{}, errSevered
	}
	changes, err := w.Watch.Next(ctx)
	if w.gone.Load() {
		return kv.Changes{}, errSevered
	}
	return changes, err
}
