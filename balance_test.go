package libcluster

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// requireBalanced fails unless each member has its exact share, rounded up or down, and no
// partition is without an owner.
func requireBalanced(t require.TestingT, owners, weights []int) {
	total := new(big.Int)
	for _, w := range weights {
		total.Add(total, big.NewInt(int64(w)))
	}
	if total.Sign() == 0 {
		require.Equal(t, slices.Repeat([]int{noOwner}, len(owners)), owners)
		return
	}
	require.False(t, slices.Contains(owners, noOwner), "a partition has no owner: %v", owners)
	for i, count := range partitionCounts(owners, len(weights)) {
		exact := new(big.Rat).SetFrac(new(big.Int).Mul(big.NewInt(int64(len(owners))), big.NewInt(int64(weights[i]))), total)
		off := exact.Sub(exact, new(big.Rat).SetInt64(int64(count)))
		require.Negative(t, off.Abs(off).Cmp(big.NewRat(1, 1)), "member %d has %d of %v", i, count, owners)
	}
}

// movedPartitions counts the partitions that have lost their owner.
func movedPartitions(before, after []int) (n int) {
	for p, owner := range before {
		if owner != noOwner && after[p] != owner {
			n++
		}
	}
	return n
}

// leastMovedPartitions looks at every way to round the shares that adds up: least[n] is
// how few partitions move if n members so far have one more.
func leastMovedPartitions(owners, weights []int) int {
	const never = 1 << 30
	total := big.NewInt(0)
	for _, w := range weights {
		total.Add(total, big.NewInt(int64(w)))
	}
	if total.Sign() == 0 {
		return movedPartitions(owners, slices.Repeat([]int{noOwner}, len(owners)))
	}
	least, rest := []int{0}, len(owners)
	for i, held := range partitionCounts(owners, len(weights)) {
		exact := new(big.Int).Mul(big.NewInt(int64(len(owners))), big.NewInt(int64(weights[i])))
		share, fraction := exact.DivMod(exact, total, new(big.Int))
		down := int(share.Int64())
		rest -= down
		next := append(slices.Repeat([]int{never}, len(least)), never)
		for n, moves := range least {
			next[n] = min(next[n], moves+max(0, held-down))
			if fraction.Sign() > 0 {
				next[n+1] = min(next[n+1], moves+max(0, held-down-1))
			}
		}
		least = next
	}
	return least[rest]
}

// balancePlainly moves one partition at a time.
func balancePlainly(owners, weights []int) []int {
	after := slices.Clone(owners)
	room := partitionShares(owners, weights)
	for _, owner := range owners {
		if owner == noOwner {
			continue
		}
		for count := func() int { return partitionCounts(after, len(weights))[owner] }; count() > room[owner]; {
			var last partitionRun
			for _, r := range partitionRuns(after) {
				if r.owner == owner && (last.from == 0 || r.from > 0 && r.len() <= last.len()) {
					last = r
				}
			}
			after[last.to-1] = noOwner
		}
	}
	give := func(p, member int) {
		if after[p] == noOwner && member != noOwner && partitionCounts(after, len(weights))[member] < room[member] {
			after[p] = member
		}
	}
	for p := len(after) - 2; p >= 0; p-- {
		give(p, after[p+1])
	}
	for p := range after {
		if p > 0 {
			give(p, after[p-1])
		}
		for member := range weights {
			give(p, member)
		}
	}
	return after
}

func drawWeights(t *rapid.T, members int) []int {
	most := rapid.SampledFrom([]int{1, 3, 50, MaxWorkers}).Draw(t, "most")
	weight := rapid.Map(rapid.IntRange(-1, most), func(w int) int { return max(w, 0) })
	return rapid.SliceOfN(weight, members, members).Draw(t, "weights")
}

func drawOwners(t *rapid.T, members int) []int {
	partitions := rapid.IntRange(1, rapid.SampledFrom([]int{4, 40, 400}).Draw(t, "most partitions")).Draw(t, "partitions")
	return rapid.SliceOfN(rapid.IntRange(noOwner, members-1), partitions, partitions).Draw(t, "owners")
}

func TestPartitionsAreBalancedWithTheFewestMovesWhateverWasBefore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := rapid.IntRange(0, 12).Draw(t, "members")
		owners, weights := drawOwners(t, members), drawWeights(t, members)
		givenOwners, givenWeights := slices.Clone(owners), slices.Clone(weights)
		after := balancePartitions(owners, weights)
		require.Equal(t, givenOwners, owners)
		require.Equal(t, givenWeights, weights)
		requireBalanced(t, after, weights)
		require.Equal(t, leastMovedPartitions(owners, weights), movedPartitions(owners, after))
		require.Equal(t, balancePlainly(owners, weights), after)
		require.Equal(t, after, balancePartitions(after, weights), "a second call moves something")
	})
}

