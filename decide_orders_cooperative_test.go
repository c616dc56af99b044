package libcluster

import (
	"math/bits"
	"testing"

	"github.com/stretchr/testify/require"
)

// A small cluster in mode cooperative: three members, four partitions and two changes. A
// member begins with what a plan grants as soon as it hears of it. What it is to release it
// stops one by one, as late as it likes, and says each time what is left.

// smallSet is some of at most eight partitions.
type smallSet uint8

func smallSetOf(set partitionSet) (s smallSet) {
	for n := range set.all() {
		s |= 1 << n
	}
	return s
}

func (s smallSet) set() (set partitionSet) {
	for n := range 8 {
		if s&(1<<n) != 0 {
			set = set.grow(span{n, n + 1})
		}
	}
	return set
}

func (s smallSet) String() string { return s.set().String() }

// hold has a member act as its line says, and go on for now with what it is to stop.
func (s *small) hold(m int, own *planned, before smallPlace) {
	member := &s.members[m]
	holds := smallSetOf(own.held)
	member.acts = smallPlace{index: -1, holds: holds, stops: (before.holds | before.stops) &^ holds}
	s.say(m)
}

// hasHeard tells whether a line of a plan changes nothing for a member: it begins with
// nothing new and, if the plan is the latest, it has nothing to stop either.
func (m smallMember) hasHeard(own *planned, latest bool) bool {
	if own == nil {
		return !latest || m.acts == nowhere
	}
	holds := smallSetOf(own.held)
	return holds&^m.acts.holds == 0 && (!latest || holds == m.acts.holds && len(own.releases) == 0)
}

// stopOne has a member stop its lowest partition of those that are to be stopped, and say so.
func (s *small) stopOne(m int) {
	acts := &s.members[m].acts
	acts.stops &= acts.stops - 1
	s.say(m)
}

// say notes what a member has stopped. It has no effect if there is another plan by now, or no
// record.
func (s *small) say(m int) {
	member := s.members[m]
	p, own, err := findPlanned([]byte(s.plans[member.seen-1]), member.incarnation)
	if err != nil || own == nil || len(own.releases) == 0 || !member.recorded || member.seen != len(s.plans) {
		return
	}
	s.drained[member.incarnation] = p.generation
	s.remaining[member.incarnation] = (member.acts.stops & smallSetOf(own.releases)).String()
}

// isShared reports whether all partitions are worked on as the last plan says, in fair shares.
func (s *small) isShared(p *plan) bool {
	all, workers := smallSet(0), 0
	for i, m := range s.members {
		if m.recorded {
			all |= m.acts.holds
		}
		if s.serves(i) {
			workers += m.workers
		}
	}
	for i, m := range s.members {
		off := bits.OnesCount8(uint8(m.acts.holds)) * workers
		if s.serves(i) {
			off -= p.total * m.workers
		}
		if m.recorded && (m.acts.stops != 0 || off <= -workers || off >= workers) {
			return false
		}
	}
	return all == smallSetOf(allPartitions(p.total))
}

// smallCooperative is at work: a has 0 and 1, and each of the others one partition.
func smallCooperative(changes ...change) small {
	const partitions = 4
	s := newSmall(scheme{ModeCooperative, partitions}, changes)
	p := plan{mode: ModeCooperative, committed: true, generation: 1, total: partitions}
	for i, held := range []partitionSet{{{0, 2}}, {{2, 3}}, {{3, 4}}} {
		id := string(rune('a' + i))
		s.enter(id, 1)
		p.lines = append(p.lines, planned{
			incarnation: s.members[i].incarnation, window: window(DefaultTTL),
			Assignment: Assignment{Member: Member{ID: id, Workers: 1}, Index: held.first(), held: held},
		})
	}
	s.begin(p)
	return s
}

func TestEveryOrderOfEventsKeepsTwoOffOnePartition(t *testing.T) {
	changes := []change{joins("d"), vanishes("a"), restarts("b"), grows("c"), leaves("c"), rejoins("a"), drains("c")}
	total := everyOrder(t, changes, smallCooperative)
	require.Greater(t, total, 10_000, "most of them have been left out")
}
