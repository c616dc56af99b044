package kvtest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libcluster/libcluster/kv"
)

// longTTL is asked for where no lease must end.
const longTTL = 100 * time.Hour

func (s *suite) fatalf(format string, args ...any) {
	s.Helper()
	s.Errorf(format, args...)
	s.FailNow()
}

// ok fails the test if there is an error.
func (s *suite) ok(err error, format string, args ...any) {
	s.Helper()
	if err != nil {
		s.fatalf("%s: %v", fmt.Sprintf(format, args...), err)
	}
}

// is fails the test unless the error wraps another one.
func (s *suite) is(err, target error, format string, args ...any) {
	s.Helper()
	if !errors.Is(err, target) {
		s.fatalf("%s: the error must wrap %q; got %v", fmt.Sprintf(format, args...), target, err)
	}
}

// that fails the test unless what is said is so.
func (s *suite) that(so bool, format string, args ...any) {
	s.Helper()
	if !so {
		s.fatalf(format, args...)
	}
}

// same fails the test unless both lists of lines are the same.
func (s *suite) same(want, got []string, format string, args ...any) {
	s.Helper()
	if !slices.Equal(want, got) {
		s.fatalf("%s:\n want %s\n  got %s", fmt.Sprintf(format, args...), strings.Join(want, "\n      "), strings.Join(got, "\n      "))
	}
}

// all runs functions at once, and fails the test if one fails. They must not fail it
// themselves.
func (s *suite) all(hands ...func() error) {
	s.Helper()
	errs := make([]error, len(hands))
	var running sync.WaitGroup
	for i, hand := range hands {
		running.Go(func() { errs[i] = hand() })
	}
	running.Wait()
	if err := errors.Join(errs...); err != nil {
		s.fatalf("%v", err)
	}
}

// within returns a context for what must happen.
func (s *suite) within() context.Context { return s.after(0) }

// after returns a context for what must happen once a time has passed.
func (s *suite) after(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d+s.h.Patience)
	s.Cleanup(cancel)
	return ctx
}

// text is a record as tests compare and print it.
func text(r kv.Record) string {
	value := fmt.Sprintf("%.100q", r.Value)
	if len(r.Value) > 100 {
		value = fmt.Sprintf("%d bytes (%x)", len(r.Value), sha256.Sum256(r.Value))
	}
	return fmt.Sprintf("%q = %s, owner %d, version %d, created %d", r.Key, value, r.Owner, r.Version, r.Created)
}

func texts(records []kv.Record) []string {
	var all []string
	for _, r := range records {
		all = append(all, text(r))
	}
	return all
}

func txText(tx kv.Tx) string {
	var puts []string
	for _, r := range tx.Put {
		puts = append(puts, fmt.Sprintf("%.100q = %.20q for %d", r.Key, r.Value, r.Owner))
	}
	return fmt.Sprintf("if %+v put %s delete %q", tx.If, puts, tx.Delete)
}

// changeTexts has the changes of one commit in the order of their keys: any is good.
func changeTexts(changes []kv.Change) []string {
	changes = slices.Clone(changes)
	slices.SortStableFunc(changes, func(a, b kv.Change) int {
		return cmp.Or(cmp.Compare(a.Version, b.Version), strings.Compare(a.Key, b.Key))
	})
	var all []string
	for _, c := range changes {
		if c.Gone {
			all = append(all, fmt.Sprintf("%q is gone, version %d", c.Key, c.Version))
		} else {
			all = append(all, text(c.Record))
		}
	}
	return all
}

// user is one opening of a space. Its methods in small letters must work, and only the
// test's own goroutine may call them.
type user struct {
	*suite
	kv.Space
}

// open opens the test's space once more.
func (s *suite) open() *user {
	s.Helper()
	return s.openNamed(s.space)
}

func (s *suite) openNamed(name string) *user {
	s.Helper()
	opened, err := s.store.Open(s.within(), name)
	s.ok(err, "Open of %q", name)
	s.Cleanup(func() { _ = opened.Close() })
	return &user{s, opened}
}

