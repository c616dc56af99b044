package libcluster

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// randomMembers have IDs like those that New makes, and are the same each time.
func randomMembers(n int) []Member {
	random := rand.New(rand.NewPCG(1, 2))
	members := make([]Member, n)
	for i := range members {
		id := fmt.Sprintf("%016x%016x", random.Uint64(), random.Uint64())
		members[i] = Member{ID: id, Workers: 1 + random.IntN(8)}
	}
	return members
}

func indexOf(self string, members []Member) *index {
	x := newIndex(self)
	for _, m := range members {
		x.put(m)
	}
	return x
}

// BenchmarkIndexChange measures from one change to the place that results.
// Changes are, in turn: a random member has another worker count; a random
// member leaves; it comes back. One op is one change.
//
// "sums" is index; "sorted" is its dumb twin, which would take a second for
// each change among a million members.
func BenchmarkIndexChange(b *testing.B) {
	for _, n := range []int{10, 10_000, 1_000_000} {
		b.Run(fmt.Sprintf("sums/members=%d", n), func(b *testing.B) {
			members := randomMembers(n)
			x := indexOf(members[n/2].ID, members)
			benchmarkChanges(b, members, x.put, x.remove, func() { x.own() })
		})
	}
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprintf("sorted/members=%d", n), func(b *testing.B) {
			members, twin := randomMembers(n), sortedMembers{}
			put := func(m Member) { twin[m.ID] = m }
			for _, m := range members {
				put(m)
			}
			remove := func(id string) { delete(twin, id) }
			benchmarkChanges(b, members, put, remove, func() { twin.place(members[n/2].ID) })
		})
	}
}

func benchmarkChanges(b *testing.B, members []Member, put func(Member), remove func(id string), place func()) {
	random := rand.New(rand.NewPCG(3, 4))
	m := members[0]
	step := 0
	b.ReportAllocs()
	for b.Loop() {
		switch step % 3 {
		case 0:
			m = members[random.IntN(len(members))]
			m.Workers = 1 + step%8
			put(m)
		case 1:
			m = members[random.IntN(len(members))]
			remove(m.ID)
		case 2:
			put(m)
		}
		place()
		step++
	}
}
