package libcluster

import (
	"flag"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A small cluster in exclusive mode, of which every order of events is tried. What
// coordinators decide is the real thing, and members are as simple as can be: three
// are at work when it begins, and then two changes happen, at any time.
//
// A member hears of a plan as late as it likes, or not of all, and then does at once
// what the plan says: to stop earlier and to say so later would only keep the others
// waiting. There are two coordinators, of which one may stand still between its survey
// and its swap for as long as it likes, and the other may be replaced by one that
// remembers nothing.
//
// Time goes on by about half of what one who has vanished is waited for. By its own
// deadline such a one may act for less than two of these. One that has not heard yet that
// it is to stop may be taken for dead after one, and so places are given anew. That can
// go on: five plans are what it takes once, from a commit to the one for those that came.
// The gate searches as far as that (-most-plans), and go test by itself not so far.
const halfWait = 4 * time.Second

// small is one state of it. It is copied, never changed.
type small struct {
	plans     []string // the revision of each is its number, from 1
	members   []smallMember
	drained   map[string]int64
	remaining map[string]string
	leaders   [2]smallLeader
	changes   []change // that have not happened yet
	half      int      // how often time has gone on
	restart   bool     // a coordinator may yet forget all that it knew
	scheme    scheme
}

// smallMember is one incarnation.
type smallMember struct {
	id, incarnation string
	workers         int
	recorded        bool
	drains          bool
	gone            int  // when its record went
	over            bool // it acts no more, whatever it sees
	seen            int  // the revision of the plan that it has heard of last
	acts            smallPlace
}

// smallPlace is a range, or in mode cooperative partitions.
type smallPlace struct {
	index, workers, total int
	holds, stops          smallSet
}

var nowhere = smallPlace{index: -1}

func (x smallPlace) excludes(y smallPlace) bool {
	if x == nowhere || y == nowhere {
		return false
	}
	if x.total == 0 { // in mode cooperative
		return (x.holds|x.stops)&(y.holds|y.stops) != 0
	}
	return x.total != y.total || x.index < y.index+y.workers && y.index < x.index+x.workers
}

// smallLeader is a coordinator. Nobody says that there is only one.
type smallLeader struct {
	deciding
	revision int // of the plan that next is to replace
	next     *plan
}

// change is something that happens once, to one ID.
type change struct {
	what string // begins with the ID
	do   func(s *small, m int)
}

func (c change) String() string { return c.what }

func (c change) id() string { return strings.Fields(c.what)[0] }

func (s small) clone() small {
	s.plans, s.members = slices.Clip(s.plans), slices.Clone(s.members)
	s.drained, s.remaining = maps.Clone(s.drained), maps.Clone(s.remaining)
	s.changes = slices.Clip(s.changes)
	return s
}

func (s *small) at() moment { return later(time.Duration(s.half) * halfWait) }

// key says all that matters of a state.
func (s *small) key() string {
	var b []byte
	for _, p := range s.plans {
		b = append(append(b, p...), '/')
	}
	for _, m := range s.members {
		b = append(b, m.incarnation...)
		if m.over {
			b = append(b, 'o')
		}
		if !m.recorded {
			b = append(b, 'g', byte(m.gone))
		}
		if m.drains {
			b = append(b, 'd')
		}
		b = append(b, byte(m.workers), byte(m.seen), byte(m.acts.index), byte(m.acts.workers), byte(m.acts.total), byte(m.acts.holds), byte(m.acts.stops))
		b = append(append(strconv.AppendInt(b, s.drained[m.incarnation], 10), s.remaining[m.incarnation]...), '/')
	}
	for _, l := range s.leaders {
		b = append(b, 'l')
		for _, incarnation := range slices.Sorted(maps.Keys(l.gone)) {
			b = append(append(b, incarnation...), byte(l.gone[incarnation].mono.Sub(later(0).mono)/halfWait))
		}
		// Of a stall only what may yet matter: time ends before a change is late.
		for _, incarnation := range slices.Sorted(maps.Keys(l.silent)) {
			is := l.silent[incarnation]
			b = append(append(b, incarnation...), 's', byte(is.since.mono.Sub(later(0).mono)/halfWait), byte(is.generation))
		}
		if l.of[0] == int64(len(s.plans)) && s.at().mono.After(l.quiet.mono) {
			b = append(b, 'q', byte(l.of[1]))
		}
		if l.granting.plan == int64(len(s.plans)) && s.at().mono.After(l.granting.since.mono) {
			b = append(b, 'p')
		}
		if l.known != nil {
			b = append(b, 'k', byte(l.known.generation))
		}
		if l.next != nil {
			b = append(append(b, 'n', byte(l.revision)), l.next.encode()...)
		}
	}
	for _, c := range s.changes {
		b = append(b, c.what...)
	}
	b = append(b, byte(s.half))
	return string(strconv.AppendBool(b, s.restart))
}

func (s *small) survey() Survey {
	survey := Survey{Acknowledged: s.drained, Remaining: s.remaining}
	survey.Revision = 1
	if n := len(s.plans); n > 0 {
		survey.Plan, survey.Planning.Revision = []byte(s.plans[n-1]), int64(n)
	}
	for i, m := range s.members {
		if m.recorded {
			r := recorded(m.id, m.incarnation, m.workers, 0)
			r.Since, r.plans.scheme, r.plans.draining = int64(i+1), s.scheme, m.drains
			survey.Members = append(survey.Members, r)
		}
	}
	return survey
}

// live returns the newest incarnation of an ID.
func (s *small) live(id string) int {
	for i, m := range slices.Backward(s.members) {
		if m.id == id {
			return i
		}
	}
	return -1
}

func (s *small) enter(id string, workers int) {
	name := fmt.Sprint(len(s.members) + 1)
	s.members = append(s.members, smallMember{
		id: id, incarnation: name, workers: workers, recorded: true, acts: nowhere,
	})
}

// vanish takes the record away from an instance that goes on acting until its deadline.
func (s *small) vanish(m int) { s.members[m].recorded, s.members[m].gone = false, s.half }

// What may happen to a member.
func joins(id string) change {
	return change{id + " joins", func(s *small, _ int) { s.enter(id, 1) }}
}

func vanishes(id string) change {
	return change{id + " vanishes", func(s *small, m int) { s.vanish(m) }}
}

func restarts(id string) change {
	return change{id + " is started again", func(s *small, m int) {
		s.vanish(m)
		s.enter(id, s.members[m].workers)
	}}
}

func grows(id string) change {
	return change{id + " has more workers", func(s *small, m int) { s.members[m].workers++ }}
}

func drains(id string) change {
	return change{id + " drains", func(s *small, m int) { s.members[m].drains = true }}
}

func leaves(id string) change {
	return change{id + " leaves", func(s *small, m int) { s.stopFor(m) }}
}

func rejoins(id string) change {
	return change{id + " rejoins", func(s *small, m int) {
		s.stopFor(m)
		s.enter(id, s.members[m].workers)
	}}
}

// stopFor has a member stop for good, and say so.
func (s *small) stopFor(m int) {
	s.vanish(m)
	s.members[m].over, s.members[m].acts = true, nowhere
	s.drained[s.members[m].incarnation] = StoppedForGood
}

// hear has a member hear of a plan: stop and say so, or start. What it says has no
// effect if there is another plan by now, or no record.
func (s *small) hear(m, revision int) {
	member := &s.members[m]
	before := member.acts
	member.seen, member.acts = revision, nowhere
	p, own, err := findPlanned([]byte(s.plans[revision-1]), member.incarnation)
	switch {
	case err != nil:
		panic(err)
	case own == nil:
	case s.scheme.partitions > 0:
		s.hold(m, own, before)
	case p.committed:
		member.acts = smallPlace{index: own.Index, workers: own.Workers, total: p.total}
	case member.recorded && revision == len(s.plans):
		s.drained[member.incarnation] = p.generation
	}
}

func (s *small) decide(l int) {
	leader := &s.leaders[l]
	leader.next = leader.decide(s.survey(), s.at(), 0).next
	leader.revision = len(s.plans)
}

func (s *small) swap(l int) {
	leader := &s.leaders[l]
	if leader.next != nil && leader.revision == len(s.plans) {
		s.plans = append(slices.Clip(s.plans), string(leader.next.encode()))
		leader.known = leader.next
	}
	leader.next = nil
}

// pass has time go on. An instance that vanished the time before has passed its deadline by then.
func (s *small) pass() {
	s.half++
	for i := range s.members {
		if m := &s.members[i]; !m.recorded && s.half-m.gone >= 2 {
			m.over, m.acts = true, nowhere
		}
	}
}

// after returns every state that may come next.
func (s *small) after(latest int) (next []small, what []string) {
	step := func(name string, do func(*small)) {
		n := s.clone()
		do(&n)
		next, what = append(next, n), append(what, name)
	}
	for i, c := range s.changes {
		m := s.live(c.id())
		step(c.what, func(n *small) {
			n.changes = slices.Delete(slices.Clone(n.changes), i, i+1)
			c.do(n, m)
		})
	}
	for i, m := range s.members {
		if m.over {
			continue
		}
		for revision := m.seen + 1; revision <= len(s.plans); revision++ {
			if s.saysNothing(revision, m) {
				continue
			}
			step(fmt.Sprintf("%s (%s) hears of plan %d", m.id, m.incarnation, revision), func(n *small) { n.hear(i, revision) })
		}
		if m.acts.stops != 0 {
			step(fmt.Sprintf("%s (%s) stops one of %v", m.id, m.incarnation, m.acts.stops), func(n *small) { n.stopOne(i) })
		}
	}
	if len(s.plans) < *mostPlans {
		step("coordinator 0 decides and swaps", func(n *small) {
			n.decide(0)
			n.swap(0)
		})
		step("coordinator 1 decides", func(n *small) { n.decide(1) })
	}
	if s.leaders[1].next != nil && len(s.plans) < *mostPlans {
		step("coordinator 1 swaps", func(n *small) { n.swap(1) })
	}
	if s.restart {
		step("coordinator 0 is another one", func(n *small) { n.restart, n.leaders[0] = false, newSmallLeader(s.scheme) })
	}
	if s.half < latest {
		step("time goes on", func(n *small) { n.pass() })
	}
	return next, what
}

// saysNothing tells whether nothing can come of it that a member hears of a plan. To stop
// because of a plan that is over moves nobody.
func (s *small) saysNothing(revision int, m smallMember) bool {
	p, own, err := findPlanned([]byte(s.plans[revision-1]), m.incarnation)
	switch {
	case err != nil:
		panic(err)
	case s.scheme.partitions > 0:
		return m.hasHeard(own, revision == len(s.plans))
	}
	return revision < len(s.plans) && (own == nil || !p.committed)
}

func newSmallLeader(of scheme) smallLeader {
	return smallLeader{deciding: deciding{scheme: of, incarnation: "0"}}
}

// twoAtOnce returns two members that act at the same time and must not.
func (s *small) twoAtOnce() string {
	for i, a := range s.members {
		for _, b := range s.members[:i] {
			if a.acts.excludes(b.acts) {
				return fmt.Sprintf("%+v and %+v", a, b)
			}
		}
	}
	return ""
}

// finish has all go well from now on, in the most ordinary order, and reports whether
// everybody that is there then acts.
func (s small) finish() bool {
	s = s.clone()
	for len(s.changes) > 0 {
		c := s.changes[0]
		s.changes = s.changes[1:]
		c.do(&s, s.live(c.id()))
	}
	for range 20 {
		for l := range s.leaders {
			s.decide(l)
			s.swap(l)
		}
		for m := range s.members {
			if !s.members[m].over {
				s.hear(m, len(s.plans))
			}
			for s.members[m].acts.stops != 0 {
				s.stopOne(m)
			}
		}
		if s.isDone() {
			return true
		}
		s.pass()
	}
	return false
}

// serves reports whether a member is to act in the end.
func (s *small) serves(i int) bool {
	others := slices.ContainsFunc(s.members, func(m smallMember) bool { return m.recorded && !m.drains })
	return s.members[i].recorded && !(s.members[i].drains && others)
}

func (s *small) isDone() bool {
	p, err := parsePlan([]byte(s.plans[len(s.plans)-1]))
	if err != nil || !p.committed {
		return false
	}
	if s.scheme.partitions > 0 {
		return s.isShared(p)
	}
	serving := 0
	for i, m := range s.members {
		if s.serves(i) {
			serving++
		}
		if m.recorded && ((m.acts != nowhere) != s.serves(i) || m.seen != len(s.plans)) {
			return false
		}
	}
	return serving == len(p.lines)
}

func smallStart(ids []string, changes ...change) small {
	s := newSmall(scheme{mode: ModeExclusive}, changes)
	p := plan{mode: ModeExclusive, committed: true, generation: 1}
	for i, id := range ids {
		s.enter(id, 1)
		p.lines = append(p.lines, planned{incarnation: s.members[i].incarnation, window: window(DefaultTTL), Assignment: Assignment{Member: Member{ID: id, Workers: 1}, Index: i}})
	}
	p.total = len(ids)
	s.begin(p)
	return s
}

func newSmall(of scheme, changes []change) small {
	return small{drained: map[string]int64{}, remaining: map[string]string{}, changes: changes, restart: *allOrders, scheme: of}
}

// begin has all act by a first plan.
func (s *small) begin(p plan) {
	s.plans = []string{string(p.encode())}
	for i := range s.members {
		s.hear(i, 1)
	}
	for l := range s.leaders {
		s.leaders[l] = newSmallLeader(s.scheme)
	}
}

// smallSearch tries every order, and returns how many states there are. From each of
// them it must be possible that everybody acts again.
func smallSearch(t *testing.T, start small, latest int) int {
	const begun, well = 1, 2
	seen, seed := map[uint64]byte{}, maphash.MakeSeed()
	var path []string
	var visit func(s small) bool
	visit = func(s small) bool {
		key := maphash.String(seed, s.key())
		if seen[key] > 0 {
			return seen[key] == well
		}
		seen[key] = begun
		if two := s.twoAtOnce(); two != "" {
			t.Fatalf("two at once: %s after\n%s", two, strings.Join(path, "\n"))
		}
		back := false
		next, what := s.after(latest)
		for i := range next {
			path = append(path, what[i])
			back = visit(next[i]) || back
			path = path[:len(path)-1]
		}
		if !back && !s.finish() {
			t.Fatalf("not everybody can be back after\n%s", strings.Join(path, "\n"))
		}
		seen[key] = well
		return true
	}
	visit(start)
	return len(seen)
}

var mostPlans = flag.Int("most-plans", 2, "how many plans there are at the most while every order of events is tried; each one more takes several times as long")

var allOrders = flag.Bool("all-orders", false, "try every order of events with three members at work, not two, and with coordinators that are replaced")

func TestEveryOrderOfEventsKeepsTwoApart(t *testing.T) {
	t.Parallel() // it computes on one processor, where others wait
	present := []string{"a", "b"}
	changes := []change{joins("c"), vanishes("a"), restarts("b"), grows("b"), leaves("b"), rejoins("a"), drains("b")}
	if *allOrders {
		present = []string{"a", "b", "c"}
		changes = []change{joins("d"), vanishes("a"), restarts("b"), grows("c"), leaves("c"), rejoins("a"), drains("c")}
	}
	total := everyOrder(t, changes, func(two ...change) small { return smallStart(present, two...) })
	require.Greater(t, total, 40_000, "most of them have been left out")
}

// everyOrder tries every order of every two of the changes, and returns how many states there are.
func everyOrder(t *testing.T, changes []change, start func(...change) small) (total int) {
	for i, first := range changes {
		for _, second := range changes[:i] {
			if first.id() == second.id() {
				continue
			}
			t.Run(fmt.Sprint(first, ", ", second), func(t *testing.T) {
				states := smallSearch(t, start(first, second), 3)
				t.Logf("%d states", states)
				total += states
			})
		}
	}
	t.Logf("%d states in all", total)
	return total
}
