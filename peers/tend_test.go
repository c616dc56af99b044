package peers

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLeadershipGoesToAPeerThatMayTakeIt(t *testing.T) {
	now := time.Now()
	voters := []string{"a", "b", "c", "d", "e"}
	heard := map[string]word{"b": {Primary: true}, "c": {}, "d": {}, "e": {Leaving: true}} // a is this peer, or silent
	m := moves{}
	asks := func(want string) {
		t.Helper()
		got, _ := m.candidate(voters, heard, now)
		require.Equal(t, want, got)
	}
	asks("c")
	m.failed("c", now)
	asks("d")
	m.failed("d", now)
	asks("")
	now = now.Add(moveAgain)
	asks("c")
}

func TestPeerThatDoesNotTakeTheLeadershipIsAskedLessAndLess(t *testing.T) {
	now := time.Now()
	m := moves{}
	var waits []time.Duration
	for range 7 {
		m.failed("a", now)
		waits = append(waits, m["a"].until.Sub(now)/time.Second)
	}
	require.Equal(t, []time.Duration{1, 2, 4, 8, 16, 30, 30}, waits)
}
