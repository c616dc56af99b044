//go:build linux && faults

package faults_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// boot reads CLOCK_BOOTTIME: one clock for all processes of this machine.
func boot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err) // no Linux of this century
	}
	return time.Duration(ts.Nano())
}

// await looks again and again until a condition holds, and returns how long
// that took. What is told of a failure is what, which may be a func() string.
func await(t *testing.T, bound time.Duration, what any, holds func() bool) time.Duration {
	t.Helper()
	begin := boot()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if boot()-begin > bound {
			if explain, ok := what.(func() string); ok {
				what = explain()
			}
			require.FailNow(t, "waited in vain", "for %v: %v", bound, what)
		}
		<-tick.C
	}
	return boot() - begin
}

// lasts lets a fault last: its time is what is tested, not what is waited for.
func lasts(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

// awaitWhole waits until all members are active, in one generation, their ranges
// tile the total, and they have been told, and returns how long that took.
func awaitWhole(t *testing.T, bound time.Duration, members []*member) time.Duration {
	t.Helper()
	return await(t, bound, func() string {
		var all strings.Builder
		all.WriteString("not all members are active in one generation:")
		for _, m := range members {
			s := m.State()
			fmt.Fprintf(&all, "\n%s: %s, index %d of %d, generation %d, told %v, %v",
				m.ID(), m.Phase(), s.Index, s.Total, s.Generation, m.hasHeard(s), m.Err())
		}
		return all.String()
	}, func() bool { return whole(members) })
}

func whole(members []*member) bool {
	total := 0
	for _, m := range members {
		total += m.workers
	}
	holders := make([]bool, total)
	generation := members[0].State().Generation
	for _, m := range members {
		s := m.State()
		if !s.Active() || s.Total != total || s.Generation != generation || s.Index+s.Workers > total || !m.hasHeard(s) {
			return false
		}
		for w := s.Index; w < s.Index+s.Workers; w++ {
			if holders[w] {
				return false
			}
			holders[w] = true
		}
	}
	return true
}
