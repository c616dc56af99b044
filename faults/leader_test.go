//go:build linux && faults

package faults_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

// fleet is how many members watch the loss of servers.
const fleet = 12

func joinFleet(t *testing.T, etcd *servers, ttl time.Duration) []*member {
	t.Helper()
	return joinMany(t, fleet, func(int) libcluster.Config {
		return libcluster.Config{Registry: libcluster.Etcd(etcd.urls()...), TTL: ttl}
	})
}

// requireUnmoved checks that nobody has lost its place since its first n calls.
func requireUnmoved(t *testing.T, members []*member, calls []int) {
	t.Helper()
	for i, m := range members {
		for _, s := range m.since(calls[i]) {
			require.True(t, s.Active(), "%s lost its place: %v", m.ID(), m.reasons())
		}
		require.True(t, m.State().Active(), "%s has lost its place: %v", m.ID(), m.Err())
		_, fenced := m.fencedAfter(0)
		require.False(t, fenced, "a read of %s returned no place: %v", m.ID(), m.reasons())
	}
}

func callsOf(members []*member) []int {
	calls := make([]int, len(members))
	for i, m := range members {
		calls[i] = m.calls()
	}
	return calls
}

// nearest returns how close any member came to its deadline.
func nearest(members []*member) time.Duration {
	near := time.Duration(-1)
	for _, m := range members {
		m.belief.mu.Lock()
		if near < 0 || m.closest < near {
			near = m.closest
		}
		m.belief.mu.Unlock()
	}
	return near
}

// election is how long etcd may be without a leader before somebody is fenced whose
// last renewal was almost due again: its window of 6 s is 1.7 s old by then, and the
// next renewal takes up to 0.8 s.
const election = 3500 * time.Millisecond

func TestLossOfTheEtcdLeaderFencesNobody(t *testing.T) {
	etcd := startServers(t, 3)
	members := joinFleet(t, etcd, libcluster.DefaultTTL)
	watchBeliefs(t, members...)
	w, _ := observe(t, etcd.urls()...)
	for _, way := range []string{"kill -9", "SIGSTOP for 5 s"} {
		row := &figures{fault: "etcd leader: " + way}
		near, void := libcluster.DefaultTTL, 0
		for row.trials < trials(2, 20) {
			leader, others := etcd.leader()
			begin, calls := boot(), callsOf(members)
			for _, m := range members {
				m.forget()
			}
			if way == "kill -9" {
				leader.kill()
			} else {
				leader.freeze()
			}
			elected := etcd.readable(patience, others[0].url(), others[1].url()) - begin
			if way == "kill -9" {
				etcd.start(leader)
			} else {
				lasts(5*time.Second - (boot() - begin))
				leader.thaw()
			}
			etcd.awaitReadable(patience)
			// Everybody has been renewed by the new leader when it had the time
			// for a heartbeat and for asking each server in vain.
			lasts(libcluster.DefaultTTL / 5)
			if elected > election {
				void++
				require.Less(t, void, 5, "etcd has no leader for too long: %v", elected)
				awaitWhole(t, patience, members)
				continue
			}
			requireUnmoved(t, members, calls)
			awaitWhole(t, patience, members)
			near = min(near, nearest(members))
			w.catchUp()
			for _, m := range members {
				row.judge(t, m, w, begin)
			}
			row.trials++
		}
		row.report(t)
		t.Logf("| %s | nearest to the deadline: %s of %s |", row.fault, short(near), short(window(libcluster.DefaultTTL)))
		require.Empty(t, row.margins, "a record was deleted")
	}
}

func TestLossOfTheMajorityFencesAllAndAllComeBack(t *testing.T) {
	const ttl = 4 * time.Second
	etcd := startServers(t, 3)
	members := joinFleet(t, etcd, ttl)
	watchBeliefs(t, members...)
	for _, way := range []string{"kill -9", "SIGSTOP"} {
		row := &figures{fault: "two of three servers: " + way}
		for trial := range trials(1, 10) {
			w, stop := observe(t, etcd.urls()...)
			leader, followers := etcd.leader()
			// With and without the leader among them.
			lost := followers
			if trial%2 == 0 {
				lost = []*server{leader, followers[0]}
			}
			begin := boot()
			for _, m := range members {
				m.forget()
			}
			for _, s := range lost {
				if way == "SIGSTOP" {
					s.freeze()
				} else {
					s.kill()
				}
			}
			cut := boot()
			lasts(ttl + time.Second)
			requireFenced(t, members, begin, cut, ttl)
			for _, s := range lost {
				if way == "SIGSTOP" {
					s.thaw()
				} else {
					etcd.start(s)
				}
			}
			end := etcd.awaitReadable(patience)
			awaitWhole(t, patience, members)
			row.allBack(t, members, w, begin, end)
			row.trials++
			stop()
		}
		row.report(t)
	}
}

// requireFenced checks that every member lost its place since a time, no later
// than by a renewal sent before etcd was lost to it, and has none now.
func requireFenced(t *testing.T, members []*member, since, lost, ttl time.Duration) {
	t.Helper()
	for _, m := range members {
		fenced, ok := m.fencedAfter(since)
		require.True(t, ok, "%s still holds its place: %s", m.ID(), m.Phase())
		require.LessOrEqual(t, fenced-lost, window(ttl)+clockError,
			"%s was fenced too long after it had lost etcd; %v", m.ID(), m.reasons())
		require.Equal(t, -1, m.State().Index, "%s holds a place that nobody can have given it", m.ID())
		require.ErrorIs(t, m.Err(), libcluster.ErrDeadlinePassed, m.ID())
	}
}

// noticed is when a watch on a frozen server has been found out, by questions
// that it leaves unanswered, and replaced; the next one may be tried there again.
// Without that it would take 13 s: gRPC sends a probe after 10 s, and waits 3 s.
const noticed = 12 * time.Second

func TestFrozenFollowerCostsNobodyItsPlace(t *testing.T) {
	length := lasting(12*time.Second, 30*time.Second)
	etcd := startServers(t, 3)
	members := joinFleet(t, etcd, libcluster.DefaultTTL)
	watchBeliefs(t, members...)
	row := &figures{fault: fmt.Sprintf("SIGSTOP of a follower for %v", length)}
	calls := callsOf(members)
	for row.trials < trials(1, 10) {
		_, followers := etcd.leader()
		frozen := followers[row.trials%2]
		frozen.freeze()
		began := boot()
		newcomer := join(t, libcluster.Config{
			ID: "newcomer", Registry: libcluster.Etcd(etcd.urls()...), TTL: libcluster.DefaultTTL,
		})
		row.whole = append(row.whole, awaitWhole(t, noticed, append([]*member{newcomer}, members...)))
		lasts(length - (boot() - began))
		frozen.thaw()
		lasts(libcluster.DefaultTTL / 5) // what was held up arrives
		requireUnmoved(t, append([]*member{newcomer}, members...), append([]int{0}, calls...))
		newcomer.leave()
		awaitWhole(t, noticed, members)
		row.trials++
	}
	row.report(t)
	t.Logf("| %s | nearest to the deadline: %s of %s |", row.fault, short(nearest(members)), short(window(libcluster.DefaultTTL)))
}