func randomOwner() kv.Owner { return kv.Owner(1 + rand.Int64N(math.MaxInt64)) }

// begin begins a lease that outlives the test.
func (u *user) begin() kv.Owner {
	u.Helper()
	owner := randomOwner()
	_, err := u.Begin(u.within(), owner, longTTL)
	u.ok(err, "Begin")
	return owner
}

func (u *user) end(owner kv.Owner) {
	u.Helper()
	u.ok(u.End(u.within(), owner), "End")
}

func record(key, value string, owner kv.Owner) kv.Record {
	return kv.Record{Key: key, Value: []byte(value), Owner: owner}
}

// commit carries out a transaction, and returns what has become of it.
func (u *user) commit(tx kv.Tx) kv.Result {
	u.Helper()
	result, err := u.Commit(u.within(), tx)
	u.ok(err, "Commit of %s", txText(tx))
	u.that(result.Done, "a commit whose conditions hold is not carried out: %s; it tells %q", txText(tx), texts(result.Records))
	return result
}

// refused has a transaction not be carried out.
func (u *user) refused(tx kv.Tx) kv.Result {
	u.Helper()
	result, err := u.Commit(u.within(), tx)
	u.ok(err, "Commit of %s", txText(tx))
	u.that(!result.Done, "a commit with a condition that does not hold is carried out: %s", txText(tx))
	return result
}

// put writes one record, and returns its version.
func (u *user) put(key, value string, owner kv.Owner) int64 {
	u.Helper()
	return u.commit(kv.Tx{Put: []kv.Record{record(key, value, owner)}}).Mark.Revision
}

func (u *user) delete(keys ...string) int64 {
	u.Helper()
	return u.commit(kv.Tx{Delete: keys}).Mark.Revision
}

func (u *user) get(key string) kv.Record {
	u.Helper()
	r, mark, err := u.Get(u.within(), key)
	u.ok(err, "Get of %q", key)
	u.that(r.Version <= mark.Revision, "Get returned version %d, which is later than its mark %d", r.Version, mark.Revision)
	u.that(r.Version == 0 || r.Key == key, "Get of %q returned %s", key, text(r))
	return r
}

// absent fails the test if there is a record.
func (u *user) absent(key string) {
	u.Helper()
	r := u.get(key)
	u.that(r.Version == 0, "there must be no record; got %s", text(r))
}

// holds fails the test unless there is a record of that value.
func (u *user) holds(key, value string) {
	u.Helper()
	r := u.get(key)
	u.that(r.Version != 0 && string(r.Value) == value, "there must be %q = %q; got %s", key, value, text(r))
}

func (u *user) list(prefix string) ([]kv.Record, kv.Mark) {
	u.Helper()
	records, mark, err := listAll(u.within(), u, prefix)
	u.ok(err, "List of %q", prefix)
	u.ok(listed(records, mark), "List of %q", prefix)
	return records, mark
}

// commitAndList is commit, and returns what it has listed below a prefix.
func (u *user) commitAndList(tx kv.Tx, prefix string) (records []kv.Record, result kv.Result) {
	u.Helper()
	tx.Prefix, tx.Each = prefix, into(&records)
	result = u.commit(tx)
	u.ok(listed(records, result.Mark), "Commit of %s that lists %q", txText(tx), prefix)
	return records, result
}

// listAll returns what List hands over.
func listAll(ctx context.Context, s kv.Space, prefix string) (records []kv.Record, mark kv.Mark, err error) {
	mark, err = s.List(ctx, prefix, into(&records))
	return records, mark, err
}

// into adds what it is handed to records.
func into(records *[]kv.Record) func(kv.Record) error {
	return func(r kv.Record) error {
		*records = append(*records, r)
		return nil
	}
}

