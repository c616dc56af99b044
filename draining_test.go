package libcluster

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// An assignment that is reserved for an instance that has left does no work.
func TestIfOnlyReservedAssignmentsAreLeftTheDrainingInstancesServe(t *testing.T) {
	kept, drains := recorded("a", "1", 1, 0), recorded("b", "2", 1, 0)
	kept.reserved = true
	drains.plans.draining = true
	for _, c := range []struct {
		members []Recorded
		serving int
	}{
		{[]Recorded{kept, drains}, 2},
		{[]Recorded{drains}, 1},
		{[]Recorded{kept, drains, recorded("c", "3", 1, 0)}, 2},
	} {
		p := &plan{mode: ModeExclusive}
		p.commit(&plan{}, c.members)
		require.Len(t, p.lines, c.serving)
	}
}

// Anybody may write below a cluster's key.
func TestOnlySoManyAreDrained(t *testing.T) {
	var now Planning
	for n := range mostDraining - 10 {
		now.Draining = append(now.Draining, fmt.Sprintf("%05d", n))
	}
	for n := range 20 {
		now.reflectDraining(fmt.Sprint("one more ", n), false)
	}
	require.Equal(t, mostDraining, len(now.Draining))
	now.reflectDraining("00000", true)
	now.reflectDraining("another", false)
	require.True(t, now.drains("another"))
}

func TestWhatOperatorsDrainIsKeptByIDAndSharedWithNobody(t *testing.T) {
	var now Planning
	for _, id := range []string{"b", "a", "b", "a/b", "", "c"} {
		now.reflectDraining(id, false)
	}
	before := now
	require.Equal(t, []string{"a", "b", "c"}, before.Draining)
	now.reflectDraining("b", true)
	now.reflectDraining("nobody", true)
	require.Equal(t, []string{"a", "c"}, now.Draining)
	require.Equal(t, []string{"a", "b", "c"}, before.Draining, "readers have the one before")
	require.True(t, now.drains("c"))
	require.False(t, now.drains("b"))
}
