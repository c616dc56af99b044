package libcluster_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/between"
	"github.com/libcluster/libcluster/internal/testcluster"
)

// told returns what i has been told when nothing is left to be done. In a
// synctest bubble that can be known: nobody need wait for a call that does not
// come.
func told(i *testcluster.Instance) []libcluster.State {
	synctest.Wait()
	return i.Told()
}

func staticConfig(index, workers, total int) libcluster.Config {
	return libcluster.Config{Key: "k", ID: "a", Workers: workers, Registry: libcluster.Static(index, total)}
}

func TestStaticJoinCallsBackOnceBeforeItReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := testcluster.Prepare(t, staticConfig(2, 3, 7))
		require.Equal(t, libcluster.State{Index: -1, Workers: 3}, i.State())
		require.ErrorIs(t, i.Err(), libcluster.ErrLeft)
		require.Equal(t, libcluster.PhaseLeft, i.Phase())
		require.Empty(t, i.Members())

		require.NoError(t, i.Join(t.Context()))
		first := []libcluster.State{{Index: 2, Workers: 3, Total: 7, Generation: 1}}
		require.Equal(t, first, i.Told(), "before Join returned")
		require.Equal(t, first, told(i), "ever since")
		require.Equal(t, first[0], i.State())
		require.NoError(t, i.Err())
		require.Equal(t, libcluster.PhaseActive, i.Phase())
	})
}

func TestStaticAssignmentLastsWithoutBeingRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := staticConfig(0, 1, 2)
		cfg.TTL = time.Second
		i := testcluster.Start(t, cfg)
		<-time.After(1000 * time.Hour) // by the bubble's clock
		require.Len(t, told(i), 1)
		require.True(t, i.State().Active())
	})
}

func TestStaticLeaveCallsBackMinusOneAndTheTotalOfTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := testcluster.Start(t, staticConfig(2, 3, 7))
		require.NoError(t, i.Leave(t.Context()))
		states := told(i)
		require.Len(t, states, 2)
		require.Equal(t, libcluster.State{Index: -1, Workers: 3, Total: 4, Generation: 1}, states[1])
		require.Equal(t, states[1], i.State())
		require.ErrorIs(t, i.Err(), libcluster.ErrLeft)
		require.Equal(t, libcluster.PhaseLeft, i.Phase())

		require.NoError(t, i.Leave(t.Context()), "leaving twice")
		require.Len(t, told(i), 2)
	})
}

func TestStaticClusterCanBeJoinedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := testcluster.Start(t, staticConfig(2, 3, 7))
		require.NoError(t, i.Leave(t.Context(), libcluster.Returning(time.Minute)), "a static place is always kept")
		require.NoError(t, i.Join(t.Context()))
		states := told(i)
		require.Len(t, states, 3)
		require.Equal(t, states[0], states[2])
		require.Equal(t, states[2], i.State())
	})
}

func TestStaticIndexZeroIsPrimary(t *testing.T) {
	for index, primary := range map[int]bool{0: true, 1: false} {
		i := testcluster.Start(t, staticConfig(index, 1, 2))
		require.Equal(t, primary, i.State().Primary())
		i.Leaves()
		require.False(t, i.State().Primary(), "after leaving")
	}
}

func TestStaticClusterKnowsOnlyThisInstance(t *testing.T) {
	cfg := staticConfig(2, 3, 7)
	cfg.Address, cfg.Version = "10.0.0.1:80", "v1"
	i := testcluster.Start(t, cfg)
	require.Equal(t, []libcluster.Assignment{{
		Member: libcluster.Member{ID: "a", Workers: 3, Address: "10.0.0.1:80", Version: "v1"},
		Index:  2,
	}}, i.Members())
}

func TestStaticAssignmentOutsideTheTotalIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		index, workers, total int
		says                  string
	}{
		"negative index":             {-1, 1, 3, "index -1: must be 0 to 2"},
		"index is the total":         {3, 1, 3, "index 3: must be 0 to 2"},
		"range past the total":       {2, 2, 3, "range [2,4) of 2 workers runs past the total 3"},
		"more workers than in all":   {0, 4, 3, "range [0,4) of 4 workers runs past the total 3"},
		"most workers, at the end":   {2147483646, 2147483647, 2147483647, "range [2147483646,4294967293) of 2147483647 workers"},
		"nobody":                     {0, 1, 0, "total 0: must be 1 to 2147483647"},
		"negative total":             {0, 1, -3, "total -3: must be 1 to 2147483647"},
		"more than a cluster may be": {0, 1, libcluster.MaxWorkers + 1, "total 2147483648: must be 1 to 2147483647"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := libcluster.New(staticConfig(c.index, c.workers, c.total))
			var configError *libcluster.ConfigError
			require.ErrorAs(t, err, &configError)
			require.Equal(t, "Registry", configError.Field)
			require.ErrorContains(t, err, "Static: "+c.says)
		})
	}
}

func TestStaticAssignmentAtTheEndOfTheTotalIsAccepted(t *testing.T) {
	for _, c := range []struct{ index, workers, total int }{
		{0, 1, 1},
		{2, 1, 3},
		{1, 2, 3},
		{0, libcluster.MaxWorkers, libcluster.MaxWorkers},
		{libcluster.MaxWorkers - 1, 1, libcluster.MaxWorkers},
	} {
		i := testcluster.Start(t, staticConfig(c.index, c.workers, c.total))
		require.Equal(t, libcluster.State{Index: c.index, Workers: c.workers, Total: c.total, Generation: 1}, i.State())
	}
}

func TestStaticWorkersThatFitAreTakenAndToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := testcluster.Start(t, staticConfig(2, 3, 7))
		require.NoError(t, i.SetWorkers(t.Context(), 5))
		states := told(i)
		require.Len(t, states, 2)
		require.Equal(t, libcluster.State{Index: 2, Workers: 5, Total: 7, Generation: 2}, states[1])
		require.Equal(t, states[1], i.State())
		require.Equal(t, 5, i.Members()[0].Workers)

		require.NoError(t, i.SetWorkers(t.Context(), 5))
		require.Len(t, told(i), 2, "told of a count that it had already")

		i.Leaves()
		require.Equal(t, 2, i.State().Total, "7 but for the 5 of its own")
	})
}

func TestStaticWorkersThatDoNotFitAreRefusedAndTheOldCountStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := testcluster.Start(t, staticConfig(2, 3, 7))
		before := i.State()
		err := i.SetWorkers(t.Context(), 6)
		require.ErrorContains(t, err, "range [2,8) of 6 workers runs past the total 7")
		require.NotContains(t, err.Error(), "again", "no retry can mend it")
		require.Len(t, told(i), 1)
		require.Equal(t, before, i.State())
		require.Equal(t, 3, i.Members()[0].Workers)

		i.Leaves()
		require.NoError(t, i.Join(t.Context()), "the refused count was kept")
		require.Equal(t, before, i.State())
	})
}

// pausedRegistry holds back all changes but the first until it is resumed, and
// has something happen before each update.
type pausedRegistry struct {
	between.Registry
	resumed      chan struct{}
	beforeUpdate func(libcluster.Member)
}

type pausedSession struct {
	libcluster.Session
	registry *pausedRegistry
	first    atomic.Bool
}

func newPausedRegistry(on libcluster.Registry) *pausedRegistry {
	p := &pausedRegistry{resumed: make(chan struct{})}
	p.Registry = between.Registry{Registry: on, Joining: func(ctx context.Context, m libcluster.Member, below libcluster.Membership,
	) (libcluster.Session, time.Duration, error) {
		session, ttl, err := below.Join(ctx, m)
		return &pausedSession{Session: session, registry: p}, ttl, err
	}}
	return p
}

