package registrytest

import (
	"context"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/elapsed"
)

func takenInstanceIsTold(s *suite) {
	watcher := s.join("w")
	older := s.join("a", workers(2))
	older.sees("a=2 w=1")
	newer := s.join("a", workers(3))
	older.lost(libcluster.ErrInstanceTaken)
	newer.sees("a=3 w=1")
	_, err := newer.session.Renew(s.within())
	require.NoError(s, err, "Renew of the instance that has taken over")
	newer.update(4)
	newer.sees("a=4 w=1")
	watcher.sees("a=4 w=1")
	require.NotContains(s, watcher.history, "a gone", "the others see the record change hands, not go and come")
}

func takenInstanceCannotTouchTheNewRecord(s *suite) {
	watcher := s.join("w")
	older := s.join("a", workers(2))
	newer := s.join("a", workers(3))
	require.Error(s, older.session.Update(s.within(), older.with(9)), "Update of the instance that lost its ID")
	_, err := older.session.Renew(s.within())
	require.Error(s, err, "Renew of the instance that lost its ID")
	_ = older.tryLeave() // may say that the record is not its own
	watcher.sees("a=3 w=1")
	watcher.staysQuiet("the instance that lost its ID has left")
	require.NotContains(s, watcher.history, "a=9")
	_, err = newer.session.Renew(s.within())
	require.NoError(s, err, "Renew of the instance that has taken over")
}

func refusedInstanceHasTakenNothing(s *suite) {
	older := s.join("a", workers(2))
	s.join("b")
	older.sees("a=2 b=1")
	exclusive, err := libcluster.ParseMember("a", []byte(`{"workers":2,"mode":"exclusive"}`))
	require.NoError(s, err)
	for what, refused := range map[string]option{
		"another mode":   func(a *asked) { a.Member = exclusive },
		"too many of it": workers(libcluster.MaxWorkers),
	} {
		_, err := s.tryJoin("a", refused)
		require.Error(s, err, what)
		_, err = older.session.Renew(s.within())
		require.NoError(s, err, "%s: the instance whose ID was asked for", what)
	}
	s.join("a", workers(3)).sees("a=3 b=1") // one that is not refused takes it over
}

func rejoiningKeepsTheAssignment(s *suite) {
	watcher := s.join("w")
	first := s.join("a", workers(2))
	watcher.sees("a=2 w=1")
	first.close()
	second := s.join("a", workers(2), after(first))
	second.sees("a=2 w=1")
	second.close()
	third := s.join("a", workers(2)) // a new process, that knows nothing of the first
	third.sees("a=2 w=1")
	third.update(3)
	watcher.sees("a=3 w=1")
	require.NotContains(s, watcher.history, "a gone",
		"an instance that closes its session and joins again keeps its assignment meanwhile")
}

func rejoiningAfterTheRecordIsGone(s *suite) {
	watcher := s.join("w")
	first := s.join("a", workers(2))
	require.NoError(s, s.h.Delete(s.within(), s.registry, s.cluster(), "a"))
	first.close()
	second := s.join("a", workers(3), after(first))
	second.sees("a=3 w=1")
	watcher.sees("a=3 w=1")
	_, err := second.session.Renew(s.within())
	require.NoError(s, err, "Renew after rejoining")
}

// An attempt to rejoin made the record, and then failed above the registry. The
// next attempt knows of it as little as of one whose answer was lost.
func halfMadeRejoiningIsOnesOwn(s *suite) {
	watcher := s.join("w")
	lost := s.join("a", workers(2))
	watcher.sees("a=2 w=1")
	lost.close()
	for range 3 {
		s.join("a", workers(2), after(lost)).close()
	}
	last := s.join("a", workers(3), after(lost))
	last.sees("a=3 w=1")
	_, err := last.session.Renew(s.within())
	require.NoError(s, err, "Renew after rejoining at the fourth attempt")
	watcher.sees("a=3 w=1")
	require.NotContains(s, watcher.history, "a gone", "its assignment is kept meanwhile")
}