// listed says what is wrong with any list.
func listed(records []kv.Record, mark kv.Mark) error {
	for i, r := range records {
		if r.Version > mark.Revision || r.Created > r.Version || r.Created <= 0 {
			return fmt.Errorf("a list with mark %d contains %s", mark.Revision, text(r))
		}
		if i > 0 && r.Key <= records[i-1].Key {
			return fmt.Errorf("a list must be in the order of keys: %q comes after %q", r.Key, records[i-1].Key)
		}
	}
	return nil
}

// find returns the record of a key in a list.
func find(records []kv.Record, key string) kv.Record {
	for _, r := range records {
		if r.Key == key {
			return r
		}
	}
	return kv.Record{}
}

// viewer is a watch and how far it has come.
type viewer struct {
	*suite
	w    kv.Watch
	mark kv.Mark
	seen int64 // the version of the last change
}

func (u *user) watch(prefix string, after int64) *viewer {
	u.Helper()
	w, err := u.Watch(u.within(), prefix, after)
	u.ok(err, "Watch of %q after %d", prefix, after)
	u.Cleanup(w.Close)
	return &viewer{suite: u.suite, w: w, mark: kv.Mark{Revision: after}}
}

// errWrong means that a watch has reported what no watch may.
var errWrong = errors.New("a watch is wrong")

// next calls Next, and says what is wrong with any changes.
func (v *viewer) next(ctx context.Context) ([]kv.Change, error) {
	changes, err := v.w.Next(ctx)
	if err != nil {
		return nil, err
	}
	previous := v.mark.Revision
	for i, c := range changes.Records {
		switch {
		case c.Version <= v.mark.Revision:
			return nil, fmt.Errorf("%w: at revision %d it reports %q once more, or later than it must", errWrong, v.mark.Revision, changeTexts(changes.Records[i:]))
		case c.Version < previous:
			return nil, fmt.Errorf("%w: it must report commits in their order; got %q", errWrong, changeTexts(changes.Records))
		case c.Version > changes.Mark.Revision:
			return nil, fmt.Errorf("%w: the mark %d must be that of the last commit; got %q", errWrong, changes.Mark.Revision, changeTexts(changes.Records))
		}
		previous = c.Version
		for _, other := range changes.Records[:i] {
			if other.Key == c.Key && other.Version == c.Version {
				return nil, fmt.Errorf("%w: it reports %q twice at version %d", errWrong, c.Key, c.Version)
			}
		}
	}
	if len(changes.Records) > 0 {
		v.mark, v.seen = changes.Mark, previous
	}
	return changes.Records, nil
}

// tryUpTo reads all changes up to those of a commit, which must be reported.
func (v *viewer) tryUpTo(ctx context.Context, revision int64) ([]kv.Change, error) {
	var all []kv.Change
	for v.seen < revision {
		changes, err := v.next(ctx)
		if err != nil {
			return nil, fmt.Errorf("a watch must come to revision %d; it has reported %q: %w", revision, changeTexts(all), err)
		}
		all = append(all, changes...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("a watch has reported revision %d before it was", revision)
	}
	return all, nil
}

// upTo is tryUpTo that must work.
func (v *viewer) upTo(revision int64) []kv.Change {
	v.Helper()
	all, err := v.tryUpTo(v.within(), revision)
	v.ok(err, "Next")
	return all
}

// wait returns the changes that are reported next, or none if there are none for a time.
func (v *viewer) wait(d time.Duration) []kv.Change {
	v.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	for {
		changes, err := v.next(ctx)
		if errors.Is(err, errWrong) || err != nil && ctx.Err() == nil {
			v.fatalf("Next: %v", err)
		}
		if err != nil || len(changes) > 0 {
			return changes
		}
	}
}

// quiet fails the test if the watch reports anything for a time.
func (v *viewer) quiet(d time.Duration, what string) {
	v.Helper()
	changes := v.wait(d)
	v.that(len(changes) == 0, "%s: nothing must be reported; got %v", what, changeTexts(changes))
}
