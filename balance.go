package libcluster

import (
	"cmp"
	"slices"
)

// balancePartitions returns the new owner of each partition. Its arguments are the present
// owners, each an index into the members or noOwner, and the weights of the members: the
// workers of each, or 0 if the member is draining. Neither argument is changed. If no
// member has a weight, no partition has an owner.
//
// Each member gets its exact share, partitions * weight / sum of weights, rounded up or
// down. Of all such ways the result is one that moves the fewest partitions. It depends on
// nothing but the arguments, and where two members have the same claim the earlier member
// has it. A second call with the result moves nothing.
func balancePartitions(owners, weights []int) []int {
	room := partitionShares(owners, weights)
	after := keepPartitions(owners, room)
	givePartitions(after, room)
	return after
}

// partitionShares returns how many partitions each member is to hold. Rounded down, the
// shares leave fewer partitions than there are members with a fraction. Each of these may
// have one partition more, and the choice among them decides how many partitions move: a
// member keeps the lesser of what it holds and what it is to hold. So one more keeps a
// partition where it is, if the member holds more than its share rounded down, and otherwise
// keeps none. Members of the first kind come first, and no choice moves less. Then come the
// members with the larger fraction, which are closer to one more.
func partitionShares(owners, weights []int) []int {
	shares := make([]int, len(weights))
	total := int64(0)
	for _, w := range weights {
		total += int64(w)
	}
	if total == 0 {
		return shares
	}
	type claim struct {
		member   int
		strength int64 // the fraction, of total; and total more if the member holds one more already
	}
	var claims []claim
	held := partitionCounts(owners, len(weights))
	left := len(owners)
	for i, w := range weights {
		exact := int64(len(owners)) * int64(w) // 65,536 * (1<<31 - 1) at the most
		shares[i] = int(exact / total)
		left -= shares[i]
		c := claim{i, exact % total}
		if c.strength == 0 {
			continue
		}
		if held[i] > shares[i] {
			c.strength += total
		}
		claims = append(claims, c)
	}
	slices.SortFunc(claims, func(a, b claim) int {
		return cmp.Or(cmp.Compare(b.strength, a.strength), cmp.Compare(a.member, b.member))
	})
	for _, c := range claims[:left] {
		shares[c.member]++
	}
	return shares
}

// partitionCounts returns how many partitions each of the members holds.
func partitionCounts(owners []int, members int) []int {
	held := make([]int, members)
	for _, o := range owners {
		if o != noOwner {
			held[o]++
		}
	}
	return held
}

// keepPartitions leaves each member as many of its partitions as it has room for, and
// takes them off its room. A member keeps partition 0, whose holder is the primary, and its
// longest runs. It gives its shortest, of equal ones the last, and of a run that it need not
// give whole the highest numbers. So the runs stay long: in the plan, and where an application
// holds neighbours together.
func keepPartitions(owners, room []int) []int {
	after := make([]int, len(owners))
	for p := range after {
		after[p] = noOwner
	}
	runs := partitionRuns(owners)
	slices.SortFunc(runs, func(a, b partitionRun) int {
		if a.from == 0 || b.from == 0 {
			return cmp.Compare(a.from, b.from)
		}
		return cmp.Or(cmp.Compare(b.len(), a.len()), cmp.Compare(a.from, b.from))
	})
	for _, r := range runs {
		kept := min(r.len(), room[r.owner])
		room[r.owner] -= kept
		for p := r.from; p < r.from+kept; p++ {
			after[p] = r.owner
		}
	}
	return after
}

// givePartitions gives each partition without an owner to a member that has room: if it can
// to the owner of the next partition or of the one before, so that a run grows, and otherwise
// to the first member.
func givePartitions(after, room []int) {
	take := func(p, owner int) {
		if after[p] == noOwner && owner != noOwner && room[owner] > 0 {
			after[p] = owner
			room[owner]--
		}
	}
	for p := len(after) - 1; p > 0; p-- {
		take(p-1, after[p])
	}
	first := 0
	for p := range after {
		if p > 0 {
			take(p, after[p-1])
		}
		for first < len(room) && room[first] == 0 {
			first++
		}
		if first < len(room) {
			take(p, first)
		}
	}
}
