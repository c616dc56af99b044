package libcluster

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// machine has clocks, and a process that stands still or sleeps before a reading.
type machine struct {
	monotonic, asleep time.Duration
	readings          int
	stalls, sleeps    map[int]time.Duration // before the reading of that number
}

func (m *machine) read(clock int32) time.Duration {
	m.readings++
	m.monotonic += time.Microsecond + m.stalls[m.readings]
	m.asleep += m.sleeps[m.readings]
	if clock == unix.CLOCK_BOOTTIME {
		return m.monotonic + m.asleep
	}
	return m.monotonic
}

func TestSleepIsToldFromStandingStill(t *testing.T) {
	for _, begins := range []time.Duration{0, time.Hour, -time.Hour} {
		for at := range 12 {
			still := &machine{asleep: begins, stalls: map[int]time.Duration{at: time.Second}}
			meter := newSleepMeter()
			first := meter.look(still.read)
			for range 4 {
				require.Less(t, meter.look(still.read)-first, shortestSleep, "it stood still before reading %d", at)
			}
			for _, nap := range []time.Duration{2 * shortestSleep, time.Hour} {
				slept := &machine{asleep: begins, sleeps: map[int]time.Duration{at: nap}}
				meter := newSleepMeter()
				first, last := meter.look(slept.read), time.Duration(0)
				sleepsLater := at > 0 && slept.asleep == begins // and not before the first look has ended
				for range 4 {
					last = meter.look(slept.read) - first
				}
				if sleepsLater {
					require.Greater(t, last, nap-shortestSleep, "it slept before reading %d", at)
				}
			}
		}
	}
}

func TestAwakeTwoReadingsAreEnough(t *testing.T) {
	m, meter := &machine{asleep: time.Hour}, newSleepMeter()
	meter.look(m.read)
	m.readings = 0
	for range 100 {
		meter.look(m.read)
	}
	require.Equal(t, 200, m.readings)
}

func BenchmarkClock(b *testing.B) {
	for b.Loop() {
		now()
	}
}
