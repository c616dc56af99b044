//go:build linux && faults

package faults_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/libcluster/libcluster"
)

// cluster is the key of the members of each test: every test has an etcd of its
// own.
const cluster = "faults"

// prefix is what their keys begin with.
const prefix = "/" + cluster + "/production/"

// member is a cluster value under test, in this process.
type member struct {
	*libcluster.Cluster
	belief
	t       *testing.T
	workers int
	logs    *observer.ObservedLogs

	mu     sync.Mutex               // guards what follows
	told   []libcluster.State       // what the application was called back with
	seen   map[string]bool          // the IDs of the members at the last call
	missed map[string]time.Duration // and when one was missing first
}

// prepare makes a member that has not joined. It leaves when the test ends.
func prepare(t *testing.T, cfg libcluster.Config) *member {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	m := &member{t: t, logs: logs, workers: max(cfg.Workers, 1), missed: make(map[string]time.Duration)}
	cfg.Key = cluster
	cfg.Logger = zap.New(core)
	cfg.OnRebalance = func(s libcluster.State) {
		m.hear(s)
		if !s.Active() {
			at := boot()
			m.note(at, s, at)
		}
	}
	var err error
	m.Cluster, err = libcluster.New(cfg)
	require.NoError(t, err)
	t.Cleanup(m.leave)
	return m
}

// hear takes down a callback, and whom it no longer counts.
func (m *member) hear(s libcluster.State) {
	at, present := boot(), make(map[string]bool)
	for _, p := range m.Members() {
		present[p.ID] = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told = append(m.told, s)
	for id := range m.seen {
		if !present[id] {
			m.missed[id] = at
		}
	}
	m.seen = present
}

// hasHeard reports whether this place is what the application was last told.
func (m *member) hasHeard(s libcluster.State) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.told) == 0 {
		return false
	}
	last := m.told[len(m.told)-1]
	return last.Index == s.Index && last.Workers == s.Workers && last.Total == s.Total
}

// join makes a member and returns when it has joined.
func join(t *testing.T, cfg libcluster.Config) *member {
	t.Helper()
	m := prepare(t, cfg)
	m.join()
	return m
}

func (m *member) join() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(m.t, m.Join(ctx), "%s cannot join", m.ID())
}

// leave leaves. The servers may be gone by then, so how well is not asked.
func (m *member) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := m.Leave(ctx); err != nil && !m.t.Failed() {
		m.t.Logf("%s: %v", m.ID(), err)
	}
}

// joinMany joins n members at once and returns when they are whole.
func joinMany(t *testing.T, n int, config func(i int) libcluster.Config) []*member {
	t.Helper()
	members := make([]*member, n)
	for i := range members {
		cfg := config(i)
		if cfg.ID == "" {
			cfg.ID = fmt.Sprintf("member%02d", i)
		}
		members[i] = prepare(t, cfg)
	}
	var joining sync.WaitGroup
	for _, m := range members {
		joining.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := m.Join(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	joining.Wait()
	awaitWhole(t, patience, members)
	return members
}

// calls returns how often the application was called back.
func (m *member) calls() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.told)
}

// since returns the states that the application was told after the first n.
func (m *member) since(n int) []libcluster.State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]libcluster.State(nil), m.told[n:]...)
}

// reasons returns what was logged of why the member was fenced.
func (m *member) reasons() []string {
	var reasons []string
	for _, entry := range m.logs.All() {
		if entry.Level >= zap.WarnLevel {
			reasons = append(reasons, fmt.Sprintf("%s: %v", entry.Message, entry.ContextMap()["error"]))
		}
	}
	return reasons
}

// joinWithin tries to join for a while, and returns why it did not.
func joinWithin(m *member, d time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return m.Join(ctx)
}