// A request to join that was given up has its effect after a later one has
// succeeded. It takes the record from that one, and is of the same instance.
func lateAttemptIsItsOwn(s *suite) {
	watcher := s.join("w")
	session := s.join("a")
	session.sees("a=1 w=1")
	late := s.join("a", after(session))
	session.lost(libcluster.ErrRecordGone)
	late.close()

	again := s.join("a", after(session), workers(2))
	again.sees("a=2 w=1")
	_, err := again.session.Renew(s.within())
	require.NoError(s, err, "Renew after rejoining")
	watcher.sees("a=2 w=1")
	require.NotContains(s, watcher.history, "a gone", "its assignment is kept meanwhile")
}

// An instance was cut off, another was started in its stead, and now the first is
// back.
func rejoiningDoesNotTakeTheIDBack(s *suite) {
	watcher := s.join("w")
	older := s.join("a", workers(2))
	older.close()
	newer := s.join("a", workers(3))
	_, err := s.tryJoin("a", workers(2), after(older))
	require.ErrorIs(s, err, libcluster.ErrInstanceTaken, "Join after a session whose ID another instance has by now")
	newer.update(4)
	newer.sees("a=4 w=1")
	_, err = newer.session.Renew(s.within())
	require.NoError(s, err, "Renew of the instance that has the ID")
	watcher.sees("a=4 w=1")
	require.NotContains(s, watcher.history, "a gone")
}

// leaveFor leaves for a restart, which must work.
func (i *instance) leaveFor(d time.Duration, kept libcluster.Member) {
	i.Helper()
	i.left.Store(true)
	require.NoError(i, i.session.Leave(i.within(), libcluster.Departure{Reserve: d, Last: kept}), "Leave of %q for a restart", i.reg.Member.ID)
}

func leavingForARestartReservesTheAssignment(s *suite) {
	watcher := s.join("w")
	first := s.join("a", workers(2))
	first.sees("a=2 w=1")
	kept := first.reg.Member
	kept.Workers = 5
	first.leaveFor(longTTL, kept)
	_, err := first.session.Renew(s.briefly())
	require.Error(s, err, "Renew after leaving for a restart")
	watcher.sees("a=5 w=1")
	second := s.join("a", workers(2))
	second.sees("a=2 w=1")
	_, err = second.session.Renew(s.within())
	require.NoError(s, err, "Renew after coming back")
	second.update(3)
	watcher.sees("a=3 w=1")
	require.NotContains(s, watcher.history, "a gone", "the assignment is reserved for an instance that comes back")
	second.leave()
	watcher.sees("w=1")
}

func leavingForARestartFreesTheAssignment(s *suite) {
	watcher := s.join("w", passive())
	a := s.join("a")
	watcher.sees("a=1")
	sent := time.Now()
	a.leaveFor(s.h.TTL, a.reg.Member)
	watcher.goesWithin(s.h.TTL)
	require.GreaterOrEqual(s, elapsed.Since(sent), s.h.TTL, "the assignment is reserved for as long as was asked for")
}

func takenInstanceCannotReserveTheAssignment(s *suite) {
	watcher := s.join("w")
	older := s.join("a", workers(2))
	newer := s.join("a", workers(3))
	older.left.Store(true)
	require.Error(s, older.session.Leave(s.within(), libcluster.Departure{Reserve: s.h.TTL, Last: older.reg.Member}),
		"Leave for a restart of an instance that has lost its ID")
	_, err := newer.session.Renew(s.within())
	require.NoError(s, err, "Renew of the instance that has taken over")
	watcher.sees("a=3 w=1")
	watcher.staysQuiet("the instance that lost its ID has left for a restart")
}

func joiningAgainAfterLeaving(s *suite) {
	watcher := s.join("w")
	for n := range 3 {
		a := s.join("a", workers(n+1))
		a.sees(twinSeen(map[string]int{"a": n + 1, "w": 1}))
		watcher.sees(a.seen())
		a.leave()
		watcher.sees("w=1")
	}
}

func nothingComesBackAfterLeaving(s *suite) {
	watcher := s.join("w")
	a := s.join("a")
	a.sees("a=1 w=1")
	watcher.sees("a=1 w=1")
	a.leave()
	require.Error(s, a.session.Update(s.briefly(), a.with(5)), "Update after Leave")
	_, err := a.session.Renew(s.briefly())
	require.Error(s, err, "Renew after Leave")
	_, err = a.session.Next(s.briefly())
	require.Error(s, err, "Next after Leave")
	watcher.sees("w=1")
	watcher.staysQuiet("an instance that has left was asked for more")
}

