package kvtest

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/libcluster/libcluster/kv"
)

func commitIsCarriedOut(s *suite) {
	u := s.open()
	one, two := u.begin(), u.begin()
	a, b := u.put("a", "1", one), u.put("b", "1", 0)
	conditions := []kv.Cond{
		kv.AtVersion("a", a), kv.OwnedBy("a", one),
		kv.AtVersion("b", b), kv.OwnedBy("b", 0),
		kv.AtVersion("c", 0), kv.OwnedBy("c", 0),
	}
	tx := kv.Tx{
		If:     conditions,
		Put:    []kv.Record{record("a", "2", two), record("c", "1", 0)},
		Delete: []string{"b", "was never there"},
	}
	// What is no key, value or owner does not count.
	tx.Put[0].Version, tx.Put[0].Created = 7, 7
	at := u.commit(tx).Mark.Revision
	s.that(at > b, "revisions must grow: %d comes after %d", at, b)
	want := []string{
		text(kv.Record{Key: "a", Value: []byte("2"), Owner: two, Version: at, Created: a}),
		text(kv.Record{Key: "c", Value: []byte("1"), Version: at, Created: at}),
	}
	records, _ := u.list("")
	s.same(want, texts(records), "after the commit")
	u.absent("b")
	for _, r := range records {
		s.same([]string{text(r)}, []string{text(u.get(r.Key))}, "Get and List")
	}

	result := u.commit(kv.Tx{If: []kv.Cond{kv.AtVersion("a", at), kv.OwnedBy("a", two)}})
	s.that(result.Mark.Revision >= at, "a commit that only compares must tell how far the space has come: %d, not %d", at, result.Mark.Revision)
	u.commit(kv.Tx{})
	u.commit(kv.Tx{Delete: []string{"was never there"}})
	records, _ = u.list("")
	s.same(want, texts(records), "after commits that change nothing")
	u.commit(kv.Tx{Put: []kv.Record{record("a", "3", 0)}}) // without any condition
	s.same([]string{text(kv.Record{Key: "a", Value: []byte("3"), Version: u.get("a").Version, Created: a})}, []string{text(u.get("a"))}, "the last write")
}

// wrong are conditions that do not hold, of the space that commitChangesNothing makes.
func wrong(a, older, gone int64, owner, other kv.Owner) map[string]kv.Cond {
	return map[string]kv.Cond{
		"an older version":                 kv.AtVersion("a", older),
		"a version to come":                kv.AtVersion("a", a+1000),
		"a record that must not be there":  kv.AtVersion("a", 0),
		"a record that is not there":       kv.AtVersion("absent", a),
		"the version of another record":    kv.AtVersion("b", a),
		"a deleted record's last version":  kv.AtVersion("gone", gone),
		"another owner":                    kv.OwnedBy("a", other),
		"no owner of a record with one":    kv.OwnedBy("a", 0),
		"the owner of a record without":    kv.OwnedBy("b", owner),
		"the owner of an absent record":    kv.OwnedBy("absent", owner),
		"the owner of a deleted record":    kv.OwnedBy("gone", owner),
		"the owner and version of another": kv.AtVersion("c", older),
	}
}

func commitChangesNothing(s *suite) {
	u := s.open()
	owner, other := u.begin(), u.begin()
	gone := u.put("gone", "1", owner)
	u.delete("gone")
	older := u.put("a", "1", other)
	a, b, c := u.put("a", "2", owner), u.put("b", "1", 0), u.put("c", "1", other)
	before, mark := u.list("")
	v := u.watch("", mark.Revision)
	for what, not := range wrong(a, older, gone, owner, other) {
		for at := range 4 {
			conditions := slices.Insert([]kv.Cond{kv.AtVersion("a", a), kv.AtVersion("b", b), kv.OwnedBy("c", other)}, at, not)
			u.refused(kv.Tx{
				If:     conditions,
				Put:    []kv.Record{record("a", "3", 0), record("absent", "3", owner)},
				Delete: []string{"b", "c"},
			})
		}
		records, _ := u.list("")
		s.same(texts(before), texts(records), "after a commit that must fail for %s", what)
	}
	s.that(u.get("c").Version == c, "c has been written")
	sentinel := u.put("z", "", 0)
	s.same([]string{text(kv.Record{Key: "z", Version: sentinel, Created: sentinel})}, changeTexts(v.upTo(sentinel)),
		"commits that fail are not reported")
}

