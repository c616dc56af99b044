package libcluster

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What a member makes of a plan follows from the plan, the view before and a few values.
func TestViewFollowsFromThePlanAndTheViewBefore(t *testing.T) {
	here, former := &incarnation{}, &incarnation{}
	plans := func(committed bool) *plan {
		return &plan{mode: ModeExclusive, committed: committed, total: 5, generation: 7}
	}
	line := func(index int) *planned {
		return &planned{Assignment: Assignment{Member: Member{ID: "a", Workers: 2}, Index: index}}
	}
	acting := &view{inc: here, state: State{Index: 1, Workers: 2, Total: 4, Generation: 6}, plan: &planView{revision: 40, generation: 6}}
	for _, c := range []struct {
		name   string
		of     listener
		h      heard
		before *view
		state  State
		why    error
		stops  bool // it is waited for
		spare  bool
	}{
		{name: "there is no plan yet", state: State{Index: -1, Workers: 2}, why: ErrWaiting},
		{
			name: "the plan is lost, and a former incarnation knew of one", of: listener{known: &knownPlan{generation: 6}},
			before: &view{inc: former, state: State{Index: 1, Workers: 2, Total: 4, Generation: 6}},
			state:  State{Index: -1, Workers: 2, Generation: 6}, why: ErrWaiting,
		},
		{name: "the plan is lost while it acts", before: acting, state: acting.state},
		{name: "a committed plan names it", h: heard{plan: plans(true), own: line(3)}, state: State{Index: 3, Workers: 2, Total: 5, Generation: 7}},
		{name: "a committed plan does not name it", h: heard{plan: plans(true)}, state: State{Index: -1, Workers: 2, Total: 5, Generation: 7}, why: ErrWaiting},
		{
			name: "a committed plan does not name it, since it drains", of: listener{drains: true}, h: heard{plan: plans(true)}, before: acting,
			state: State{Index: -1, Workers: 2, Total: 5, Generation: 7}, why: errIdle, spare: true,
		},
		{
			name: "it has to stop", h: heard{plan: plans(false), own: line(3)}, before: acting,
			state: State{Index: -1, Workers: 2, Total: 3, Generation: 7}, why: ErrWaiting, stops: true,
		},
		{
			name: "it has to stop, and has had nothing", h: heard{plan: plans(false), own: line(-1)},
			state: State{Index: -1, Workers: 2, Total: 5, Generation: 7}, why: ErrWaiting, stops: true,
		},
		{name: "it is passive", of: listener{passive: true}, h: heard{plan: plans(true)}, state: State{Index: -1, Workers: 2, Total: 5, Generation: 7}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := c.before
			if before == nil {
				before = &view{}
			}
			c.of.inc, c.of.workers = here, 2
			v := c.of.viewOf(c.h, &Planning{Plan: []byte("text"), Revision: 41, Coordinator: []byte("says")}, before)
			require.Same(t, here, v.inc)
			require.Equal(t, c.state, v.state)
			require.Equal(t, c.why, v.why)
			require.Equal(t, c.spare, v.plan.spare)
			require.Equal(t, "says", string(v.plan.coordinator))
			if c.stops {
				require.Equal(t, &prepare{41, 7}, v.plan.prepare)
			} else {
				require.Nil(t, v.plan.prepare)
			}
		})
	}
}

// A token is the generation by which a partition was granted, and grows only with that.
func TestViewKeepsTokensOfPartitionsThatStay(t *testing.T) {
	here := &incarnation{}
	of := listener{inc: here, workers: 1}
	hears := func(generation int64, keeps, releases partitionSet, before *view) *view {
		p := &plan{mode: ModeCooperative, committed: len(releases) == 0, total: 8, generation: generation}
		own := &planned{Assignment: Assignment{Member: Member{ID: "a", Workers: 1}, Index: keeps.first(), held: keeps}, releases: releases}
		return of.viewOf(heard{plan: p, own: own}, &Planning{Revision: generation}, before)
	}
	first := hears(7, partitionSet{{0, 4}}, nil, &view{})
	require.NoError(t, first.why)
	require.Nil(t, first.plan.prepare)
	second := hears(8, partitionSet{{0, 2}}, partitionSet{{2, 4}}, first)
	require.Equal(t, &prepare{8, 8}, second.plan.prepare)
	require.Equal(t, "0-1", second.state.held.partitions().String())
	require.True(t, second.mayActOn(Partition{Number: 3, Token: 7}, nil), "it has not said yet that it has stopped")
	of.stopped = &stopped{prepare{8, 8}, ""}
	third := hears(9, partitionSet{{0, 2}, {5, 6}}, nil, second)
	for number, token := range map[int]int64{0: 7, 1: 7, 5: 9} {
		require.True(t, third.mayActOn(Partition{Number: number, Token: token}, of.stopped), "partition %d", number)
	}
	require.False(t, third.mayActOn(Partition{Number: 3, Token: 7}, of.stopped))
}
