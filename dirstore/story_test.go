package dirstore_test

import (
	"errors"
	"fmt"
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

// silence is how late another one may act in the place of one that has ended without a word: when that is
// noticed, or in mode exclusive when that one must have noticed too.
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

// onStage calls play in virtual time, in each mode, with what has an instance come and act.
func onStage(t *testing.T, play func(t *testing.T, mode libcluster.Mode, comes func(id, version string) *actor)) {
	t.Helper()
	for _, mode := range []libcluster.Mode{libcluster.ModeDirect, libcluster.ModePlanned, libcluster.ModeExclusive} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			dir := shm(t)
			synctest.Test(t, func(t *testing.T) {
				play(t, mode, func(id, version string) *actor {
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
					require.NoError(t, err)
					t.Cleanup(func() {
						a.killed.Store(false) // it leaves
						require.NoError(t, a.Leave(patience(t)))
					})
					require.NoError(t, a.Join(t.Context()))
					return a
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
	onStage(t, func(t *testing.T, mode libcluster.Mode, comes func(id, version string) *actor) {
		first := comes("a", "1.0")
		first.is(t, "the primary", 0, "0 of 1")
		second := comes("b", "1.0")
		second.is(t, "none", seen, "1 of 2")
		first.is(t, "still the primary", 0, "0 of 2")
		first.killed.Store(true)
		second.is(t, "the next primary", silence(mode), "0 of 1")
		third := comes("c", "1.1")
		third.is(t, "the primary", seen, "0 of 1")
		require.ErrorIs(t, <-second.ended, libcluster.ErrSuperseded)
		require.Equal(t, libcluster.PhaseLeft, second.Phase())
	})
}

// Nobody is there any more who had seen it renew its lease.
func TestTwoThatComeAfterADeadPrimaryHaveOneOfTheirOwnSoon(t *testing.T) {
	t.Parallel()
	onStage(t, func(t *testing.T, mode libcluster.Mode, comes func(id, version string) *actor) {
		first := comes("a", "")
		first.is(t, "the primary", 0, "0 of 1")
		first.killed.Store(true)
		time.Sleep(time.Hour)
		began, came := time.Now(), make(chan *actor, 2)
		for _, id := range []string{"b", "c"} {
			go func() { came <- comes(id, "") }()
		}
		primary, other := <-came, <-came
		time.Sleep(silence(mode) - time.Since(began))
		if other.State().Primary() {
			primary, other = other, primary
		}
		primary.is(t, "the primary", 0, "0 of 2")
		other.is(t, "none", 0, "1 of 2")
	})
}