func failedCommitTellsTheRecords(s *suite) {
	u := s.open()
	owner := u.begin()
	a := u.put("a", "1", owner)
	u.put("b", "1", 0)
	b := u.put("b", "2", 0)
	var handed []kv.Record
	result := u.refused(kv.Tx{
		If: []kv.Cond{
			kv.AtVersion("b", b), kv.OwnedBy("absent", 0), kv.OwnedBy("a", owner),
			kv.AtVersion("a", a+1), kv.AtVersion("b", 0), kv.AtVersion("absent", b),
		},
		Put:  []kv.Record{record("b", "3", 0)},
		Each: into(&handed),
	})
	s.that(len(handed) == 0, "a commit that is not carried out lists %v", texts(handed))
	s.that(result.Mark.Revision >= b, "the mark %d is older than what has been written at %d", result.Mark.Revision, b)
	s.that(len(result.Records) == 6, "one record for each of the 6 conditions; got %v", texts(result.Records))
	for i, key := range []string{"b", "", "a", "a", "b", ""} {
		got := result.Records[i]
		if key == "" {
			s.that(got.Version == 0 && got.Owner == 0, "record %d is not there; got %s", i, text(got))
			continue
		}
		s.same([]string{text(u.get(key))}, []string{text(got)}, "record %d", i)
	}
}

// oneOfManyCommitsWins has users write a record at the version that all of them know.
func oneOfManyCommitsWins(s *suite) {
	const hands, rounds = 6, 12
	users := make([]*user, hands)
	for i := range users {
		users[i] = s.open()
	}
	version := int64(0)
	for round := range rounds {
		if round == rounds/2 {
			users[0].delete("k")
			version = 0
		}
		results := make([]kv.Result, hands)
		var attempts []func() error
		for i, u := range users {
			tx := kv.Tx{If: []kv.Cond{kv.AtVersion("k", version)}, Put: []kv.Record{record("k", fmt.Sprint(i), 0)}}
			attempts = append(attempts, func() (err error) {
				results[i], err = u.Commit(u.within(), tx)
				return err
			})
		}
		s.all(attempts...)
		winner := slices.IndexFunc(results, func(r kv.Result) bool { return r.Done })
		s.that(winner >= 0, "one of %d must win", hands)
		now := users[round%hands].get("k")
		for i, r := range results {
			if i == winner {
				s.that(now.Version == r.Mark.Revision && string(now.Value) == fmt.Sprint(i), "%d has won at %d; got %s", i, r.Mark.Revision, text(now))
				continue
			}
			s.that(!r.Done, "%d and %d have both won at version %d", winner, i, version)
			s.same([]string{text(now)}, texts(r.Records), "what the loser %d is told", i)
		}
		version = now.Version
	}
}

func versionsGrow(s *suite) {
	users := []*user{s.open(), s.open()}
	v := users[0].watch("", 0)
	last := int64(0)
	grows := func(what string, revision int64) {
		s.Helper()
		s.that(revision > last, "revisions must grow and be positive: %s has %d after %d", what, revision, last)
		last = revision
	}
	for n := range 10 {
		u := users[n%2]
		owner := u.begin()
		grows("a put", u.put("a", "", 0))
		s.that(u.get("a").Version == last, "what the commit %d has written has another version: %s", last, text(u.get("a")))
		grows("a put of another key", u.put("b", "", owner))
		grows("a put of two", u.commit(kv.Tx{Put: []kv.Record{record("a", "2", 0), record("c", "", 0)}}).Mark.Revision)
		records, _ := u.list("")
		for _, r := range records {
			s.that(r.Key == "b" || r.Version == last, "what the commit %d has written has another version: %s", last, text(r))
		}
		grows("a deletion", u.delete("a", "c"))
		changes := v.upTo(last)
		s.that(changes[len(changes)-1].Version == last, "a deletion has its commit's version %d; got %v", last, changeTexts(changes))
		grows("a put of what was deleted", u.put("a", "", 0))
		u.end(owner)
		records, mark := u.list("")
		grows("the end of a lease", mark.Revision)
		s.that(len(records) == 1, "only a is left; got %v", texts(records))
	}
}

func createdIsOfTheFirstWrite(s *suite) {
	u := s.open()
	owner := u.begin()
	v := u.watch("", 0)
	// seen has everything that shows a record show when it was created.
	seen := func(created, version int64) {
		s.Helper()
		want := []string{fmt.Sprintf("version %d, created %d", version, created)}
		records, _ := u.list("k")
		changes := v.upTo(version)
		handed, _ := u.commitAndList(kv.Tx{}, "k")
		for what, r := range map[string]kv.Record{
			"Get":             u.get("k"),
			"List":            find(records, "k"),
			"a commit's list": find(handed, "k"),
			"a failed commit": find(u.refused(kv.Tx{If: []kv.Cond{kv.AtVersion("k", 0)}}).Records, "k"),
			"a watch":         changes[len(changes)-1].Record,
		} {
			s.same(want, []string{fmt.Sprintf("version %d, created %d", r.Version, r.Created)}, "as %s shows it", what)
		}
	}
	first := u.put("k", "1", 0)
	seen(first, first)
	seen(first, u.put("k", "2", 0))
	seen(first, u.put("k", "2", owner))
	u.delete("k")
	second := u.put("k", "3", owner)
	seen(second, second)
	seen(second, u.put("k", "4", owner))
	u.end(owner)
	third := u.put("k", "5", 0)
	seen(third, third)
}

