package kvtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/libcluster/libcluster/kv"
)

// watchReportsEachCommit has users commit at random, and compares what watches have
// reported with what the users know that they have done.
func watchReportsEachCommit(s *suite) {
	const hands, commits = 3, 40
	u := s.open()
	owner := u.begin()
	_, start := u.list("")
	views := []*viewer{s.open().watch("", 0), s.open().watch("", 0), u.watch("", start.Revision), s.open().watch("hand 1/", 0)}
	reported := make([][]kv.Change, len(views))
	var work []func() error
	for i, v := range views[:2] { // the others read what has been
		work = append(work, func() error {
			for {
				changes, err := v.next(s.within())
				if err != nil {
					return err
				}
				reported[i] = append(reported[i], changes...)
				if slices.ContainsFunc(changes, func(c kv.Change) bool { return c.Key == "hand 1/last" }) {
					return nil
				}
			}
		})
	}
	twins := make([]*twin, hands)
	var churning sync.WaitGroup
	churning.Add(hands)
	for hand := range hands {
		user := s.open()
		twins[hand] = newTwin()
		work = append(work, func() error {
			defer churning.Done()
			return user.churn(twins[hand], hand, commits, 0, owner)
		})
	}
	finish := newTwin()
	var last int64
	work = append(work, func() error {
		churning.Wait()
		tx := kv.Tx{Put: []kv.Record{record("hand 1/last", "", owner)}}
		result, err := u.Commit(s.within(), tx)
		last = result.Mark.Revision
		finish.did(tx, last)
		return err
	})
	s.all(work...)

	all := logs(0, append(twins, finish)...)
	for i, v := range views[2:] {
		reported[2+i] = v.upTo(last)
	}
	for i := range views {
		want := all
		if i == 3 {
			want = slices.DeleteFunc(slices.Clone(want), func(c kv.Change) bool { return !strings.HasPrefix(c.Key, "hand 1/") })
		}
		s.same(changeTexts(want), changeTexts(reported[i]), "what watch %d has reported", i)
	}
}

func watchFromARevision(s *suite) {
	u := s.open()
	owner := u.begin()
	_, before := u.list("")
	revisions := []int64{
		u.put("a", "1", 0), u.put("b", "1", owner), u.put("a", "2", 0), u.delete("a"),
		u.commit(kv.Tx{Put: []kv.Record{record("a", "3", 0), record("c", "3", owner)}, Delete: []string{"b"}}).Mark.Revision,
		u.put("a", "4", owner),
	}
	last := revisions[len(revisions)-1]
	all := u.watch("", before.Revision).upTo(last)
	var seen []int64
	for _, c := range all {
		seen = append(seen, c.Version)
	}
	s.that(slices.Equal(slices.Compact(seen), revisions), "the commits %v have been reported as those of %v", revisions, seen)
	for _, after := range revisions[:len(revisions)-1] {
		want := slices.DeleteFunc(slices.Clone(all), func(c kv.Change) bool { return c.Version <= after })
		s.same(changeTexts(want), changeTexts(s.open().watch("", after).upTo(last)), "a watch from %d", after)
	}
	v := u.watch("", last)
	changes := v.upTo(u.delete("a"))
	s.that(len(changes) == 1 && changes[0].Gone, "a watch from the last commit reports those to come; got %v", changeTexts(changes))
}

// watchOpenedBeforeAList has users begin to look while others write: by a list and a watch
// from its mark on, or by a watch from then on and a list that is read later.
func watchOpenedBeforeAList(s *suite) {
	const hands, commits, lookers = 3, 25, 6
	owner := s.open().begin()
	finish := s.open()
	twins := make([]*twin, hands)
	looks := make([]*look, lookers)
	var churning, opening sync.WaitGroup
	churning.Add(hands)
	opening.Add(lookers)
	var work []func() error
	for hand := range hands {
		u := s.open()
		twins[hand] = newTwin()
		work = append(work, func() error {
			defer churning.Done()
			if err := u.churn(twins[hand], hand, commits, 0, owner); err != nil {
				return err
			}
			opening.Wait() // so that there is something to miss
			return u.churn(twins[hand], hand, commits, 0, owner)
		})
	}
	for i := range looks {
		u := s.open()
		work = append(work, func() (err error) {
			defer opening.Done()
			looks[i], err = u.look(i%2 == 0)
			return err
		})
	}
	s.all(work...)

	tx := kv.Tx{Put: []kv.Record{record("last", "", 0)}}
	last := finish.commit(tx).Mark.Revision
	records, _ := finish.list("")
	ends := newTwin()
	ends.did(tx, last)
	for i, l := range looks {
		changes := l.v.upTo(last)
		after := l.mark.Revision
		s.same(changeTexts(logs(after, append(slices.Clone(twins), ends)...)), changeTexts(since(after, changes)),
			"what looker %d has been told after its list of %d", i, after)
		l.seen.told(changes)
		s.same(texts(records), texts(l.seen.list()), "what looker %d has seen in the end", i)
	}
}

