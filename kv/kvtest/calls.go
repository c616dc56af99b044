package kvtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/libcluster/libcluster/kv"
)

// returnsWithin fails the test unless call returns within a time.
func (s *suite) returnsWithin(bound time.Duration, what string, call func() error) error {
	s.Helper()
	returned := make(chan error, 1)
	go func() { returned <- call() }()
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case err := <-returned:
		return err
	case <-timer.C:
		s.fatalf("%s must return within %v", what, bound)
		return nil
	}
}

// undecided fails the test if an error says more than that a call was given up.
func (s *suite) undecided(err error, what string) {
	s.Helper()
	for _, not := range []error{kv.ErrEnded, kv.ErrRefused, kv.ErrClosed, kv.ErrMissed} {
		s.that(!errors.Is(err, not), "%s with a context that has ended must not say %q", what, not)
	}
}

// calls are all that a space can be asked for.
func (u *user) calls(owner kv.Owner) map[string]func(ctx context.Context) error {
	another := randomOwner() // once begun it is refused: what is called again and again fills no store
	return map[string]func(ctx context.Context) error{
		"Begin": func(ctx context.Context) error { _, err := u.Begin(ctx, another, longTTL); return err },
		"Renew": func(ctx context.Context) error { _, err := u.Renew(ctx, owner); return err },
		"Get":   func(ctx context.Context) error { _, _, err := u.Get(ctx, "k"); return err },
		"List":  func(ctx context.Context) error { _, _, err := listAll(ctx, u, ""); return err },
		"Commit": func(ctx context.Context) error {
			_, err := u.Commit(ctx, kv.Tx{Put: []kv.Record{record("k", "", owner)}, Each: func(kv.Record) error { return nil }})
			return err
		},
		"Watch": func(ctx context.Context) error {
			w, err := u.Watch(ctx, "", 0)
			if err == nil {
				w.Close()
			}
			return err
		},
		"End": func(ctx context.Context) error { return u.End(ctx, randomOwner()) },
	}
}

func callsReturnSoon(s *suite) {
	u := s.open()
	owner := u.begin()
	v := u.watch("", 0)

	// A Next that waits already when its context ends.
	waiting, cancel := context.WithTimeout(context.Background(), s.h.Quiet)
	defer cancel()
	err := s.returnsWithin(s.h.Quiet+s.h.soon, "Next", func() error { _, err := v.next(waiting); return err })
	s.that(err != nil, "Next has nothing to return, and returned")
	s.undecided(err, "Next")

	over, cancelled := context.WithCancel(context.Background())
	cancelled()
	err = s.returnsWithin(s.h.soon, "Next", func() error { _, err := v.next(over); return err })
	s.that(err != nil, "Next has nothing to return, and returned")
	s.undecided(err, "Next")
	for what, call := range u.calls(owner) {
		s.undecided(s.returnsWithin(s.h.soon, what, func() error { return call(over) }), what)
	}
	err = s.returnsWithin(s.h.soon, "Open", func() error {
		opened, err := s.store.Open(over, s.space)
		if err != nil {
			return err
		}
		return opened.Close()
	})
	s.undecided(err, "Open")

	// A commit that is given up may have been done, or may yet be, and so each has a key of its
	// own; a commit without an error was done.
	for n := range 20 {
		ctx, cancel := context.WithCancel(context.Background())
		value, key := strconv.Itoa(n), fmt.Sprintf("raced %d", n)
		var err error
		s.all(
			func() error { cancel(); return nil },
			func() error {
				_, err = u.Commit(ctx, kv.Tx{Put: []kv.Record{record(key, value, owner)}})
				return nil
			},
		)
		s.undecided(err, "Commit")
		r := u.get(key)
		s.that(err != nil || string(r.Value) == value, "%s has been written; got %s", value, text(r))
	}
	_, err = u.Renew(s.within(), owner)
	s.ok(err, "Renew, after calls that have been given up")
	v.upTo(u.put("k", "", owner))
}

func closingEndsCallsAndWatches(s *suite) {
	u, other := s.open(), s.open()
	owner := u.begin()
	waits := func(v *viewer) <-chan error {
		s.Helper()
		returned := make(chan error, 1)
		go func() {
			for {
				if _, err := v.next(context.Background()); err != nil {
					returned <- err
					return
				}
			}
		}()
		select { // until it waits for sure
		case err := <-returned:
			s.fatalf("Next does not wait while nothing happens: %v", err)
		case <-time.After(s.h.Quiet):
		}
		return returned
	}

	v := u.watch("", 0)
	returned := waits(v)
	v.w.Close()
	err := s.returnsWithin(s.h.soon, "Next after Close of its watch", func() error { return <-returned })
	s.that(err != nil, "Next of a watch that has been closed")
	v.w.Close()

	open, idle := u.watch("", 0), u.watch("", 0)
	theirs := other.watch("", 0)
	returned = waits(open)
	var busy []<-chan error
	var closed atomic.Bool
	for what, call := range u.calls(owner) {
		ended := make(chan error, 1)
		busy = append(busy, ended)
		go func() {
			for {
				after := closed.Load()
				err := call(s.within())
				switch {
				case errors.Is(err, kv.ErrClosed):
					ended <- nil
					return
				case after:
					ended <- fmt.Errorf("%s after Close does not say that the space is closed: %w", what, err)
					return
				}
			}
		}()
	}
	last := other.put("mine", "", 0) // meanwhile
	s.ok(s.returnsWithin(s.h.soon, "Close", u.Close), "Close")
	closed.Store(true)
	err = s.returnsWithin(s.h.soon, "Next after Close of the space", func() error { return <-returned })
	s.is(err, kv.ErrClosed, "a Next that waits while the space is closed")
	_, err = idle.w.Next(s.within())
	s.is(err, kv.ErrClosed, "Next after the space was closed")
	for _, ended := range busy {
		s.ok(s.returnsWithin(s.h.soon, "a call after Close", func() error { return <-ended }), "calls while the space is closed")
	}
	for what, call := range u.calls(owner) {
		s.is(s.returnsWithin(s.h.soon, what, func() error { return call(s.within()) }), kv.ErrClosed, "%s after Close", what)
	}
	open.w.Close()
	_ = s.returnsWithin(s.h.soon, "Close again", u.Close)

	theirs.upTo(last)
	_, err = other.Renew(s.within(), owner)
	s.ok(err, "Renew of another user")
	theirs.upTo(other.put("mine", "again", owner))
	s.open().holds("mine", "again")
}

