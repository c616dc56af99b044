package libcluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// choosePlainly looks at every sum for each in turn.
func choosePlainly(from []Assignment, workers int) []int {
	var chosen []int
	left := workers
	for i, p := range from {
		if p.Workers <= left {
			chosen, left = append(chosen, i), left-p.Workers
		}
	}
	if left == 0 {
		return chosen
	}
	with := make([]int, workers+1)
	for i, p := range from {
		for n := workers; n >= p.Workers; n-- {
			if with[n] == 0 && (n == p.Workers || with[n-p.Workers] > 0) {
				with[n] = i + 1
			}
		}
	}
	chosen = nil
	for n := workers; n > 0; n -= from[with[n]-1].Workers {
		if with[n] == 0 {
			return nil
		}
		chosen = append(chosen, with[n]-1)
	}
	slices.Reverse(chosen)
	return chosen
}

// fillPlainly is fill that tries each choice anew.
func fillPlainly(stay, move []Assignment, total, spare int) []Assignment {
	stay, move = slices.Clone(stay), slices.Clone(move)
	var assignments []Assignment
	for at := 0; at < total; {
		if len(stay) > 0 && stay[0].Index == at {
			assignments = append(assignments, stay[0])
			at += stay[0].Workers
			stay = stay[1:]
			continue
		}
		gap := total - at
		if len(stay) > 0 {
			gap = stay[0].Index - at
		}
		from := slices.Clone(move)
		chosen := choosePlainly(from, gap)
		for i := 1; chosen == nil && i <= min(spare, len(stay)); i++ {
			from = append(from, stay[len(stay)-i])
			chosen = choosePlainly(from, gap)
		}
		if chosen == nil {
			move = slices.Insert(move, 0, stay[0])
			stay = stay[1:]
			continue
		}
		for _, i := range chosen {
			gone := func(p Assignment) bool { return p.ID == from[i].ID }
			move, stay = slices.DeleteFunc(move, gone), slices.DeleteFunc(stay, gone)
			from[i].Index = at
			assignments = append(assignments, from[i])
			at += from[i].Workers
		}
	}
	return assignments
}

func TestGapsAreFilledAsAPlainSearchFillsThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.IntRange(1, rapid.SampledFrom([]int{1, 3, 9, 64, 200}).Draw(t, "most"))
		if rapid.Bool().Draw(t, "even") {
			count = rapid.Map(count, func(n int) int { return 2 * n })
		}
		var stay, move []Assignment
		end, total := 0, 0
		for i := range rapid.IntRange(1, 25).Draw(t, "members") {
			p := Assignment{Member: Member{ID: fmt.Sprint(i), Workers: count.Draw(t, "workers")}, Index: -1}
			if rapid.Bool().Draw(t, "stays") {
				p.Index = end
				stay = append(stay, p)
				end += p.Workers
			} else {
				move = append(move, p)
				if rapid.Bool().Draw(t, "leaves a gap") {
					end += count.Draw(t, "gap")
				}
			}
			total += p.Workers
		}
		for len(stay) > 0 && end > total { // the last moves if it ends after the total
			last := stay[len(stay)-1]
			stay, move = stay[:len(stay)-1], append(move, last)
			end = last.Index
		}
		spare := rapid.SampledFrom([]int{0, 1, 2, 4, 8}).Draw(t, "spare")
		require.Equal(t, fillPlainly(stay, move, total, spare), fill(stay, move, total, spare))
	})
}

// BenchmarkArrange has much change at once in a cluster of 1,600.
func BenchmarkArrange(b *testing.B) {
	const many = 1600
	draw := rand.New(rand.NewPCG(1, 2))
	members := func(id string, workers func(i int) int) (members []Member) {
		for i := range many {
			members = append(members, Member{ID: fmt.Sprintf("%s%032d", id, i), Workers: workers(i)})
		}
		return members
	}
	upTo := func(most int) func(int) int { return func(int) int { return 1 + draw.IntN(most) } }
	oneOdd := func(i int) int { // no even counts fill the hole of the first
		if i == 0 {
			return 1
		}
		return 2 + 2*draw.IntN(8)
	}
	half := func(members []Member) (left []Member) {
		for _, i := range draw.Perm(many)[:many/2] {
			left = append(left, members[i])
		}
		return left
	}
	few, lots, odd := members("", upTo(16)), members("", upTo(64)), members("", oneOdd)
	for _, change := range []struct {
		what          string
		before, after []Member
	}{
		{"one leaves", few, few[1:]},
		{"one leaves that has an odd count", odd, odd[1:]},
		{"half leave", few, half(few)},
		{"half are replaced", lots, append(half(lots), members("new", upTo(64))[:many/2]...)},
		{"all are resized", few, members("", upTo(16))},
		{"all grow", few, lots},
		{"all are replaced", few, members("new", upTo(16))},
	} {
		before := arrange(nil, change.before)
		b.Run(change.what, func(b *testing.B) {
			for b.Loop() {
				arrange(before, change.after)
			}
		})
	}
}
