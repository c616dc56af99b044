//go:build faults && linux

package peers_test

import (
	"flag"
	"fmt"
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
					var known time.Duration
					all, known = killed(t, mode, pick, all)
					took = append(took, known)
					last := len(all) - 1 // it has been started again
					if mode == "exclusive" {
						require.Zero(t, overlap(all[:last]...))
					}
					ran = append(ran, all[last])
				}
				active(t, all...)
				onePrimary(t, ran...)
				t.Log("known to the others after:", times(took))
			})
		}
	}
}

// killed kills the process that has a role, and starts it again, as the last of all. It returns how
// long the others took to know.
func killed(t testing.TB, mode string, pick func(testing.TB, []*process) *process, all []*process) ([]*process, time.Duration) {
	active(t, all...)
	settled(t, all...)
	victim := pick(t, all)
	rest := without(victim, all)
	began := time.Now()
	victim.kill()
	active(t, rest...)
	took := knownAt(rest...).Sub(began)
	return append(rest, spawn(t, victim.file, mode)), took
}

// times tells of several times.
func times(all []time.Duration) string {
	all = slices.Sorted(slices.Values(all))
	for i, d := range all {
		all[i] = d.Round(time.Millisecond)
	}
	return fmt.Sprintf("median %v, %v to %v, of %d", all[len(all)/2], all[0], all[len(all)-1], len(all))
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
