package libcluster_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// tiling collects what instances say of each generation, and fails when two of
// them cannot both be right.
type tiling map[int64][]libcluster.State

func (g tiling) add(t *memory, s libcluster.State) {
	if !s.Active() {
		return
	}
	s.Deadline = time.Time{} // moves with every heartbeat
	for _, other := range g[s.Generation] {
		require.Equal(t, other.Total, s.Total, "generation %d has two totals", s.Generation)
		if other == s {
			return
		}
		require.True(t, other.Index+other.Workers <= s.Index || s.Index+s.Workers <= other.Index,
			"generation %d has ranges that overlap: %+v and %+v", s.Generation, other, s)
	}
	g[s.Generation] = append(g[s.Generation], s)
}

// whole reports whether the ranges of a generation cover the total.
func (g tiling) whole(generation int64) bool {
	sum := 0
	for _, s := range g[generation] {
		sum += s.Workers
	}
	return len(g[generation]) > 0 && sum == g[generation][0].Total
}

// TestRangesOfOneGenerationTileTheTotal lets each instance learn of changes with
// a delay of its own, so that at any time they are of different generations.
func TestRangesOfOneGenerationTileTheTotal(t *testing.T) {
	inMemory(t, func(t *memory) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 0))
		t.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			err := call.Send(ctx)
			if err == nil && call.Op == libclustertest.OpNext && !libcluster.Sleep(ctx, rand.N(300*time.Millisecond)) {
				return context.Cause(ctx)
			}
			return err
		})
		var apps []*application
		for n := range 12 {
			apps = append(apps, t.app(fmt.Sprintf("%02d", n), workers(1+random.IntN(9))))
		}
		seen := tiling{}
		for range 400 {
			a := apps[random.IntN(len(apps))]
			switch random.IntN(4) {
			case 0:
				_ = a.Leave(t.Context())
			case 1:
				require.NoError(t, a.SetWorkers(t.Context(), 1+random.IntN(9)))
			default:
				_ = a.Join(t.Context()) // many have joined already
			}
			wait(rand.N(100 * time.Millisecond))
			for _, a := range apps {
				seen.add(t, a.State())
			}
		}
		wait(time.Second)
		generations := map[int64]bool{}
		for _, a := range apps {
			if s := a.State(); s.Active() {
				seen.add(t, s)
				generations[s.Generation] = true
			}
		}
		require.Len(t, generations, 1, "at rest all are of one generation")
		for generation := range generations {
			require.True(t, seen.whole(generation), "the ranges leave a gap: %+v", seen[generation])
		}
		require.Greater(t, len(seen), 100, "generations that somebody reported")
		for _, a := range apps {
			require.NoError(t, a.Leave(t.Context()))
			for _, c := range a.told() {
				seen.add(t, c.State)
			}
			generationsGrow(t, a)
		}
	})
}

func generationsGrow(t *memory, a *application) {
	told := a.told()
	require.True(t, slices.IsSortedFunc(told, func(a, b call) int { return int(a.Generation - b.Generation) }),
		"the generation of successive states only grows: %+v", told)
}

func TestGenerationsOnlyGrow(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.join("a")
		last := int64(0)
		look := func() {
			synctest.Wait()
			generation := a.State().Generation
			require.GreaterOrEqual(t, generation, last)
			last = generation
		}
		for n := range 20 {
			b := t.join("b")
			look()
			require.NoError(t, b.SetWorkers(t.Context(), 2+n))
			look()
			require.NoError(t, b.Leave(t.Context()))
			look()
			t.Expire(cluster, "a")
			look()
			t.Compact()
			look()
			require.NoError(t, a.Leave(t.Context()))
			look()
			require.NoError(t, a.Join(t.Context()))
			look()
		}
		generationsGrow(t, a)
		require.GreaterOrEqual(t, last, int64(100))
	})
}

func TestMembersAreTheListThatTheStateWasComputedFrom(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.join("a", workers(2))
		t.join("c", workers(4), func(c *libcluster.Config) {
			c.Address, c.Version, c.Metadata = "192.0.2.1:80", "1.2", map[string]string{"zone": "x"}
		})
		b := t.join("b")
		want := []libcluster.Assignment{
			{Member: libcluster.Member{ID: "a", Workers: 2}, Index: 0},
			{Member: libcluster.Member{ID: "b", Workers: 1}, Index: 2},
			{Member: libcluster.Member{
				ID: "c", Workers: 4, Address: "192.0.2.1:80", Version: "1.2", Metadata: map[string]string{"zone": "x"},
			}, Index: 3},
		}
		require.Equal(t, want, a.Members())
		require.Equal(t, want, b.Members())
		require.Equal(t, "2/7", b.place())
	})
}

func TestClustersDoNotMeet(t *testing.T) {
	inMemory(t, func(t *memory) {
		apps := []*application{
			t.join("a"),
			t.join("a", func(c *libcluster.Config) { c.Env = "test" }),
			t.join("a", func(c *libcluster.Config) { c.Partition = "production" }),
			t.join("a", func(c *libcluster.Config) { c.Partition = "test" }),
			t.join("a", func(c *libcluster.Config) { c.Key = "mailers" }),
		}
		wait(time.Hour)
		for _, a := range apps {
			require.Equal(t, "0/1", a.story())
			require.NoError(t, a.Err())
		}
	})
}
