package libcluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A coordinator in mode planned, with one that is always there and others that come and go.
func TestNewcomersWaitLongerEachTime(t *testing.T) {
	const ttl = 10 * time.Second
	d := deciding{scheme: scheme{mode: ModePlanned}, incarnation: "1", damping: damping{ttl: ttl}}
	healthy := recorded("healthy", "1", 1, 0)
	healthy.plans.mode = ModePlanned
	var s Survey
	now := time.Duration(0)
	decides := func(members ...Recorded) {
		s.Members = append([]Recorded{healthy}, members...)
		if next := d.decide(s, later(now), 0).next; next != nil {
			s.Plan = next.encode()
			s.Planning.Revision++
		}
	}
	n := 1
	// waits has one come, and returns after how long it gets a place. Then it vanishes.
	waits := func() (waited time.Duration) {
		n++
		m := recorded(fmt.Sprint("m", n), fmt.Sprint(n), 1, 0)
		m.plans.mode = ModePlanned
		for decides(m); ; decides(m) {
			p, err := parsePlan(s.Plan)
			require.NoError(t, err)
			if p.total == 2 {
				break
			}
			require.Positive(t, d.held)
			now += time.Second
			waited += time.Second
		}
		now += time.Second
		decides()
		return waited
	}
	decides()
	var all []time.Duration
	for range 5 {
		all = append(all, waits())
	}
	require.Equal(t, []time.Duration{0, 0, 2 * ttl, 4 * ttl, 6 * ttl}, all)
	now += calmTTLs * ttl
	decides()
	require.Zero(t, waits(), "all is calm")

	s.Members = nil
	again := deciding{scheme: scheme{mode: ModePlanned}, incarnation: "1", damping: d.damping}
	again.level = 3
	m := recorded("alone", "9", 1, 0)
	m.plans.mode = ModePlanned
	s.Members = []Recorded{m}
	require.Equal(t, 1, again.decide(s, later(now), 0).next.total, "nobody else is there")
}
