//go:build linux && faults

package faults_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

func TestReturningIsNoticedByNobody(t *testing.T) {
	etcd := startServers(t, 1)
	config := func(id string) libcluster.Config {
		return libcluster.Config{ID: id, Registry: libcluster.Etcd(etcd.urls()...)}
	}
	others := []*member{join(t, config("a")), join(t, config("c"))}
	own := config("b")
	own.TTL = shortTTL
	b := join(t, own)
	awaitWhole(t, patience, append([]*member{b}, others...))
	leave := func(d time.Duration) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		require.NoError(t, b.Leave(ctx, libcluster.Returning(d)))
	}

	calls := callsOf(others)
	row := &figures{fault: "Returning, and back in time", trials: 1}
	leave(10 * time.Second)
	lasts(2 * shortTTL) // the lease that it had would have expired
	b.join()
	row.whole = append(row.whole, awaitWhole(t, patience, append([]*member{b}, others...)))
	lasts(shortTTL)
	for i, m := range others {
		require.Empty(t, m.since(calls[i]), "%s was called back", m.ID())
	}
	row.report(t)

	const d = 3 * time.Second
	row = &figures{fault: "Returning in 3 s, and not back: the others know after", trials: 1}
	leaving := boot()
	leave(d)
	await(t, patience, "the others to go on without", func() bool { return agree(others, 2) })
	row.whole = append(row.whole, boot()-leaving)
	require.GreaterOrEqual(t, row.whole[0], d, "the place was not kept for as long as asked")
	row.report(t)
	awaitWhole(t, patience, others)
}

func TestCrashAndRestartWithinTheTTLIsNoticedByNobody(t *testing.T) {
	etcd := startServers(t, 1)
	config := func(id string) libcluster.Config {
		return libcluster.Config{ID: id, Registry: libcluster.Etcd(etcd.urls()...)}
	}
	others := []*member{join(t, config("a")), join(t, config("c"))}
	row := &figures{fault: "kill -9 and restart within the TTL"}
	c := joinChild(t, part{ID: "b", URLs: etcd.urls(), TTL: shortTTL})
	await(t, patience, "the others to see it", func() bool { return agree(others, 3) })
	calls := callsOf(others)
	for row.trials < trials(3, 200) {
		c.kill()
		killed := boot()
		c = joinChild(t, part{ID: "b", URLs: etcd.urls(), TTL: shortTTL})
		row.whole = append(row.whole, boot()-killed)
		row.trials++
	}
	lasts(shortTTL + time.Second) // the leases of those that were killed expire
	for i, m := range others {
		require.Empty(t, m.since(calls[i]), "%s was called back", m.ID())
	}
	c.stop()
	await(t, patience, "the others to see it leave", func() bool { return agree(others, 2) })
	row.report(t)
}

func TestCutOffInstanceDoesNotTakeItsIDBack(t *testing.T) {
	etcd := startServers(t, 1)
	row := &figures{fault: "cut off, and its ID taken by a successor"}
	w, _ := observe(t, etcd.urls()...)
	for row.trials < trials(2, 20) {
		l := newLine(t, etcd.all[0])
		first := join(t, libcluster.Config{ID: "same", TTL: shortTTL, Registry: libcluster.Etcd(l.url())})
		stop := watchBeliefs(t, first)
		begin := boot()
		l.cut(true, true)
		// Every second successor comes before the record has gone.
		if row.trials%2 == 0 {
			w.awaitDeletion(patience, prefix+"same", begin)
		}
		successor := join(t, libcluster.Config{ID: "same", TTL: shortTTL, Registry: libcluster.Etcd(etcd.urls()...)})
		l.heal(row.trials%4 < 2)
		healed := boot()
		row.whole = append(row.whole, await(t, patience, "the first to be told", func() bool {
			return errors.Is(first.Err(), libcluster.ErrInstanceTaken)
		}))
		lasts(2*shortTTL - (boot() - healed)) // long enough to fight
		require.ErrorIs(t, first.Err(), libcluster.ErrInstanceTaken)
		require.True(t, successor.State().Active(), "the successor has lost its place: %v", successor.Err())
		require.Equal(t, 1, successor.calls(), "the successor was called back: %v", successor.reasons())
		row.judge(t, first, w, begin)
		row.trials++
		stop()
		first.leave()
		successor.leave()
		await(t, patience, "the record to go", func() bool { return len(w.deletions(prefix+"same", healed)) > 0 })
	}
	row.report(t)
}
