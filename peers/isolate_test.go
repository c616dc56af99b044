//go:build faults && linux

package peers_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// roles say which of three instances is cut off.
var roles = map[string]func(testing.TB, []*process) *process{
	"primary": func(t testing.TB, all []*process) *process { return primaryOf(t, all...) },
	"leader":  func(t testing.TB, all []*process) *process { return leader(t, all...) },
	"follower": func(t testing.TB, all []*process) *process {
		for _, p := range all {
			if p != primaryOf(t, all...) && !leads(p) {
				return p
			}
		}
		return all[2]
	},
}

// An instance that is cut off stops acting before another may act in its place, and when it
// comes back nothing moves that need not.
func TestIsolatedInstanceNeverActsBesideAnother(t *testing.T) {
	for _, mode := range []string{"exclusive", "direct"} {
		for role, pick := range roles {
			for _, way := range []string{"both ways", "outward", "inward"} {
				t.Run(mode+" "+role+" "+way, func(t *testing.T) {
					isolate(t, mode, pick, way)
				})
			}
		}
	}
}

func isolate(t *testing.T, mode string, pick func(testing.TB, []*process) *process, way string) {
	net := newNetwork(t, 3)
	all := net.spawnAll(t, mode)
	active(t, all...)
	settled(t, all...)
	victim, primary := pick(t, all), primaryOf(t, all...)
	rest := without(victim, all)
	began := time.Now()
	switch way {
	case "both ways":
		net.cut(victim)
	case "outward":
		net.drop(victim)
	case "inward":
		net.deafen(victim)
	}
	active(t, rest...)
	idles(t, victim)
	stopped, _ := victim.last("state")
	next, _ := primaryOf(t, rest...).last("state")
	if victim != primary {
		require.Same(t, primary, primaryOf(t, rest...))
	}
	t.Logf("the victim knew after %v, the others after %v", stopped.At.Sub(began), next.At.Sub(began))
	after := leader(t, rest...)
	mended := time.Now()
	net.mend(victim)
	net.pass(victim)
	active(t, all...)
	if is := leader(t, all...); is != after && is == victim {
		t.Log("the instance that returned leads")
	}
	require.Zero(t, overlapIn(began, mended, all...))
	if mode == "exclusive" {
		require.Zero(t, overlap(all...)) // also when the index moves with no need
	}
	onePrimary(t, all...)
}

func TestLateWriteOfAPrimaryThatWasCutOffIsRefused(t *testing.T) {
	net := newNetwork(t, 3)
	lateWrite(t, net.spawnAll(t, "exclusive"), net.cut, net.mend)
}

func TestNobodyActsWithoutAMajority(t *testing.T) {
	net := newNetwork(t, 3)
	all := net.spawnAll(t, "exclusive")
	active(t, all...)
	for _, p := range all {
		net.cut(p)
	}
	idles(t, all...)
	for _, p := range all {
		net.mend(p)
	}
	active(t, all...)
	require.Zero(t, overlap(all...))
}

func TestLossKeepsTwoApart(t *testing.T) {
	net := newNetwork(t, 3)
	all := net.spawnAll(t, "exclusive")
	active(t, all...)
	for _, p := range all {
		net.drop(p, "-m", "statistic", "--mode", "random", "--probability", "0.3")
	}
	time.Sleep(30 * time.Second) // it is weather, and nothing is waited for
	fences := 0
	for _, p := range all {
		for _, e := range p.all() {
			if e.Kind == "idle" {
				fences++
			}
		}
	}
	for _, p := range all {
		net.pass(p)
	}
	active(t, all...)
	t.Log("in 30 s of 30 % loss the primary stopped", fences, "times")
	require.Zero(t, overlap(all...))
	onePrimary(t, all...)
}
