package libcluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// joined is a cluster as it is once these members have joined: self sees them in
// the state of its index.
func joined(t testing.TB, self string, members []Member) *Cluster {
	t.Helper()
	c, err := New(Config{Key: "mailer", ID: self, Passive: true, Registry: Etcd("http://127.0.0.1:1")})
	require.NoError(t, err)
	inc := newIncarnation(newMembership(c.instance), nil, nil, now(), 0, Member{})
	inc.roster.index = indexOf(self, members)
	c.view.Store(&view{state: State{Index: -1, Total: int(inc.roster.index.total)}, inc: inc})
	return c
}

func TestOwnerOfAKeyIsTheMemberWhoseStateOwnsIt(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		members := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) Member {
			id := rapid.SampledFrom(bytewise).Draw(t, "id")
			return Member{ID: id, Workers: rapid.IntRange(1, 9).Draw(t, "workers"), Address: "http://" + id}
		}), 1, -1, func(m Member) string { return m.ID }).Draw(rt, "members")
		c := joined(t, "front end", members)
		total := c.State().Total
		for key := range 50 {
			key := fmt.Sprint(key)
			owner, ok := c.OwnerOf(key)
			require.True(rt, ok)
			require.True(rt, State{Index: owner.Index, Workers: owner.Workers, Total: total}.Owns(key))
			require.Contains(rt, c.Members(), owner)
		}
	})
}

// However the places are sorted: in a cluster with a plan not by ID.
func TestOwnerOfAnIndexIsWhoHoldsIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var o owners
		for i, s := range someTiling.Draw(t, "members") {
			o.assignments = append(o.assignments, Assignment{Member: Member{ID: bytewise[i%len(bytewise)], Workers: s.Workers}, Index: s.Index})
			o.total = s.Total
		}
		for index := -1; index <= o.total; index++ {
			twin := slices.IndexFunc(o.assignments, func(p Assignment) bool {
				return index >= p.Index && index < p.Index+p.Workers
			})
			owner, ok := o.owner(index)
			require.Equal(t, twin >= 0, ok, "index %d", index)
			if ok {
				require.Equal(t, o.assignments[twin], owner, "index %d", index)
			}
		}
	})
}

func TestNobodyOwnsAKeyOfAClusterWithoutMembers(t *testing.T) {
	_, ok := joined(t, "front end", nil).OwnerOf("key")
	require.False(t, ok)
	c, err := New(Config{Key: "mailer", Registry: Static(0, 1)})
	require.NoError(t, err)
	_, ok = c.OwnerOf("key")
	require.False(t, ok, "before Join")
}

// Of a static cluster an instance knows its own range and the total, no more.
func TestStaticInstanceKnowsTheOwnerOfItsOwnKeysOnly(t *testing.T) {
	for _, total := range []int{3, 5, 9} {
		c, err := New(Config{Key: "nightly", ID: "self", Workers: 2, Registry: Static(1, total)})
		require.NoError(t, err)
		require.NoError(t, c.Join(t.Context()))
		for key := range 100 {
			key := fmt.Sprint(key)
			owner, ok := c.OwnerOf(key)
			require.Equal(t, c.State().Owns(key), ok)
			if ok {
				require.Equal(t, "self", owner.ID)
			}
		}
		require.NoError(t, c.Leave(t.Context()))
	}
}

func TestAskingForTheOwnerAllocatesNothing(t *testing.T) {
	members := randomMembers(1000)
	c := joined(t, "front end", members)
	c.OwnerOf("the first after a change makes the list")
	i := 0
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		c.OwnerOf(members[i%len(members)].ID)
		i++
	}))
}

// BenchmarkOwnerOf measures what a front end asks for each request. "first" is the
// first question after a change, which makes the list.
func BenchmarkOwnerOf(b *testing.B) {
	keys := benchmarkKeys()
	for _, n := range []int{10, 1000} {
		c := joined(b, "front end", randomMembers(n))
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := rand.Int(); b.Loop(); i++ {
				c.OwnerOf(keys[uint(i)%uint(len(keys))])
			}
		})
		b.Run(fmt.Sprintf("members=%d/first", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.view.Load().all.Store(nil)
				c.OwnerOf("key")
			}
		})
	}
}
