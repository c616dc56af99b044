package dirstore_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/dirstore"
)

const (
	ttl = 10 * time.Second
	// seen is how late what is in a folder may be seen.
	seen = 2 * dirstore.DefaultPoll
)

// silence is how long after an instance has ended without a word another one acts in its place, at the
// latest. In mode exclusive the other one also waits until the first must have noticed by its own clock.
func silence(mode libcluster.Mode) time.Duration {
	if mode == libcluster.ModeExclusive {
		return 2 * ttl
	}
	return ttl + ttl/8 + 3*seen
}

// actor is an instance on a folder that may end without a word.
type actor struct {
	*libcluster.Cluster
	killed atomic.Bool
	ended  chan error // why it has left by itself
}

// onStage calls play in virtual time, in each mode in which all hold indexes, with what has an instance come
// and act.
func onStage(t *testing.T, play func(t *testing.T, mode libcluster.Mode, comes func(id, version string) (*actor, error))) {
	t.Helper()
	for _, mode := range []libcluster.Mode{libcluster.ModeDirect, libcluster.ModePlanned, libcluster.ModeExclusive} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			dir := shm(t)
			synctest.Test(t, func(t *testing.T) {
				play(t, mode, func(id, version string) (*actor, error) {
					a := &actor{ended: make(chan error, 1)}
					store := dirstore.Dir(dir)
					store.Around(func(_, _ string, do func() error) error {
						if a.killed.Load() {
							return errors.New("its process has ended")
						}
						return do()
					})
					var err error
					a.Cluster, err = libcluster.New(libcluster.Config{
						Key: "play", ID: id, Mode: mode, Registry: libcluster.OnStore(store), TTL: ttl, Logger: zap.NewNop(),
						Version: version, Superseded: libcluster.ByNewerVersion,
						OnExit: func(err error) { a.ended <- err },
					})
					if err != nil {
						return nil, err
					}
					t.Cleanup(func() {
						a.killed.Store(false) // it leaves
						require.NoError(t, a.Leave(patience(t)))
					})
					return a, a.Join(patience(t))
				})
			})
		})
	}
}

// is has an instance have that state after a while.
func (a *actor) is(t *testing.T, what string, after time.Duration, state string) {
	t.Helper()
	time.Sleep(after)
	s := a.State()
	require.Equal(t, state, fmt.Sprint(s.Index, " of ", s.Total), "%s is %s", a.ID(), what)
}

func TestPrimaryIsFollowedWhenItHasEndedAndByANewerVersion(t *testing.T) {
	t.Parallel()
	onStage(t, func(t *testing.T, mode libcluster.Mode, comes func(id, version string) (*actor, error)) {
		first, err := comes("a", "1.0")
		require.NoError(t, err)
		first.is(t, "the primary", 0, "0 of 1")
		second, err := comes("b", "1.0")
		require.NoError(t, err)
		second.is(t, "none", seen, "1 of 2")
		first.is(t, "still the primary", 0, "0 of 2")
		first.killed.Store(true)
		second.is(t, "the next primary", silence(mode), "0 of 1")
		third, err := comes("c", "1.1")
		require.NoError(t, err)
		third.is(t, "the primary", seen, "0 of 1")
		require.ErrorIs(t, <-second.ended, libcluster.ErrSuperseded)
		require.Equal(t, libcluster.PhaseLeft, second.Phase())
	})
}

// Nobody is there any more who had seen it renew its lease.
func TestTwoThatComeAfterADeadPrimaryHaveOneOfTheirOwnSoon(t *testing.T) {
	t.Parallel()
	onStage(t, func(t *testing.T, mode libcluster.Mode, comes func(id, version string) (*actor, error)) {
		first, err := comes("a", "")
		require.NoError(t, err)
		first.is(t, "the primary", 0, "0 of 1")
		first.killed.Store(true)
		time.Sleep(time.Hour)
		began := time.Now()
		var both [2]*actor
		var errs [2]error
		var coming sync.WaitGroup
		for n, id := range []string{"b", "c"} {
			coming.Go(func() { both[n], errs[n] = comes(id, "") })
		}
		coming.Wait()
		require.NoError(t, errors.Join(errs[:]...))
		require.LessOrEqual(t, time.Since(began), silence(mode))
		time.Sleep(silence(mode) - time.Since(began))
		primary, other := both[0], both[1]
		if other.State().Primary() {
			primary, other = other, primary
		}
		primary.is(t, "the primary", 0, "0 of 2")
		other.is(t, "none", 0, "1 of 2")
	})
}