// Of a few partitions and members every case is tried, against every way to give them out.
func TestNoWayOfGivingOutPartitionsMovesFewer(t *testing.T) {
	const partitions, members, weightsEach = 4, 3, 4
	every := func(length, values int, each func([]int)) {
		digits := make([]int, length)
		for {
			each(digits)
			i := 0
			for ; i < length && digits[i] == values-1; i++ {
				digits[i] = 0
			}
			if i == length {
				return
			}
			digits[i]++
		}
	}
	cases := 0
	every(members, weightsEach, func(weights []int) {
		total := weights[0] + weights[1] + weights[2]
		if total == 0 {
			return
		}
		var ways [][]int // to give out the partitions in fair shares
		every(partitions, members, func(owners []int) {
			for i, count := range partitionCounts(owners, members) {
				if off := count*total - partitions*weights[i]; off <= -total || off >= total {
					return
				}
			}
			ways = append(ways, slices.Clone(owners))
		})
		every(partitions, members+1, func(plusOne []int) {
			owners := make([]int, partitions)
			for p, o := range plusOne {
				owners[p] = o - 1
			}
			least := partitions
			for _, way := range ways {
				least = min(least, movedPartitions(owners, way))
			}
			after := balancePartitions(owners, weights)
			fair := slices.ContainsFunc(ways, func(way []int) bool { return slices.Equal(way, after) })
			if !fair || movedPartitions(owners, after) != least {
				t.Fatalf("weights %v: from %v to %v moves %d of at least %d, fair: %v",
					weights, owners, after, movedPartitions(owners, after), least, fair)
			}
			cases++
		})
	})
	require.Equal(t, 63*256, cases)
}

func TestTheLargestWeightsAndMostPartitionsDoNotOverflow(t *testing.T) {
	const partitions = 1 << 16
	for _, members := range []int{1, 2, 3, 1000} {
		weights := slices.Repeat([]int{MaxWorkers}, members)
		weights[members/2] = MaxWorkers - 1
		owners := balancePartitions(slices.Repeat([]int{noOwner}, partitions), weights)
		requireBalanced(t, owners, weights)
		weights[0] = 1
		after := balancePartitions(owners, weights)
		requireBalanced(t, after, weights)
		require.Equal(t, leastMovedPartitions(owners, weights), movedPartitions(owners, after))
	}
}

func TestWhichPartitionsMove(t *testing.T) {
	for _, c := range []struct {
		what       string
		partitions int
		before     []string
		weights    []int
		after      []string
	}{
		{"the first member gets the first run", 10, []string{"", "", ""}, []int{1, 1, 1}, []string{"0-3", "4-6", "7-9"}},
		{"a newcomer gets the ends of runs", 9, []string{"0-4", "", "5-8"}, []int{1, 1, 1}, []string{"0-2", "3-4,8", "5-7"}},
		{"a member gives its shortest run, and the end of the next", 11, []string{"1,4-7,9-10", "2-3,8"}, []int{1, 1}, []string{"4-7,9-10", "0-3,8"}},
		{"the primary stays the primary", 10, []string{"0,3-6,8-9", "1-2,7"}, []int{1, 1}, []string{"0,3-6", "1-2,7-9"}},
		{"of equal runs a member gives the last", 3, []string{"0,2", "1"}, []int{1, 2}, []string{"0", "1-2"}},
		{"an extra partition stays where it is", 5, []string{"0-1", "2-4"}, []int{1, 1}, []string{"0-1", "2-4"}},
		{"an extra partition goes to the larger fraction", 4, []string{"", "", ""}, []int{2, 1, 3}, []string{"0", "1", "2-3"}},
		{"a larger member gets more", 12, []string{"0-5", "6-11"}, []int{1, 2}, []string{"0-3", "4-11"}},
		{"a draining member gives all", 6, []string{"0-1", "2-3", "4-5"}, []int{1, 0, 1}, []string{"0-2", "", "3-5"}},
		{"all members drain", 3, []string{"0-1", "2"}, []int{0, 0}, []string{"", ""}},
		{"more members than partitions", 2, []string{"1", "", "0"}, []int{1, 1, 1}, []string{"1", "", "0"}},
		{"runs grow downwards", 8, []string{"0-1,7", "4"}, []int{1, 1}, []string{"0-1,6-7", "2-5"}},
		{"runs grow upwards", 8, []string{"0", "1"}, []int{1, 1}, []string{"0,5-7", "1-4"}},
	} {
		before, err := readOwners(c.before, c.partitions)
		require.NoError(t, err, c.what)
		require.Equal(t, c.after, textsOf(balancePartitions(before, c.weights), len(c.weights)), c.what)
	}
	require.Equal(t, []int{noOwner, noOwner}, balancePartitions([]int{noOwner, noOwner}, nil))
}

