package kvtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/libcluster/libcluster/internal/elapsed"
	"github.com/libcluster/libcluster/kv"
)

// brief is a lease that ends soon unless it is renewed.
type brief struct {
	owner   kv.Owner
	began   time.Time // when Begin was called
	granted time.Duration
	version int64 // of its records
}

// brief begins a lease that ends soon, and puts records under it.
func (u *user) brief(keys ...string) brief {
	u.Helper()
	ctx := u.within()
	for {
		b := brief{owner: randomOwner(), began: time.Now()}
		var err error
		b.granted, err = u.Begin(ctx, b.owner, u.h.TTL)
		u.ok(err, "Begin")
		var tx kv.Tx
		for _, key := range keys {
			tx.Put = append(tx.Put, record(key, "", b.owner))
		}
		result, err := u.Commit(ctx, tx)
		if errors.Is(err, kv.ErrEnded) && b.over() && ctx.Err() == nil {
			u.Logf("it took longer to write under a lease than it lives: once more")
			continue
		}
		u.ok(err, "Commit under a lease of %v that was asked for %v ago", b.granted, elapsed.Since(b.began))
		b.version = result.Mark.Revision
		return b
	}
}

// over reports whether the lease may have ended.
func (b brief) over() bool { return elapsed.Since(b.began) >= b.granted }

// runsOut waits until all records of the lease are reported to be gone. It must not be
// before the lease's time has passed.
func (u *user) runsOut(b brief, keys ...string) {
	u.Helper()
	v := u.watch("", b.version)
	var gone []kv.Change
	for ctx := u.after(b.granted); len(gone) == 0; {
		changes, err := v.next(ctx)
		u.ok(err, "waiting for the end of a lease of %v", b.granted)
		for _, c := range changes {
			if slices.Contains(keys, c.Key) {
				gone = append(gone, c)
			}
		}
	}
	u.that(b.over(), "a lease of %v has ended %v after Begin was called", b.granted, elapsed.Since(b.began))
	u.that(len(gone) == len(keys), "the end of a lease is one commit for %q; got %v", keys, changeTexts(gone))
	for _, c := range gone {
		u.that(c.Gone && c.Version == gone[0].Version, "the end of a lease is one commit; got %v", changeTexts(gone))
		u.absent(c.Key)
	}
}

func leaseIsGranted(s *suite) {
	u := s.open()
	for _, ttl := range []time.Duration{s.h.TTL, s.h.TTL + s.h.TTL/3, longTTL} {
		for ctx := s.within(); ; {
			owner, began := randomOwner(), time.Now()
			granted, err := u.Begin(ctx, owner, ttl)
			s.ok(err, "Begin")
			s.that(granted >= ttl, "%v was asked for, and %v granted", ttl, granted)
			again, err := u.Renew(ctx, owner)
			if errors.Is(err, kv.ErrEnded) && elapsed.Since(began) >= granted {
				continue // the machine is slow
			}
			s.ok(err, "Renew")
			s.that(again == granted, "Renew has returned %v, and Begin %v", again, granted)
			break
		}
	}
}

func leaseThatIsNotRenewedEnds(s *suite) {
	u, other := s.open(), s.open()
	owner := other.begin()
	other.put("other", "", owner)
	other.put("nobody's", "", 0)
	b := u.brief("a", "b", "c")
	v := other.watch("", b.version)
	v.wait(b.granted / 2)
	r, _, err := other.Get(s.within(), "a")
	s.ok(err, "Get")
	s.that(r.Version == b.version || b.over(), "half-way through a lease its record is %s", text(r))
	other.runsOut(b, "a", "b", "c")
	for _, user := range []*user{u, other} {
		_, err := user.Renew(s.within(), b.owner)
		s.is(err, kv.ErrEnded, "Renew of a lease that has ended")
	}
	other.holds("other", "")
	other.holds("nobody's", "")
	other.end(owner)
}

