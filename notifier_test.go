package libcluster

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatTheApplicationIsToldNext(t *testing.T) {
	first, second := new(incarnation), new(incarnation)
	place := func(index int) State { return State{Index: index, Workers: 1, Total: 3} }
	none := State{Index: -1, Workers: 1, Total: 2}
	knows := func(inc *incarnation, state State) told { return told{any: true, state: state, of: inc} }
	for _, c := range []struct {
		name             string
		told             told
		inc              *incarnation
		state            State
		why              error
		leaving, passive bool
		call             bool
		after            State
	}{
		{name: "nothing before there is a place", inc: first, state: none, why: ErrWaiting},
		{name: "its first place", inc: first, state: place(1), call: true, after: place(1)},
		{name: "the total, if it is passive", inc: first, state: none, passive: true, call: true, after: none},
		{name: "nothing if it leaves before it has been told anything", inc: first, state: place(1), leaving: true},
		{name: "nothing twice", told: knows(first, place(1)), inc: first, state: place(1), after: place(1)},
		{name: "another place", told: knows(first, place(1)), inc: first, state: place(0), call: true, after: place(0)},
		{name: "that its place is lost", told: knows(first, place(1)), inc: first, state: none, why: ErrDeadlinePassed, call: true, after: none},
		{
			name: "that the lost place is lost, before it is told the next one",
			told: knows(first, place(1)), inc: second, state: place(1), call: true, after: none,
		},
		{name: "its next place", told: knows(second, none), inc: second, state: place(1), call: true, after: place(1)},
		{
			name: "nothing of the others while it waits",
			told: knows(first, none), inc: first, state: State{Index: -1, Workers: 1, Total: 7}, why: ErrWaiting, after: none,
		},
		{name: "that it has to stop for a plan", told: knows(first, place(1)), inc: first, state: none, why: ErrWaiting, call: true, after: none},
		{name: "that its ID is taken, though it has no place", told: knows(first, none), inc: first, state: none, why: ErrInstanceTaken, call: true, after: none},
	} {
		t.Run(c.name, func(t *testing.T) {
			after, call := c.told.next(c.inc, c.state, c.why, c.leaving, c.passive)
			require.Equal(t, c.call, call)
			if c.after == (State{}) {
				require.Equal(t, told{}, after, "it knows no more than before")
				return
			}
			require.True(t, after.state.sameTo(c.after), fmt.Sprint(after.state))
			again, call := after.next(c.inc, after.state, c.why, c.leaving, c.passive)
			require.False(t, call, "twice the same")
			require.Equal(t, after.state, again.state)
		})
	}
}
