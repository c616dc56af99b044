//go:build linux && faults

package faults_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

const (
	// shortTTL is the least that etcd grants at its default election timeout.
	shortTTL = 2 * time.Second

	// trust is how much of the TTL, in percent, a member counts on from the
	// moment when it sent a renewal.
	trust = 60
)

func window(ttl time.Duration) time.Duration { return ttl * trust / 100 }

// fault is a way in which a network fails a member.
type fault struct {
	name     string
	ttl      time.Duration
	up, down bool          // cut to the server, from it
	before   time.Duration // answers are this slow all along
	during   time.Duration // and this slow while it lasts
}

func TestCutMemberIsFencedBeforeItsRecordGoes(t *testing.T) {
	faults := []fault{
		{name: "cut in both directions", ttl: shortTTL, up: true, down: true},
		{name: "requests cut", ttl: shortTTL, up: true},
		{name: "answers cut", ttl: shortTTL, down: true},
		{name: "cut, answers 60 ms slow before", ttl: shortTTL, up: true, down: true, before: 60 * time.Millisecond},
		// Here answers arrive after the cut to what was sent before it: a
		// deadline that counts from the answer is too late.
		{name: "requests cut, answers 80 ms slow", ttl: shortTTL, up: true, before: 80 * time.Millisecond},
		{name: "answers 400 ms late at a TTL of 2 s", ttl: shortTTL, during: 400 * time.Millisecond},
	}
	if *long {
		faults = append(faults, fault{name: "answers 2 s late at a TTL of 10 s", ttl: 10 * time.Second, during: 2 * time.Second})
	}
	for _, f := range faults {
		t.Run(f.name, f.test)
	}
}

func (f fault) test(t *testing.T) {
	n := trials(12, *trialCount)
	perRound := min(n, 50)
	etcd := startServers(t, 1)
	lines := make([]*line, perRound)
	members := joinMany(t, perRound, func(i int) libcluster.Config {
		lines[i] = newLine(t, etcd.all[0])
		lines[i].slow(f.before)
		return libcluster.Config{Registry: libcluster.Etcd(lines[i].url()), TTL: f.ttl}
	})
	watchBeliefs(t, members...)
	w, _ := observe(t, etcd.urls()...)

	row := &figures{fault: f.name}
	for row.trials < n {
		begin := boot()
		for _, m := range members {
			m.forget()
		}
		var faults sync.WaitGroup
		ends := make([]time.Duration, len(members))
		for i, m := range members {
			short := (row.trials+i)%4 == 3
			faults.Go(func() { ends[i] = f.inject(t, m, lines[i], short) })
		}
		faults.Wait()
		awaitWhole(t, patience, members)
		w.catchUp()
		for i, m := range members {
			row.judge(t, m, w, begin)
			row.whole = append(row.whole, max(0, m.awaitActive(patience)-ends[i]))
		}
		row.trials += len(members)
	}
	row.report(t)
	// A member that is only slow renews its record, or replaces it before it expires. What
	// is proved then is that the member did not count on the old record meanwhile.
	if f.up || f.down {
		require.NotEmpty(t, row.margins, "no fault lasted long enough: nothing was proved")
	}
}

// inject has the fault begin at a random moment between two heartbeats. It lasts
// until the record has gone for sure; a short one ends about when the deadline
// passes: what was held up until then arrives when it is most wrong. inject
// returns when the fault ended.
func (f fault) inject(t *testing.T, m *member, l *line, short bool) time.Duration {
	lasts(rand.N(f.ttl / 4))
	if f.during > 0 {
		l.slow(f.during)
	}
	l.cut(f.up, f.down)
	begin := boot()
	if short {
		lasts(f.ttl/2 + rand.N(f.ttl))
	} else {
		lasts(2*f.ttl + rand.N(f.ttl/2))
	}
	end := boot()
	holds := m.State().Active()
	l.slow(f.before)
	l.heal(rand.N(2) == 0)

	// What was sent before the cut is the last that can have succeeded. (Where answers
	// are slow all along the place may have been lost before, too.) A line that is only
	// slow goes on renewing the record, and judge wants the record to be there.
	fenced, ok := m.fencedAfter(begin)
	cut := f.up || f.down
	if limit := window(f.ttl) + clockError; cut && end-begin > limit && (!ok && holds || ok && fenced > begin+limit) {
		t.Errorf("%s: cut off at %v it counted on its record until %v (fenced: %v, holds a place at %v: %v), which is more than %v",
			m.ID(), begin, fenced, ok, end, holds, window(f.ttl))
	}
	return end
}

// clockError is what comparing a time of one clock with one of another costs.
const clockError = time.Millisecond