func recordThatIsNotRenewedExpires(s *suite) {
	watcher := s.join("w", passive())
	sent := time.Now()
	a := s.join("a", ttl(s.h.TTL))
	require.Positive(s, a.granted, "the TTL granted to a record that expires")
	watcher.sees("a=1")
	a.sees("a=1")

	watcher.seesItExpire(a, sent)
	a.lost(libcluster.ErrRecordGone)
	a.staysLost()
}

// seesItExpire waits until the only member, which joined by a call at sent and
// was not renewed, is gone.
func (i *instance) seesItExpire(member *instance, sent time.Time) {
	i.Helper()
	i.goesWithin(member.granted)
	require.GreaterOrEqual(i, elapsed.Since(sent), member.granted, "the record lives for its TTL from the call of Join")
}

// goesWithin waits until the only member is gone, which it must be soon after ttl.
func (i *instance) goesWithin(ttl time.Duration) {
	i.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), ttl+i.h.Patience)
	defer cancel()
	for len(i.members) > 0 {
		require.NoError(i, i.next(ctx), "the others must see the record go once %v have passed", ttl)
	}
}

// staysLost makes sure that nothing that the session does brings its record
// back.
func (i *instance) staysLost() {
	i.Helper()
	p := i.join("p", passive())
	require.NoError(i, p.next(i.within()))
	require.NotContains(i, p.members, i.reg.Member.ID, "a record that was lost has come back")
}

// renewedRecordOutlivesItsTTL begins again if a busy machine has renewed the record too late.
func renewedRecordOutlivesItsTTL(s *suite) {
	watcher := s.join("w", passive())
	for !outlivesItsTTL(s, watcher) {
		watcher.sees("")
	}
}

// outlivesItsTTL reports whether the record was renewed in time. If not, it may go.
func outlivesItsTTL(s *suite, watcher *instance) (inTime bool) {
	last := time.Now()
	a := s.join("a", ttl(s.h.TTL))
	watcher.sees("a=1")
	for start := time.Now(); time.Since(start) < 2*a.granted; {
		now := time.Now()
		granted, err := a.session.Renew(s.within())
		news := watcher.quietFor(a.granted / 4)
		if elapsed.Since(last) >= a.granted {
			a.close()
			return false
		}
		require.NoError(s, err, "Renew of a record that is alive")
		require.Equal(s, a.granted, granted, "the TTL is granted again")
		require.NoError(s, news, "a record that is renewed neither changes nor goes")
		last = now
	}
	return true
}

func closedSessionKeepsItsRecord(s *suite) {
	watcher := s.join("w", passive())
	sent := time.Now()
	a := s.join("a", ttl(s.h.TTL))
	watcher.sees("a=1")
	a.close()
	watcher.seesItExpire(a, sent)
}

func deletedRecordIsTold(s *suite) {
	watcher := s.join("w")
	a := s.join("a")
	a.sees("a=1 w=1")
	require.NoError(s, s.h.Delete(s.within(), s.registry, s.cluster(), "a"))
	a.lost(libcluster.ErrRecordGone)
	watcher.sees("w=1")
	a.staysLost()

	again := s.join("a", workers(2))
	again.sees("a=2 w=1")
	watcher.sees("a=2 w=1")
}

func overwrittenRecordIsTold(s *suite) {
	watcher := s.join("w")
	a := s.join("a")
	a.sees("a=1 w=1")
	require.NoError(s, s.h.Put(s.within(), s.registry, s.cluster(), "a", []byte("5")))
	a.lost(libcluster.ErrRecordGone)
	watcher.sees("a=5 w=1")
	_ = a.tryLeave() // may say that the record is not its own
	watcher.staysQuiet("what another program wrote is not the session's to remove")

	again := s.join("a", workers(2))
	again.sees("a=2 w=1")
	again.leave()
	watcher.sees("w=1")
}