// manyUsersAtOnce has users move coins from one record to another, each user from two
// goroutines. Nobody ever sees a coin more or less.
func manyUsersAtOnce(s *suite) {
	const users, purses, coins, moves = 3, 5, 100, 25
	u := s.open()
	var tx kv.Tx
	for i := range purses {
		tx.Put = append(tx.Put, record(fmt.Sprint("purse ", i), strconv.Itoa(coins), 0))
	}
	start := u.commit(tx).Mark.Revision
	v := s.open().watch("", start-1)
	var moving atomic.Int32
	var last atomic.Int64
	var work []func() error
	for range users {
		user := s.open()
		for range 2 {
			moving.Add(1)
			work = append(work, func() error {
				defer moving.Add(-1)
				revision, err := user.move(purses, moves)
				for old := last.Load(); revision > old && !last.CompareAndSwap(old, revision); old = last.Load() {
				}
				return err
			})
		}
		work = append(work, func() error {
			for moving.Load() > 0 {
				records, _, err := listAll(s.within(), user, "purse ")
				if err != nil {
					return err
				}
				if err := counted(records, purses*coins); err != nil {
					return err
				}
				runtime.Gosched()
			}
			return nil
		}, func() error { return user.comeAndGo(moves) })
	}
	s.all(work...)
	records, _ := u.list("")
	s.that(len(records) == purses, "only the purses are left; got %v", texts(records))
	s.ok(counted(records, purses*coins), "in the end")

	// The watch has every state there was.
	w := newTwin()
	changes := v.upTo(last.Load())
	for i, c := range changes {
		if c.Version > last.Load() {
			break
		}
		w.told([]kv.Change{c})
		if i+1 == len(changes) || changes[i+1].Version > c.Version {
			var there []kv.Record
			for _, r := range w.list() {
				if r.Owner == 0 {
					there = append(there, r)
				}
			}
			s.ok(counted(there, purses*coins), "as the watch has it at revision %d", c.Version)
		}
	}
	for _, r := range records {
		s.same([]string{text(r)}, []string{text(w.records[r.Key])}, "as the watch has it in the end")
	}
}

// move moves coins, and returns the revision of the last time.
func (u *user) move(purses, moves int) (int64, error) {
	var last int64
	for range moves {
		from, to := fmt.Sprint("purse ", rand.IntN(purses)), fmt.Sprint("purse ", rand.IntN(purses))
		if from == to {
			continue
		}
		for done := false; !done; {
			records, _, err := listAll(u.within(), u, "purse ")
			if err != nil {
				return last, err
			}
			a, b := find(records, from), find(records, to)
			has, _ := strconv.Atoi(string(a.Value))
			gets, _ := strconv.Atoi(string(b.Value))
			n := rand.IntN(has + 1)
			runtime.Gosched()
			result, err := u.Commit(u.within(), kv.Tx{
				If:  []kv.Cond{kv.AtVersion(from, a.Version), kv.AtVersion(to, b.Version)},
				Put: []kv.Record{record(from, strconv.Itoa(has-n), 0), record(to, strconv.Itoa(gets+n), 0)},
			})
			if err != nil {
				return last, err
			}
			if done = result.Done; done {
				last = result.Mark.Revision
			}
		}
	}
	return last, nil
}

// counted says whether coins are missing.
func counted(records []kv.Record, want int) error {
	sum := 0
	for _, r := range records {
		n, err := strconv.Atoi(string(r.Value))
		if err != nil || n < 0 {
			return fmt.Errorf("nobody has written %s", text(r))
		}
		sum += n
	}
	if sum != want {
		return fmt.Errorf("there must be %d coins, and there are %d: %v", want, sum, texts(records))
	}
	return nil
}

// comeAndGo begins and ends leases.
func (u *user) comeAndGo(times int) error {
	for range times {
		owner := randomOwner()
		if _, err := u.Begin(u.within(), owner, longTTL); err != nil {
			return err
		}
		key := fmt.Sprint("member ", owner)
		result, err := u.Commit(u.within(), kv.Tx{If: []kv.Cond{kv.AtVersion(key, 0)}, Put: []kv.Record{record(key, "", owner)}})
		if err != nil {
			return err
		}
		if !result.Done {
			return fmt.Errorf("nobody else has the key %q", key)
		}
		if _, err := u.Renew(u.within(), owner); err != nil {
			return err
		}
		if err := u.End(u.within(), owner); err != nil {
			return err
		}
		r, _, err := u.Get(u.within(), key)
		if err != nil {
			return err
		}
		if r.Version != 0 {
			return fmt.Errorf("its lease has ended, and there is %s", text(r))
		}
	}
	return nil
}
