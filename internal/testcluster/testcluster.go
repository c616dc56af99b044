// Package testcluster is an instance under test, and what it has been told, for tests in real time.
package testcluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testetcd"
)

// Unfenced is a TTL within which a machine that is busy does renew a record.
const Unfenced = 2 * time.Minute

// Instance is a cluster under test and what it has been told.
type Instance struct {
	*libcluster.Cluster
	t testing.TB

	mu   sync.Mutex
	told []libcluster.State
}

// Start makes an instance and joins; it leaves when the test ends.
func Start(t testing.TB, cfg libcluster.Config) *Instance {
	t.Helper()
	i := Prepare(t, cfg)
	ctx, cancel := context.WithTimeout(context.Background(), testetcd.Patience)
	defer cancel()
	require.NoError(t, i.Join(ctx))
	return i
}

// Prepare makes an instance, which leaves when the test ends. Without a TTL it has Unfenced.
func Prepare(t testing.TB, cfg libcluster.Config) *Instance {
	t.Helper()
	i := &Instance{t: t}
	cfg.OnRebalance = func(s libcluster.State) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.told = append(i.told, s)
	}
	if cfg.TTL == 0 {
		cfg.TTL = Unfenced
	}
	var err error
	i.Cluster, err = libcluster.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { i.Leaves() })
	return i
}

// Leaves has more time than Leave takes by itself: on a busy machine a registry may need it.
func (i *Instance) Leaves(options ...libcluster.LeaveOption) {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testetcd.Patience)
	defer cancel()
	require.NoError(i.t, i.Leave(ctx, options...))
}

// Told returns what the instance has been told.
func (i *Instance) Told() []libcluster.State {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.told)
}

// Becomes waits until the instance has been told a place of index and total.
func (i *Instance) Becomes(index, total int) libcluster.State {
	i.t.Helper()
	var last libcluster.State
	require.Eventually(i.t, func() bool {
		told := i.Told()
		if len(told) == 0 {
			return false
		}
		last = told[len(told)-1]
		return last.Index == index && last.Total == total
	}, testetcd.Patience, time.Millisecond, "%s: want index %d of %d", i.ID(), index, total)
	return last
}

// Key returns a cluster key that no other test uses, nor an earlier run.
func Key(t testing.TB) string {
	return fmt.Sprintf("%s %d", strings.NewReplacer("/", " ", "#", " ").Replace(t.Name()), time.Now().UnixNano())
}