func TestAnEleventhMemberOfTenCostsNinetyOfAThousandPartitions(t *testing.T) {
	ten := slices.Repeat([]int{4}, 10)
	before := balancePartitions(slices.Repeat([]int{noOwner}, 1000), ten)
	after := balancePartitions(before, append(ten, 4))
	require.Equal(t, 90, movedPartitions(before, after))
	require.Equal(t, 90, partitionCounts(after, 11)[10], "the newcomer has its share at once")
}

// crowd is a cluster whose members change.
type crowd struct{ weights, owners []int }

func newCrowd(partitions, members int, weight func() int) *crowd {
	c := &crowd{owners: slices.Repeat([]int{noOwner}, partitions)}
	for range members {
		c.weights = append(c.weights, weight())
	}
	c.balance()
	return c
}

func (c *crowd) balance() { c.owners = balancePartitions(c.owners, c.weights) }

func (c *crowd) join(at, weight int) {
	c.weights = slices.Insert(c.weights, at, weight)
	for p, o := range c.owners {
		if o >= at {
			c.owners[p]++
		}
	}
}

func (c *crowd) leave(at int) {
	c.weights = slices.Delete(c.weights, at, at+1)
	for p, o := range c.owners {
		if o == at {
			c.owners[p] = noOwner
		} else if o > at {
			c.owners[p]--
		}
	}
}

func TestAChainOfChangesStaysBalancedAndTwoCoordinatorsAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "draw") }
		weight := func() int { return 1 + draw(5) }
		c := newCrowd(rapid.IntRange(1, 100).Draw(t, "partitions"), rapid.IntRange(0, 9).Draw(t, "members"), weight)
		for range rapid.IntRange(1, 8).Draw(t, "changes") {
			for range rapid.IntRange(1, 4).Draw(t, "at once") {
				switch at := draw(len(c.weights) + 1); {
				case at == len(c.weights) || rapid.Bool().Draw(t, "joins"):
					c.join(at, weight())
				case rapid.Bool().Draw(t, "leaves"):
					c.leave(at)
				default:
					c.weights[at] = draw(6) // 0: it drains
				}
			}
			before := c.owners
			c.balance()
			requireBalanced(t, c.owners, c.weights)
			require.Equal(t, leastMovedPartitions(before, c.weights), movedPartitions(before, c.owners))
			read, err := readOwners(textsOf(before, len(c.weights)), len(before))
			require.NoError(t, err)
			require.Equal(t, c.owners, balancePartitions(read, c.weights), "a coordinator that has read the plan")
		}
	})
}

// agedCrowd has been through 200 changes, one after another.
func agedCrowd(partitions, members, heaviest int, seed uint64) *crowd {
	draw := rand.New(rand.NewPCG(seed, 0)).IntN
	weight := func() int { return 1 + draw(heaviest) }
	c := newCrowd(partitions, members, weight)
	for i := range 200 {
		switch i % 4 {
		case 0:
			c.join(draw(members+1), weight())
		case 2:
			c.leave(draw(members + 1))
		default:
			c.weights[draw(len(c.weights))] = weight()
		}
		c.balance()
	}
	return c
}

func BenchmarkBalancePartitions(b *testing.B) {
	for _, size := range []struct{ members, partitions int }{{10, 256}, {1000, 4096}, {1000, 1 << 16}} {
		c := agedCrowd(size.partitions, size.members, 8, 1)
		c.join(size.members/2, 4)
		b.Run(fmt.Sprintf("%d members and a newcomer, %d partitions", size.members, size.partitions), func(b *testing.B) {
			b.ReportAllocs()
			var after []int
			for b.Loop() {
				after = balancePartitions(c.owners, c.weights)
			}
			b.ReportMetric(float64(movedPartitions(c.owners, after)), "moved")
		})
	}
}
