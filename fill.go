package libcluster

import (
	"math/bits"
	"slices"
)

// candidate is a member that looks for an assignment.
type candidate struct {
	Assignment
	placed bool
}

func candidates(assignments []Assignment) (all []*candidate) {
	for _, p := range assignments {
		all = append(all, &candidate{Assignment: p})
	}
	return all
}

// largestGap bounds the search for a choice that fills a gap exactly. Worker counts
// are those of processes; the first candidates fill a larger gap.
const largestGap = 1 << 14

// choose returns candidates, in their order, that together have exactly this number of
// workers, or nil if there are none. It prefers the first candidates.
func choose(from []*candidate, workers int) (chosen []*candidate) {
	// Taking each that still fits is right for equal counts.
	left := workers
	for _, c := range from {
		if c.Workers <= left {
			chosen, left = append(chosen, c), left-c.Workers
		}
	}
	if left == 0 {
		return chosen
	}
	if workers > largestGap {
		return nil
	}
	// last[n] is the last of some that have n workers together, plus one.
	last, reached := make([]int, workers+1), newSums(workers)
	for i, c := range from {
		reached.add(c.Workers, func(n int) {
			if n <= workers {
				last[n] = i + 1
			}
		})
		if last[workers] > 0 {
			break
		}
	}
	if last[workers] == 0 {
		return nil
	}
	chosen = nil
	for n := workers; n > 0; n -= chosen[len(chosen)-1].Workers {
		chosen = append(chosen, from[last[n]-1])
	}
	slices.Reverse(chosen)
	return chosen
}

// sums are the numbers of workers that some of those added have together, one bit each.
type sums []uint64

func newSums(most int) sums {
	s := make(sums, most/64+1)
	s[0] = 1 // nobody has none
	return s
}

func (s sums) has(n int) bool { return n < 64*len(s) && s[n/64]>>(n%64)&1 == 1 }

// add adds one more, and calls for each sum that is new.
func (s sums) add(workers int, fresh func(n int)) {
	for to := len(s) - 1; to >= workers/64; to-- { // downwards, so that none counts twice
		from := to - workers/64
		added := s[from] << (workers % 64)
		if from > 0 {
			added |= s[from-1] >> (64 - workers%64) // nothing, if that is 64
		}
		added &^= s[to]
		s[to] |= added
		for ; fresh != nil && added != 0; added &= added - 1 {
			fresh(to*64 + bits.TrailingZeros64(added))
		}
	}
}

// sumsOf are the sums up to most, or somewhat more.
func sumsOf(all []*candidate, most int) sums {
	s := newSums(most)
	for _, c := range all {
		s.add(c.Workers, nil)
	}
	return s
}

// serves returns which members are to be given something: those that do not drain, or all if
// nobody else is there.
func serves(members []Recorded) func(Recorded) bool {
	all := !slices.ContainsFunc(members, func(m Recorded) bool { return !m.plans.draining && !m.reserved })
	return func(m Recorded) bool { return all || !m.plans.draining }
}

// drains reports whether an operator drains an instance.
func (now *Planning) drains(id string) bool {
	_, drains := slices.BinarySearch(now.Draining, id)
	return drains
}
