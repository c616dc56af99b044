//go:build linux && faults

package faults_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

func TestAllAreBackSoonAfterAnOutageOfAnyLength(t *testing.T) {
	const ttl = 4 * time.Second
	lengths := []time.Duration{15 * time.Second}
	if *long {
		lengths = append(lengths, 90*time.Second, 5*time.Minute)
	}
	for _, length := range lengths {
		etcd := startServers(t, 3)
		members := joinFleet(t, etcd, ttl)
		// One that keeps its place keeps its connection too, which has to be
		// mended, where the others dial anew.
		keeper := join(t, libcluster.Config{
			ID: "keeper", TTL: ttl, Registry: libcluster.Etcd(etcd.urls()...), Outage: libcluster.KeepOnOutage,
		})
		all := append([]*member{keeper}, members...)
		awaitWhole(t, patience, all)
		stop := watchBeliefs(t, all...)
		w, _ := observe(t, etcd.urls()...)
		row := &figures{fault: fmt.Sprintf("all of etcd down for %v", length)}
		for range trials(1, 3) {
			begin := boot()
			for _, m := range members {
				m.forget()
			}
			for _, s := range etcd.all {
				s.kill()
			}
			down := boot()
			lasts(length)
			requireFenced(t, members, begin, down, ttl)
			require.True(t, keeper.State().Active(), "the one that is to keep its place has lost it")
			for _, s := range etcd.all {
				etcd.start(s)
			}
			end := etcd.awaitReadable(patience)
			awaitWhole(t, patience, all)
			row.allBack(t, members, w, begin, end)
			row.trials++
		}
		row.report(t)
		stop()
	}
}

func TestMinorityServerGivesNobodyAPlace(t *testing.T) {
	const ttl = 4 * time.Second
	etcd := startServers(t, 3)
	leader, followers := etcd.leader()
	row := &figures{fault: "member with a minority server"}
	// One knows the minority server only, the other one all.
	members := []*member{
		join(t, libcluster.Config{ID: "one", TTL: ttl, Registry: libcluster.Etcd(followers[0].url())}),
		join(t, libcluster.Config{ID: "all", TTL: ttl, Registry: libcluster.Etcd(etcd.urls()...)}),
	}
	watchBeliefs(t, members...)
	w, _ := observe(t, followers[0].url())
	begin := boot()
	leader.freeze()
	followers[1].freeze()
	cut := boot()
	late := prepare(t, libcluster.Config{ID: "late", TTL: ttl, Registry: libcluster.Etcd(followers[0].url())})
	require.Error(t, joinWithin(late, ttl), "joined a server that is alone")
	lasts(max(0, cut+ttl+time.Second-boot()))
	requireFenced(t, members, begin, cut, ttl)
	leader.thaw()
	followers[1].thaw()
	end := etcd.awaitReadable(patience)
	awaitWhole(t, patience, members)
	row.allBack(t, members, w, begin, end)
	row.trials++
	row.report(t)
}

func TestKeepOnOutageGoesOnWithItsPlace(t *testing.T) {
	const ttl = 6 * time.Second
	etcd := startServers(t, 1)
	lines := []*line{newLine(t, etcd.all[0]), newLine(t, etcd.all[0])}
	config := func(i int) libcluster.Config {
		return libcluster.Config{Registry: libcluster.Etcd(lines[i].url()), TTL: ttl, Outage: libcluster.KeepOnOutage}
	}
	members := joinMany(t, 2, config)
	watchBeliefs(t, members...)
	w, _ := observe(t, etcd.urls()...)
	other := join(t, libcluster.Config{ID: "zz", Registry: libcluster.Etcd(etcd.urls()...)})
	awaitWhole(t, patience, append([]*member{other}, members...))

	// Longer than the window, after which another policy fences, and shorter
	// than the lease.
	calls := callsOf(members)
	begin := boot()
	for _, l := range lines {
		l.cut(true, true)
	}
	lasts(window(ttl) + 100*time.Millisecond)
	for _, l := range lines {
		l.heal(true)
	}
	require.NoError(t, other.SetWorkers(t.Context(), 2)) // a change, to know that they are back
	other.workers = 2
	awaitWhole(t, patience, append([]*member{other}, members...))
	for i, m := range members {
		require.Len(t, m.since(calls[i]), 1, "%s was called back for more than the change: %v", m.ID(), m.reasons())
	}
	requireUnmoved(t, members, calls)
	require.Empty(t, w.deletions(prefix+members[0].ID(), begin), "the test's outage was too long for the lease")

	calls = callsOf(members)
	begin = boot()
	for _, l := range lines {
		l.cut(true, true)
	}
	for _, m := range members {
		w.awaitDeletion(patience, prefix+m.ID(), begin)
	}
	lasts(time.Second)
	for i, m := range members {
		require.True(t, m.State().Active(), "%s does not keep its place", m.ID())
		require.Empty(t, m.since(calls[i]), "%s was called back during the outage", m.ID())
	}
	end := boot()
	for _, l := range lines {
		l.heal(true)
	}
	row := &figures{fault: "KeepOnOutage, outage longer than the lease", trials: len(members)}
	for i, m := range members {
		await(t, patience, m.ID()+" to find out that its record has gone", func() bool {
			_, fenced := m.fencedAfter(end)
			return fenced && len(m.since(calls[i])) > 0
		})
		require.Equal(t, -1, m.since(calls[i])[0].Index, "%s was not told that it had lost its place", m.ID())
	}
	awaitWhole(t, patience, append([]*member{other}, members...))
	for _, m := range members {
		row.whole = append(row.whole, max(0, m.awaitActive(patience)-end))
	}
	row.report(t)
}