// look is a list, and a watch of what comes after it.
type look struct {
	seen *twin
	mark kv.Mark
	v    *viewer
}

func (u *user) look(watchFirst bool) (*look, error) {
	var w kv.Watch
	var err error
	if watchFirst {
		if w, err = u.Watch(u.within(), "", 0); err != nil {
			return nil, err
		}
	}
	runtime.Gosched()
	records, mark, err := listAll(u.within(), u, "")
	if err != nil {
		return nil, err
	}
	runtime.Gosched()
	if !watchFirst {
		if w, err = u.Watch(u.within(), "", mark.Revision); err != nil {
			return nil, err
		}
	}
	u.Cleanup(w.Close)
	l := &look{newTwin(), mark, &viewer{suite: u.suite, w: w}}
	for _, r := range records {
		l.seen.records[r.Key] = r
	}
	return l, nil
}

func deletionIsReported(s *suite) {
	u, other := s.open(), s.open()
	owner := u.begin()
	v := other.watch("", 0)
	for _, key := range []string{"deleted", "with another", "stays"} {
		u.put(key, "1", 0)
	}
	last := u.put("ended", "1", owner)
	v.upTo(last)
	gone := func(key string, version int64) {
		s.Helper()
		changes := v.upTo(version)
		s.that(len(changes) == 1 && changes[0].Gone && changes[0].Key == key && changes[0].Version == version,
			"%q is gone at %d; the watch reports %v", key, version, changeTexts(changes))
	}
	gone("deleted", u.delete("deleted", "was never there"))
	u.delete("deleted") // for the second time: nothing to report
	both := u.commit(kv.Tx{Delete: []string{"with another"}, Put: []kv.Record{record("new", "1", 0)}}).Mark.Revision
	want := []kv.Change{
		{Record: kv.Record{Key: "new", Value: []byte("1"), Version: both, Created: both}},
		{Record: kv.Record{Key: "with another", Version: both}, Gone: true},
	}
	s.same(changeTexts(want), changeTexts(v.upTo(both)), "one commit that puts and deletes")
	u.end(owner)
	changes := v.upTo(both + 1)
	s.that(len(changes) == 1 && changes[0].Gone && changes[0].Key == "ended", "the end of a lease is reported; got %v", changeTexts(changes))
	b := u.brief("brief")
	u.runsOut(b, "brief")
	records, _ := u.list("")
	var keys []string
	for _, r := range records {
		keys = append(keys, r.Key)
	}
	s.same([]string{"new", "stays"}, keys, "what is left")
}

