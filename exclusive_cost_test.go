package libcluster_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

var allModes = []libcluster.Mode{
	libcluster.ModeDirect, libcluster.ModePlanned, libcluster.ModeExclusive, libcluster.ModeCooperative,
}

// most is what one change may cost n members that are there already, in mode planned
// and exclusive. Planned: the newcomer's record and the next plan; everybody hears of
// the plan, and the coordinator of the record. Exclusive: a plan more, and of everybody
// that it has stopped, of which the coordinator hears. Cooperative: the same of those that
// give something, at most as many as a newcomer of two workers has partitions.
var most = map[libcluster.Mode]struct {
	writes     func(n int) int
	deliveries func(n int) int
}{
	libcluster.ModePlanned:   {func(int) int { return 5 }, func(n int) int { return n + 5 }},
	libcluster.ModeExclusive: {func(n int) int { return n + 5 }, func(n int) int { return 3*n + 5 }},
	libcluster.ModeCooperative: {
		func(n int) int { return min(n, 2*partitionsHere/n) + 5 },
		func(n int) int { return 2*n + min(n, 2*partitionsHere/n) + 5 },
	},
}

// partitionsHere is how many there are in mode cooperative.
const partitionsHere = 400

func TestAChangeCostsOneMessageOrThreeForEachMember(t *testing.T) {
	for _, mode := range allModes {
		for _, n := range []int{10, 100} {
			t.Run(fmt.Sprint(mode, " ", n), func(t *testing.T) {
				inBubble(t, func(b *bubble) {
					in := func(c *libcluster.Config) { c.Mode = mode }
					if mode == libcluster.ModeCooperative {
						in = cooperative(partitionsHere)
					}
					var joining sync.WaitGroup
					for i := range n {
						c := b.instance(fmt.Sprintf("m%03d", i), in)
						joining.Go(func() { c.Join(context.Background()) })
					}
					joining.Wait()
					wait(5 * time.Second)
					all := b.counted("all join at once", mode, n, nil)

					var newcomer *libcluster.Cluster
					join := b.counted("one joins", mode, n, func() { newcomer = b.member("z", in) })
					require.Len(t, newcomer.Members(), n+1)
					workers := b.counted("one has more workers", mode, n, func() { newcomer.SetWorkers(context.Background(), 2) })
					leave := b.counted("one leaves", mode, n, func() { newcomer.Leave(context.Background()) })
					if mode == libcluster.ModeDirect {
						return
					}
					if mode != libcluster.ModeCooperative { // there it depends on how many come before the first plan
						require.LessOrEqual(t, all.Writes, 2*n+5)
						// Which instance coordinates is news then, too, and to that one each that comes.
						require.LessOrEqual(t, all.Deliveries, 5*n+5)
					}
					for what, cost := range map[string]libclustertest.Counts{"join": join, "workers": workers, "leave": leave} {
						// The instance that has changed is a member, too.
						require.LessOrEqual(t, cost.Writes, most[mode].writes(n+1), what)
						require.LessOrEqual(t, cost.Deliveries, most[mode].deliveries(n+1), what)
					}
				})
			})
		}
	}
}

// counted returns what a change has cost, without renewals.
func (b *bubble) counted(what string, mode libcluster.Mode, n int, change func()) libclustertest.Counts {
	var before libclustertest.Counts
	if change != nil {
		before = b.Counts()
		change()
		wait(time.Second)
	}
	now := b.Counts()
	cost := libclustertest.Counts{
		Writes: now.Writes - before.Writes, Reads: now.Reads - before.Reads, Deliveries: now.Deliveries - before.Deliveries,
	}
	b.Logf("%-9v %3d members, %-20s: %5d writes, %5d deliveries, %4d reads of all", mode, n, what, cost.Writes, cost.Deliveries, cost.Reads)
	return cost
}