func renewedLeaseLives(s *suite) {
	u, other := s.open(), s.open()
	for ctx := s.after(10 * s.h.TTL); ; {
		s.ok(ctx.Err(), "this machine is too slow to renew a lease of %v in time", s.h.TTL)
		b := u.brief("k")
		v := other.watch("", b.version)
		late := false
		for n := 0; n < 5 && !late; n++ {
			gone := v.wait(b.granted / 3)
			renewed := b
			renewed.began = time.Now()
			user := []*user{u, other}[n%2] // a lease is no more one user's than another's
			again, err := user.Renew(s.within(), b.owner)
			if late = b.over() && (len(gone) > 0 || errors.Is(err, kv.ErrEnded)); late {
				s.Logf("it took %v to renew a lease of %v: once more", elapsed.Since(b.began), b.granted)
				continue
			}
			s.ok(err, "Renew of a lease of %v, %v after it was renewed last", b.granted, elapsed.Since(b.began))
			s.that(len(gone) == 0, "the record of a lease that is renewed is gone: %v", changeTexts(gone))
			s.that(again == b.granted, "Renew must return what Begin has, %v; got %v", b.granted, again)
			b = renewed
		}
		if !late {
			other.runsOut(b, "k")
			return
		}
	}
}

func recordsGoWithTheirLease(s *suite) {
	u, other := s.open(), s.open()
	one, two := u.begin(), u.begin()
	v := other.watch("", 0)
	for n := range 5 {
		u.put(fmt.Sprint("one ", n), "", one)
	}
	u.put("two", "", two)
	u.put("none", "", 0)
	u.delete("one 4")
	last := u.put("one 1", "again", one)
	v.upTo(last)

	other.end(one)
	records, mark := u.list("")
	s.that(len(records) == 2, "only what the lease did not hold must be left; got %v", texts(records))
	changes := v.upTo(last + 1)
	s.that(len(changes) == 4, "four records go with the lease; got %v", changeTexts(changes))
	for _, c := range changes {
		s.that(c.Gone && c.Version == changes[0].Version && c.Version <= mark.Revision, "the end of a lease is one commit; got %v", changeTexts(changes))
	}
	u.put("none", "again", 0)
	u.put("two", "again", two)
	u.end(one) // for the second time

	empty := u.begin()
	u.end(empty)
	_, err := u.Renew(u.within(), empty)
	s.is(err, kv.ErrEnded, "Renew of a lease that has ended without a record")
}

func endedLeaseNeverLivesAgain(s *suite) {
	u := s.open()
	never := randomOwner()
	s.dead(u, never, "that has never begun")
	owner := u.begin()
	u.put("k", "", owner)
	u.end(owner)
	s.buried(u, owner)
}

func leaseThatHasRunOutNeverLivesAgain(s *suite) {
	u := s.open()
	b := u.brief("k")
	u.runsOut(b, "k")
	s.buried(u, b.owner)
}

// dead fails the test unless there is no life in a lease.
func (s *suite) dead(u *user, owner kv.Owner, what string) {
	s.Helper()
	_, err := u.Renew(s.within(), owner)
	s.is(err, kv.ErrEnded, "Renew of a lease %s", what)
	_, err = u.Commit(s.within(), kv.Tx{Put: []kv.Record{record("k", "", owner)}})
	s.is(err, kv.ErrEnded, "a put under a lease %s", what)
	s.ok(u.End(s.within(), owner), "End of a lease %s", what)
	records, _ := u.list("")
	s.that(len(records) == 0, "a lease %s holds %v", what, texts(records))
}

// buried has users try to bring a lease that has ended back to life.
func (s *suite) buried(u *user, owner kv.Owner) {
	s.Helper()
	for _, user := range []*user{u, s.open()} {
		s.dead(user, owner, "that has ended")
	}
}

func beginOfALivingOwner(s *suite) {
	a, b := s.open(), s.open()
	owner := randomOwner()
	errs := make([]error, 6)
	var begin []func() error
	for i := range errs {
		user := []*user{a, b}[i%2]
		begin = append(begin, func() error {
			_, errs[i] = user.Begin(s.within(), owner, longTTL)
			return nil
		})
	}
	s.all(begin...)
	began := 0
	for _, err := range errs {
		if err == nil {
			began++
			continue
		}
		s.is(err, kv.ErrRefused, "Begin of an owner that has a lease")
	}
	s.that(began == 1, "%d of %d have begun a lease of one owner", began, len(errs))
	a.put("k", "", owner)
	_, err := b.Begin(s.within(), owner, s.h.TTL)
	s.is(err, kv.ErrRefused, "Begin of an owner that has a lease")
	granted, err := b.Renew(s.within(), owner)
	s.ok(err, "Renew")
	s.that(granted >= longTTL, "a lease of %v has shrunk to %v", longTTL, granted)
	b.holds("k", "")
}