func watchOfAPrefix(s *suite) {
	u := s.open()
	prefixes := []string{"a/", "a", "a%", "a_", `a\`, "a/b", "A", "", "é", "a*"}
	views := make(map[string]*viewer)
	for _, prefix := range prefixes {
		views[prefix] = u.watch(prefix, 0)
	}
	var tx kv.Tx
	w := newTwin()
	for _, key := range []string{"a", "a/", "a/b", "a/b/c", "a%", "a%b", "a_", "a_b", `a\b`, "ab", "axb", "A", "A/", "b", "é", "e", "a*", "a0"} {
		tx.Put = append(tx.Put, record(key, "1", 0))
	}
	w.did(tx, u.commit(tx).Mark.Revision) // one commit
	for _, key := range slices.Sorted(maps.Keys(w.records)) {
		tx := kv.Tx{Delete: []string{key}}
		w.did(tx, u.commit(tx).Mark.Revision) // and one for each key
	}
	for _, prefix := range prefixes {
		want := slices.DeleteFunc(slices.Clone(w.log), func(c kv.Change) bool { return !strings.HasPrefix(c.Key, prefix) })
		last := want[len(want)-1].Version
		s.same(changeTexts(want), changeTexts(views[prefix].upTo(last)), "the watch of %q", prefix)
		s.same(changeTexts(want), changeTexts(u.watch(prefix, want[0].Version-1).upTo(last)), "a later watch of %q", prefix)
	}
	u.put("b", "", 0)
	views["a"].quiet(s.h.Quiet, "nothing with the prefix is written")
}

func watchThatNobodyReads(s *suite) {
	u := s.open()
	unread := u.watch("", 0)
	reader := u.watch("", 0)
	var last int64
	for n := range 300 {
		last = u.put("k", fmt.Sprint(n), 0)
		if n%50 == 0 {
			reader.upTo(last)
		}
	}
	s.that(len(unread.upTo(last)) == 300, "all must be reported at last")
	idle := u.watch("", 0)
	idle.w.Close()
	idle.w.Close()
	ctx := s.within()
	_, err := idle.w.Next(ctx)
	s.that(err != nil && ctx.Err() == nil, "Next of a watch that has been closed must fail at once; got %v", err)
	reader.upTo(u.put("k", "", 0))
}

// cancelledNextLosesNothing has the end of a context race each change: it ends before,
// after, or at the same time.
func cancelledNextLosesNothing(s *suite) {
	u := s.open()
	v := s.open().watch("", 0)
	var want, got []string
	var last int64
	take := func(ctx context.Context) error {
		changes, err := v.next(ctx)
		for _, c := range changes {
			got = append(got, string(c.Value))
		}
		return err
	}
	for n := range 120 {
		want = append(want, fmt.Sprint(n))
		ctx, cancel := context.WithCancel(s.within())
		put := func() error {
			result, err := u.Commit(s.within(), kv.Tx{Put: []kv.Record{record("k", fmt.Sprint(n), 0)}})
			last = result.Mark.Revision
			return err
		}
		end := func() error { cancel(); return nil }
		next := func() error {
			err := take(ctx)
			if errors.Is(err, errWrong) || err != nil && ctx.Err() == nil {
				return fmt.Errorf("Next failed before its context ended: %w", err)
			}
			return nil
		}
		switch n % 4 {
		case 0:
			s.all(next, func() error { return errors.Join(put(), end()) })
		case 1:
			s.all(next, func() error { return errors.Join(end(), put()) })
		case 2: // the change is there already, and the context has ended
			s.all(func() error { return errors.Join(put(), end(), next()) })
		default:
			s.all(next, put, end)
		}
	}
	for ctx := s.within(); v.seen < last; {
		s.ok(take(ctx), "Next, after it was cancelled; %d of %d have been reported", len(got), len(want))
	}
	s.same(want, got, "every change, once and in order, although Next was cancelled in between")
}

func watchThatHasMissedSomething(s *suite) {
	if s.forget == nil {
		s.Logf("left out: the harness cannot drop the history")
		return
	}
	u := s.open()
	first := u.put("k", "0", 0)
	v := s.open().watch("", 0)
	var last int64
	for n := range 5 {
		last = u.put("k", fmt.Sprint(n), 0)
	}
	s.forget()

	// A watch that was open may have read it all.
	var got []kv.Change
	for ctx := s.within(); v.seen < last; {
		changes, err := v.next(ctx)
		if err != nil {
			s.is(err, kv.ErrMissed, "Next of a watch that cannot go on")
			_, err = v.next(ctx)
			s.that(err != nil, "Next of a watch that is over must fail")
			break
		}
		for _, c := range changes {
			s.that(string(c.Value) == fmt.Sprint(len(got)), "a change has been left out; after %v the watch reports %s", changeTexts(got), text(c.Record))
			got = append(got, c)
		}
	}
	w, err := u.Watch(s.within(), "", first)
	if err == nil {
		_, err = w.Next(s.within())
		w.Close()
	}
	s.is(err, kv.ErrMissed, "a watch from a revision that has been forgotten")
	u.holds("k", "4")
	v = u.watch("", 0)
	v.upTo(u.put("k", "5", 0))
}
