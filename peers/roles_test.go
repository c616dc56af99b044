//go:build faults && linux

package peers_test

import (
	"flag"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var stops = flag.String("stops", "1s,5s", "for how long the leader is stopped, with commas between")

// What is told is how long it took; what is asserted is that in exclusive mode no two have
// acted at once, and that all come back.
func TestEachRoleIsKilled(t *testing.T) {
	for _, mode := range []string{"direct", "exclusive"} {
		for role, pick := range roles {
			t.Run(mode+" "+role, func(t *testing.T) {
				all := spawnAll(t, mode, files(t, 3, nil)...)
				ran := slices.Clone(all) // those that were killed, too
				var took []time.Duration
				for range *trials {
					active(t, all...)
					settled(t, all...)
					victim := pick(t, all)
					rest := without(victim, all)
					began := time.Now()
					victim.kill()
					active(t, rest...)
					took = append(took, knownAt(rest...).Sub(began))
					if mode == "exclusive" {
						require.Zero(t, overlap(rest...))
					}
					again := spawn(t, victim.file, mode)
					all, ran = append(rest, again), append(ran, again)
				}
				active(t, all...)
				onePrimary(t, ran...)
				slices.Sort(took)
				t.Logf("known to the others after: least %v, median %v, most %v, of %d",
					took[0], took[len(took)/2], took[len(took)-1], len(took))
			})
		}
	}
}

// knownAt is when the last of the processes learnt of the state that it is in.
func knownAt(all ...*process) (last time.Time) {
	for _, p := range all {
		if e, _ := p.last("state"); e.At.After(last) {
			last = e.At
		}
	}
	return last
}

func TestLeaderThatIsStoppedNeverActsBesideAnother(t *testing.T) {
	for duration := range strings.SplitSeq(*stops, ",") {
		d, err := time.ParseDuration(duration)
		require.NoError(t, err)
		t.Run(duration, func(t *testing.T) {
			all := spawnAll(t, "exclusive", files(t, 3, nil)...)
			active(t, all...)
			for range *trials {
				victim := leader(t, all...)
				victim.signal(t, syscall.SIGSTOP)
				time.Sleep(d) // this is the fault
				victim.signal(t, syscall.SIGCONT)
				active(t, all...)
			}
			require.Zero(t, overlap(all...))
			onePrimary(t, all...)
		})
	}
}