func putUnderAnEndedLease(s *suite) {
	u := s.open()
	living, ended := u.begin(), u.begin()
	u.end(ended)
	a := u.put("a", "1", living)
	b := u.put("b", "1", 0)
	before, mark := u.list("")
	v := u.watch("", mark.Revision)
	for _, owner := range []kv.Owner{ended, randomOwner()} {
		for at := range 3 {
			puts := []kv.Record{record("a", "2", living), record("c", "2", 0)}
			_, err := u.Commit(s.within(), kv.Tx{
				If:     []kv.Cond{kv.AtVersion("a", a), kv.AtVersion("b", b)},
				Put:    slices.Insert(puts, at, record("d", "2", owner)),
				Delete: []string{"b"},
			})
			s.is(err, kv.ErrEnded, "a put under a lease that has ended, or has never begun")
			_, err = u.Commit(s.within(), kv.Tx{Put: []kv.Record{record("a", "2", owner)}})
			s.is(err, kv.ErrEnded, "a put of another's record under a lease that has ended, or has never begun")
		}
	}
	records, _ := u.list("")
	s.same(texts(before), texts(records), "nothing must be done")
	changes := v.upTo(u.put("z", "", 0))
	s.that(len(changes) == 1, "nothing must be reported; got %v", changeTexts(changes))
}

// nothingIsLeft has the end of a lease race puts under it.
func nothingIsLeft(s *suite) {
	users := []*user{s.open(), s.open(), s.open(), s.open()}
	for round := range 30 {
		owner := users[0].begin()
		put := func(i int) func() error {
			return func() error {
				_, err := users[i].Commit(s.within(), kv.Tx{Put: []kv.Record{
					record(fmt.Sprint("own ", i), "", owner), record("shared", fmt.Sprint(round), owner),
				}})
				if errors.Is(err, kv.ErrEnded) {
					return nil
				}
				return err
			}
		}
		end := func() error { return users[3].End(s.within(), owner) }
		renew := func() error {
			_, err := users[0].Renew(s.within(), owner)
			if errors.Is(err, kv.ErrEnded) {
				return nil
			}
			return err
		}
		hands := []func() error{put(0), put(1), put(2), end, end, renew}
		rand.Shuffle(len(hands), func(i, j int) { hands[i], hands[j] = hands[j], hands[i] })
		s.all(hands...)
		records, _ := users[round%3].list("")
		s.that(len(records) == 0, "a lease has ended, and holds %v", texts(records))
	}
}

func recordMovedToAnotherLease(s *suite) {
	u := s.open()
	one, two := u.begin(), u.begin()
	u.put("stays", "", one)
	u.put("goes", "", one)
	u.put("nobody's", "", one)
	u.put("stays", "", two)
	u.put("nobody's", "", 0)
	u.end(one)
	u.holds("stays", "")
	u.holds("nobody's", "")
	u.absent("goes")
	u.end(two)
	u.holds("nobody's", "")
	u.absent("stays")

	// The same with a lease that nobody ends.
	three := u.begin()
	b := u.brief("stays", "goes", "nobody's")
	u.put("stays", "", three)
	u.put("nobody's", "", 0)
	u.runsOut(b, "goes")
	u.holds("stays", "")
	u.holds("nobody's", "")
}

func recordWithoutLeaseStays(s *suite) {
	u, other := s.open(), s.open()
	b := u.brief("goes")
	u.put("stays", "1", 0)
	s.ok(u.Close(), "Close")
	other.runsOut(b, "goes")
	other.holds("stays", "1")
}

func closedSpaceLeavesItsLeases(s *suite) {
	u, other := s.open(), s.open()
	long := u.begin()
	u.put("long", "", long)
	b := u.brief("brief")
	s.ok(u.Close(), "Close")
	_, err := other.Renew(s.within(), long)
	s.ok(err, "Renew of a lease that was begun by a user that has closed the space")
	other.runsOut(b, "brief")
	other.holds("long", "")
	other.end(long)
	other.absent("long")
}