func (p *pausedSession) Next(ctx context.Context) (libcluster.Change, error) {
	if p.first.Swap(true) {
		select {
		case <-p.registry.resumed:
		case <-ctx.Done():
		}
	}
	return p.Session.Next(ctx)
}

func (p *pausedSession) Update(ctx context.Context, m libcluster.Member) error {
	p.registry.beforeUpdate(m)
	return p.Session.Update(ctx, m)
}

// The change to 2 workers arrives while 9 are asked for and not yet refused.
func TestStaticWorkersThatAreRefusedAreNeverTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := newPausedRegistry(libcluster.Static(0, 3))
		registry.beforeUpdate = func(m libcluster.Member) {
			if m.Workers == 9 {
				close(registry.resumed)
				synctest.Wait()
			}
		}
		i := testcluster.Start(t, libcluster.Config{Key: "k", Registry: registry})
		require.NoError(t, i.SetWorkers(t.Context(), 2))
		require.ErrorContains(t, i.SetWorkers(t.Context(), 9), "runs past the total 3")
		states := told(i)
		require.Len(t, states, 2)
		require.Equal(t, libcluster.State{Index: 0, Workers: 2, Total: 3, Generation: 2}, states[1])
		require.Equal(t, states[1], i.State())
	})
}

// The second count is set while the first one is being refused, so that "what
// it was before" is for the second one the first one, which will not do either.
func TestStaticWorkersThatAreRefusedTogetherAreBothTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var i *testcluster.Instance
		second := make(chan error, 1)
		once := sync.OnceFunc(func() {
			go func() { second <- i.SetWorkers(t.Context(), 10) }()
			synctest.Wait()
		})
		registry := newPausedRegistry(libcluster.Static(0, 3))
		registry.beforeUpdate = func(libcluster.Member) { once() }
		i = testcluster.Start(t, libcluster.Config{Key: "k", Registry: registry})
		require.Error(t, i.SetWorkers(t.Context(), 9))
		require.Error(t, <-second)
		i.Leaves()
		require.NoError(t, i.Join(t.Context()), "a refused count was kept")
		require.Equal(t, 1, i.State().Workers)
	})
}

func TestStaticTotalOfAllThatMayBeLeavesRoomForMoreWorkers(t *testing.T) {
	i := testcluster.Start(t, staticConfig(0, 1, libcluster.MaxWorkers))
	require.NoError(t, i.SetWorkers(t.Context(), libcluster.MaxWorkers))
}

func TestStaticWorkersSetBeforeJoiningCount(t *testing.T) {
	i := testcluster.Prepare(t, staticConfig(2, 3, 7))
	require.NoError(t, i.SetWorkers(t.Context(), 5))
	require.NoError(t, i.Join(t.Context()))
	require.Equal(t, libcluster.State{Index: 2, Workers: 5, Total: 7, Generation: 1}, i.State())
	i.Leaves()

	require.NoError(t, i.SetWorkers(t.Context(), 6))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.ErrorContains(t, i.Join(ctx), "runs past the total 7")
	require.NoError(t, ctx.Err(), "it tried again what can't be mended")
	require.False(t, i.State().Active())
}

func TestStaticPassiveInstanceSeesTheTotalAndHasNoAssignment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := staticConfig(2, 3, 7)
		cfg.Passive = true
		i := testcluster.Start(t, cfg)
		states := told(i)
		require.Len(t, states, 1)
		require.Equal(t, -1, states[0].Index)
		require.Equal(t, 7, states[0].Total)
		require.Equal(t, states[0], i.State())
		require.NoError(t, i.Err())
		require.Empty(t, i.Members())
		require.ErrorContains(t, i.SetWorkers(t.Context(), 1), "passive")

		i.Leaves()
		require.Equal(t, -1, i.State().Index)
		require.Equal(t, 7, i.State().Total, "it never counted")
	})
}