// commitThatLists has a user list below what another one writes to.
func commitThatLists(s *suite) {
	const rounds = 40
	u, busy := s.open(), s.open()
	u.put("in/deleted", "", 0)
	u.put("out", "", 0)
	var over atomic.Bool
	write := func() error {
		for n := range 4 * rounds {
			if over.Load() {
				return nil
			}
			value := fmt.Sprint(n)
			_, err := busy.Commit(busy.within(), kv.Tx{Put: []kv.Record{record("in/x", value, 0), record("in/y", value, 0)}})
			if err != nil {
				return err
			}
			runtime.Gosched()
		}
		return nil
	}
	list := func() error {
		defer over.Store(true)
		for n := range rounds {
			var handed []kv.Record
			tx := kv.Tx{Each: into(&handed), Prefix: "in/", Put: []kv.Record{record("in/own", fmt.Sprint(n), 0), record("own", "", 0)}, Delete: []string{"in/deleted"}}
			if n%2 == 1 {
				tx.Put, tx.Delete = append(tx.Put, record("in/deleted", "", 0)), nil
			}
			result, err := u.Commit(u.within(), tx)
			if err != nil {
				return err
			}
			if err := listed(handed, result.Mark); err != nil {
				return err
			}
			own, deleted := find(handed, "in/own"), find(handed, "in/deleted")
			x, y := find(handed, "in/x"), find(handed, "in/y")
			switch {
			case own.Version != result.Mark.Revision || string(own.Value) != fmt.Sprint(n):
				return fmt.Errorf("the commit %d has written %d, and lists %s", result.Mark.Revision, n, text(own))
			case (deleted.Version == 0) != (n%2 == 0):
				return fmt.Errorf("the commit has put or deleted in/deleted (%v), and lists %s", tx.Delete, text(deleted))
			case x.Version != y.Version || string(x.Value) != string(y.Value):
				return fmt.Errorf("x and y are always written at once; a commit lists %s and %s", text(x), text(y))
			}
			for _, r := range handed {
				if !strings.HasPrefix(r.Key, "in/") {
					return fmt.Errorf("a commit that asks for what is below in/ lists %s", text(r))
				}
			}
		}
		return nil
	}
	s.all(write, list)
	handed, _ := u.commitAndList(kv.Tx{}, "")
	records, _ := u.list("")
	s.same(texts(records), texts(handed), "a commit that only lists")
}

func commitHandsOverEveryRecord(s *suite) {
	const commits, puts = 3, 100 // more than what stores read at once
	u := s.open()
	w := newTwin()
	for n := range commits {
		var tx kv.Tx
		for i := range puts {
			tx.Put = append(tx.Put, record(fmt.Sprintf("%d/%d", n, i), "1", 0))
		}
		w.did(tx, u.commit(tx).Mark.Revision)
	}
	tx := kv.Tx{Put: []kv.Record{record("0/0", "2", 0), record("9/0", "2", 0)}, Delete: []string{"1/50"}}
	handed, result := u.commitAndList(tx, "")
	w.did(tx, result.Mark.Revision)
	s.same(texts(w.list()), texts(handed), "what a commit lists")
	records, _ := u.list("")
	s.same(texts(w.list()), texts(records), "List")
}

var errEnough = errors.New("enough")

// enough returns a function that fails when it is called after n times, and counts its calls.
func enough(n int, calls *int) func(kv.Record) error {
	return func(kv.Record) error {
		if *calls++; *calls > n {
			return errEnough
		}
		return nil
	}
}

func errorOfEachLeavesTheWrites(s *suite) {
	u := s.open()
	u.commit(kv.Tx{Put: []kv.Record{record("a", "", 0), record("b", "", 0), record("c", "", 0)}})
	v := u.watch("", 0)
	for n := range 3 {
		key, calls := fmt.Sprint("written ", n), 0
		_, err := u.Commit(s.within(), kv.Tx{Put: []kv.Record{record(key, "", 0)}, Each: enough(n, &calls)})
		s.is(err, errEnough, "a commit whose each fails")
		s.that(calls == n+1, "each has failed after %d records, and was called %d times", n, calls)
		u.holds(key, "")
		changes := v.upTo(u.get(key).Version)
		s.that(len(changes) == 1 && changes[0].Key == key, "a commit whose each has failed is reported; got %v", changeTexts(changes))
	}
}
