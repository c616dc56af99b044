//go:build faults && linux

package peers_test

import (
	"flag"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var outages = flag.String("outages", "1s,15s", "for how long all are cut off from one another, with commas between")

const (
	// ttl is the default of peers, and window the part of it for which an instance may act.
	ttl    = 3 * time.Second
	window = ttl * 6 / 10
)

// cutAll cuts all off from one another.
func (n *network) cutAll(all []*process) {
	for _, p := range all {
		n.cut(p)
	}
}

func (n *network) mendAll(all []*process) {
	for _, p := range all {
		n.mend(p)
	}
}

// stopped waits until a process does not act, and returns the last look by which it did.
func stopped(t *testing.T, p *process) time.Time {
	t.Helper()
	idles(t, p)
	eventually(t, p.id+" has looked", func() bool {
		acts, _ := p.last("acts")
		idle, _ := p.last("idle")
		return !acts.At.After(idle.At)
	})
	acting := p.acting()
	return acting[len(acting)-1][1]
}

// How long it takes until all are back is told only.
func TestAllAreBackSoonAfterAnOutageOfAnyLength(t *testing.T) {
	for length := range strings.SplitSeq(*outages, ",") {
		d, err := time.ParseDuration(length)
		require.NoError(t, err)
		for _, mode := range []string{"direct", "exclusive"} {
			t.Run(mode+" "+length, func(t *testing.T) {
				net := newNetwork(t, 3)
				all := net.spawnAll(t, mode)
				var took []time.Duration
				for range *trials {
					active(t, all...)
					primary := primaryOf(t, all...)
					net.cutAll(all)
					cut := time.Now()
					time.Sleep(d) // this is the fault
					if d > ttl {
						idles(t, all...)
						require.LessOrEqual(t, stopped(t, primary).Sub(cut), window, "the primary has acted for too long")
					}
					mended := time.Now()
					net.mendAll(all)
					active(t, all...)
					took = append(took, max(0, knownAt(all...).Sub(mended)))
				}
				require.Zero(t, overlap(all...))
				onePrimary(t, all...)
				t.Log("all are back after:", times(took))
			})
		}
	}
}

// statesOf are those of which a process was told.
func statesOf(p *process) []event {
	return slices.DeleteFunc(p.all(), func(e event) bool { return e.Kind != "state" })
}

func TestKeepOnOutageGoesOnWithItsPlace(t *testing.T) {
	const mode = "direct 3s keeping"
	t.Run("all are cut off", func(t *testing.T) {
		net := newNetwork(t, 3)
		all := net.spawnAll(t, mode)
		active(t, all...)
		settled(t, all...)
		told := states(all...)
		net.cutAll(all)
		time.Sleep(2 * ttl) // this is the fault
		active(t, all...)
		net.mendAll(all)
		// Nobody could end a record, and so nobody has lost its place. There has to be a change, to
		// know that all are back.
		all[2].order(t, "grow")
		for _, p := range all {
			eventually(t, p.id+" knows of the change", func() bool { e, _ := p.last("state"); return e.Total == 4 })
		}
		require.Equal(t, told+len(all), states(all...), "they were called back for more than the change")
	})
	t.Run("one is cut off", func(t *testing.T) {
		net := newNetwork(t, 3)
		all := net.spawnAll(t, mode)
		active(t, all...)
		settled(t, all...)
		victim := roles["follower"](t, all)
		told := states(victim)
		rest := without(victim, all)
		net.cut(victim)
		active(t, rest...) // its record has gone
		time.Sleep(time.Second)
		require.Equal(t, told, states(victim), "it was called back while it was cut off")
		net.mend(victim)
		eventually(t, "it is told that it has lost its place", func() bool { return states(victim) > told })
		require.Equal(t, -1, statesOf(victim)[told].Index)
		active(t, all...)
	})
}
