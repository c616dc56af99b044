package kvtest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/libcluster/libcluster/kv"
)

func getSeesWhatHasReturnedBefore(s *suite) {
	a, b := s.open(), s.open()
	owner := a.begin()
	for n := range 40 {
		value := fmt.Sprint(n)
		version := a.put("k", value, owner)
		r := b.get("k")
		s.that(r.Version == version && string(r.Value) == value, "what was written at %d is not seen; got %s", version, text(r))
		version = a.put("k", value+"!", 0)
		records, mark := b.list("")
		s.that(mark.Revision >= version && find(records, "k").Version == version, "what was written at %d is not listed; got %v", version, texts(records))
		version = a.put("k", value, owner)
		failed := b.refused(kv.Tx{If: []kv.Cond{kv.AtVersion("k", 0)}})
		s.that(failed.Records[0].Version == version, "what was written at %d is not compared; got %v", version, texts(failed.Records))
		if n == 39 {
			a.end(owner)
		} else {
			a.delete("k")
		}
		b.absent("k")
	}
}

func listIsOfItsPrefix(s *suite) {
	u := s.open()
	records, mark := u.list("")
	s.that(len(records) == 0, "a space that nobody has written to holds %v", texts(records))
	s.that(mark.Revision > 0, "a mark must be positive, since a watch from 0 is one from now; got %d", mark.Revision)
	keys := []string{
		"a", "a ", "a b", "a!", "a/", "a/b", "a/b/c", "a/c", "a0", "aB", "aa", "ab", "a~", "A", "A/b",
		"b", "é", "e\u0301", "éa", "日本", "日", "\uffee", "\U0001f600", "_", "%", "a%b", "a_b", `a\b`, `\`, "[a]", "*", "?",
	}
	var tx kv.Tx
	for _, key := range keys {
		tx.Put = append(tx.Put, record(key, key, 0))
	}
	u.commit(tx)
	slices.Sort(keys)
	for _, prefix := range append(slices.Clone(keys), "", "a/b/", "nothing", "\U0001f601", "zz", "a/b/c/d") {
		var want, got []string
		for _, key := range keys {
			if strings.HasPrefix(key, prefix) {
				want = append(want, key)
			}
		}
		records, _ := u.list(prefix)
		for _, r := range records {
			s.that(r.Key == string(r.Value), "the record of %q is that of %q", r.Key, r.Value)
			got = append(got, r.Key)
		}
		s.same(want, got, "List of %q, bytewise", prefix)
		got = nil
		records, _ = u.commitAndList(kv.Tx{}, prefix)
		for _, r := range records {
			got = append(got, r.Key)
		}
		s.same(want, got, "a commit that lists %q, bytewise", prefix)
	}
}

func errorOfEachEndsAList(s *suite) {
	u := s.open()
	u.commit(kv.Tx{Put: []kv.Record{record("a", "", 0), record("b", "", 0), record("c", "", 0)}})
	for n := range 3 {
		calls := 0
		_, err := u.List(s.within(), "", enough(n, &calls))
		s.is(err, errEnough, "a List whose each fails")
		s.that(calls == n+1, "each has failed after %d records, and was called %d times", n, calls)
	}
	records, _ := u.list("")
	s.that(len(records) == 3, "there are three records; got %v", texts(records))
}

// listIsOfOneInstant lists while one user writes two records at once, one moves a record
// from key to key, and a lease holds two records or none.
func listIsOfOneInstant(s *suite) {
	const lists, most = 60, 1000 // of each user
	pair, token, leases := s.open(), s.open(), s.open()
	both := func(value string) kv.Tx {
		return kv.Tx{Put: []kv.Record{record("a pair", value, 0), record("z pair", value, 0)}}
	}
	move := func(from, to string) kv.Tx {
		return kv.Tx{Delete: []string{from}, Put: []kv.Record{record(to, "", 0)}}
	}
	pair.commit(both("0"))
	token.commit(move("z token", "a token"))
	var listing atomic.Int32
	listing.Store(2)
	repeat := func(commit func(n int) error) func() error {
		return func() error {
			for n := 0; n < most && listing.Load() > 0; n++ {
				if err := commit(n); err != nil {
					return err
				}
				runtime.Gosched() // where time stands still nothing else has others run
			}
			return nil
		}
	}
	list := func(u *user) func() error {
		return func() error {
			defer listing.Add(-1)
			for range lists {
				records, mark, err := listAll(u.within(), u, "")
				if err == nil {
					err = listed(records, mark)
				}
				if err == nil {
					err = ofOneInstant(records)
				}
				if err != nil {
					return err
				}
				runtime.Gosched()
			}
			return nil
		}
	}
	s.all(
		repeat(func(n int) error {
			_, err := pair.Commit(pair.within(), both(fmt.Sprint(n)))
			return err
		}),
		repeat(func(n int) error {
			tx := move("a token", "z token")
			if n%2 == 1 {
				tx = move("z token", "a token")
			}
			_, err := token.Commit(token.within(), tx)
			return err
		}),
		repeat(func(int) error {
			owner := randomOwner()
			if _, err := leases.Begin(leases.within(), owner, longTTL); err != nil {
				return err
			}
			_, err := leases.Commit(leases.within(), kv.Tx{Put: []kv.Record{record("a lease", "", owner), record("z lease", "", owner)}})
			if err != nil {
				return err
			}
			return leases.End(leases.within(), owner)
		}),
		list(s.open()), list(s.open()),
	)
}

func ofOneInstant(records []kv.Record) error {
	get := func(key string) kv.Record { return find(records, key) }
	switch {
	case get("a pair").Version != get("z pair").Version:
		return fmt.Errorf("two records that are always written at once are listed at two versions: %v", texts(records))
	case (get("a token").Version == 0) == (get("z token").Version == 0):
		return fmt.Errorf("a record that always has one of two keys is listed with both or none: %v", texts(records))
	case get("a lease").Version != get("z lease").Version:
		return fmt.Errorf("two records that come and go with one lease are listed at two versions: %v", texts(records))
	}
	return nil
}

// reading is a way to read the version of the record "k".
type reading struct {
	what    string
	version func(ctx context.Context) (int64, kv.Mark, error)
	last    int64
}

func (s *suite) readings() []*reading {
	a, b, c, d := s.open(), s.open(), s.open(), s.open()
	return []*reading{
		{what: "List", version: func(ctx context.Context) (int64, kv.Mark, error) {
			records, mark, err := listAll(ctx, a, "")
			return find(records, "k").Version, mark, err
		}},
		{what: "Get", version: func(ctx context.Context) (int64, kv.Mark, error) {
			r, mark, err := b.Get(ctx, "k")
			return r.Version, mark, err
		}},
		{what: "a commit that lists", version: func(ctx context.Context) (int64, kv.Mark, error) {
			var records []kv.Record
			result, err := c.Commit(ctx, kv.Tx{Each: into(&records)})
			return find(records, "k").Version, result.Mark, err
		}},
		{what: "a commit that fails", version: func(ctx context.Context) (int64, kv.Mark, error) {
			result, err := d.Commit(ctx, kv.Tx{If: []kv.Cond{kv.AtVersion("k", 0)}})
			if err != nil || len(result.Records) != 1 {
				return 0, result.Mark, err
			}
			return result.Records[0].Version, result.Mark, nil
		}},
	}
}

// read reads, and says what is wrong if a version has been shown to somebody before.
func (r *reading) read(ctx context.Context, shown int64) (int64, error) {
	got, mark, err := r.version(ctx)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%s: %w", r.what, err)
	case got < shown:
		return 0, fmt.Errorf("%s shows version %d after %d has been shown", r.what, got, shown)
	case got > mark.Revision:
		return 0, fmt.Errorf("%s shows version %d, which is later than its mark %d", r.what, got, mark.Revision)
	case mark.Revision < r.last:
		return 0, fmt.Errorf("%s has mark %d after it has shown version %d", r.what, mark.Revision, r.last)
	}
	r.last = got
	return got, nil
}

// nothingReadIsOfAnEarlierTime has users read while another one writes. No call that begins
// after another one has returned may show less than that one.
func nothingReadIsOfAnEarlierTime(s *suite) {
	const rounds = 100
	writer, readings := s.open(), s.readings()
	for range 10 { // one after the other
		version := writer.put("k", "", 0)
		for _, r := range readings {
			_, err := r.read(s.within(), version)
			s.ok(err, "after a commit has returned")
		}
	}
	var shown atomic.Int64 // the latest version that any call has returned
	var over atomic.Bool
	show := func(version int64) {
		for old := shown.Load(); version > old && !shown.CompareAndSwap(old, version); old = shown.Load() {
		}
		runtime.Gosched()
	}
	work := []func() error{func() error {
		defer over.Store(true)
		for range rounds {
			result, err := writer.Commit(writer.within(), kv.Tx{Put: []kv.Record{record("k", "", 0)}})
			if err != nil {
				return err
			}
			show(result.Mark.Revision)
		}
		return nil
	}}
	for _, r := range readings {
		work = append(work, func() error {
			for !over.Load() {
				version, err := r.read(s.within(), shown.Load())
				if err != nil {
					return err
				}
				show(version)
			}
			return nil
		})
	}
	s.all(work...)
}

func oddKeysAndValues(s *suite) {
	u, other := s.open(), s.open()
	binary := make([]byte, 1<<20)
	for i := range binary {
		binary[i] = byte(i * i >> 8)
	}
	values := map[string]string{
		"é":                             "one letter",
		"e\u0301":                       "two letters",
		"\u212b":                        "the sign of a unit",
		"\u00c5":                        "the letter",
		"ß":                             "sharp",
		"ss":                            "and not",
		"Key":                           "upper case",
		"key":                           "lower case",
		"KEY":                           "no lower case",
		"key ":                          "a space behind",
		" key":                          "a space before",
		"key  ":                         "two spaces behind",
		"key/":                          "a slash behind",
		"/key":                          "a slash before",
		"//key":                         "two",
		"key/../a":                      "no path",
		".":                             "no folder",
		"..":                            "no folder either",
		`key\`:                          "a backslash",
		`k'; --"`:                       "quotes",
		"k%":                            "a percent sign",
		"k%25":                          "no escape",
		"k_":                            "an underscore",
		"k+":                            "a plus",
		"0":                             "a number",
		"00":                            "another",
		"null":                          "a word",
		"日本語":                           "three",
		"\U0001f600":                    "beyond the first plane",
		"empty":                         "",
		"zero":                          "\x00",
		"zeros":                         "a\x00b\x00",
		"not UTF-8":                     "\xff\xfe\x80",
		"newline":                       "\r\n",
		"json":                          `{"a":"\u0000"}`,
		"large":                         string(binary),
		strings.Repeat("é", 300):        "the longest",
		strings.Repeat("é", 299) + "ab": "as long",
	}
	v := u.watch("", 0)
	w := newTwin()
	last := int64(0)
	for key, value := range values {
		tx := kv.Tx{If: []kv.Cond{kv.AtVersion(key, 0)}, Put: []kv.Record{record(key, value, 0)}}
		last = u.commit(tx).Mark.Revision
		w.did(tx, last)
	}
	records, _ := other.list("")
	s.same(texts(w.list()), texts(records), "what was written")
	s.same(changeTexts(w.log), changeTexts(v.upTo(last)), "what is reported")
	for _, r := range w.list() {
		s.same([]string{text(r)}, []string{text(other.get(r.Key))}, "Get of %q", r.Key)
	}
	for key := range values {
		other.commit(kv.Tx{If: []kv.Cond{kv.AtVersion(key, w.records[key].Version)}, Delete: []string{key}})
		delete(w.records, key)
		if len(w.records)%8 == 0 {
			records, _ = u.list("")
			s.same(texts(w.list()), texts(records), "after the deletion of %q", key)
		}
	}
}

// oddSpaces returns names of spaces that a store might take for one another.
func (s *suite) oddSpaces() []string {
	names := []string{s.space}
	for _, more := range []string{" ", "/", "/k", "/k/k", "%", "_", "K", "k", "é", "e\u0301"} {
		if !s.h.Nests || !strings.HasPrefix(more, "/") {
			names = append(names, s.space+more)
		}
	}
	return append(names, strings.ToUpper(s.space), s.space+strings.Repeat("x", 800-len(s.space)), s.space+strings.Repeat("x", 799-len(s.space)))
}

func spacesAreKeptApart(s *suite) {
	names := s.oddSpaces()
	var users []*user
	var owners []kv.Owner
	for i, name := range names {
		u := s.openNamed(name)
		owner := u.begin()
		v := u.watch("", 0)
		u.absent("k")
		last := u.commit(kv.Tx{
			If:  []kv.Cond{kv.AtVersion("k", 0), kv.OwnedBy("k/k", 0)},
			Put: []kv.Record{record("k", fmt.Sprint(i), 0), record("k/k", "", owner)},
		}).Mark.Revision
		for _, before := range users {
			before.put("elsewhere", name, 0)
		}
		s.that(len(v.upTo(last)) == 2, "the watch of %q reports more than was written there", name)
		users, owners = append(users, u), append(owners, owner)
	}
	users[0].end(owners[0])
	for i, u := range users {
		records, _ := u.list("k")
		s.that(string(find(records, "k").Value) == fmt.Sprint(i), "space %q holds %v", names[i], texts(records))
		s.that((len(records) == 1) == (i == 0), "the lease of %q has ended, and %q holds %v", names[0], names[i], texts(records))
		_, err := u.Renew(u.within(), owners[i])
		s.that((err == nil) == (i > 0), "the lease of %q has ended; Renew in %q: %v", names[0], names[i], err)
		r := u.get("elsewhere")
		s.that((r.Version == 0) == (i == len(users)-1), "space %q holds %s", names[i], text(r))
		s.that(r.Version == 0 || string(r.Value) == names[len(names)-1], "space %q holds %s", names[i], text(r))
	}
}

// spacesAreListed: a store that is no Lister need not tell.
func spacesAreListed(s *suite) {
	lister, is := s.store.(kv.Lister)
	if !is {
		return
	}
	if _, err := lister.Spaces(s.within()); errors.Is(err, kv.ErrNoList) {
		return // such as a store around another one
	}
	ours := func() []string {
		all, err := lister.Spaces(s.within())
		s.ok(err, "Spaces")
		prefix := strings.ToUpper(s.space)
		all = slices.DeleteFunc(all, func(name string) bool { return !strings.HasPrefix(strings.ToUpper(name), prefix) })
		return slices.Sorted(slices.Values(all))
	}
	s.same(nil, ours(), "before any was opened")
	names := s.oddSpaces()
	for _, name := range names {
		u := s.openNamed(name)
		u.begin()
		u.begin()
	}
	slices.Sort(names)
	s.same(names, ours(), "of those with leases")

	over, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := lister.Spaces(over)
	s.is(err, context.Canceled, "Spaces when its context has ended")
}

func markNamesOneStore(s *suite) {
	a, b := s.open(), s.open()
	v := b.watch("", 0)
	result := a.commit(kv.Tx{Put: []kv.Record{record("k", "", 0)}})
	name := result.Mark.Store
	s.that(name != "", "the history must have a name")
	v.upTo(result.Mark.Revision)
	_, listed := b.list("")
	_, got, err := b.Get(b.within(), "k")
	s.ok(err, "Get")
	_, absent, err := s.open().Get(b.within(), "absent")
	s.ok(err, "Get")
	for what, mark := range map[string]kv.Mark{
		"a watch": v.mark, "List": listed, "Get": got, "Get of what is not there": absent,
		"a failed commit":          b.refused(kv.Tx{If: []kv.Cond{kv.AtVersion("k", 0)}}).Mark,
		"a commit without a write": b.commit(kv.Tx{}).Mark,
	} {
		s.that(mark.Store == name, "%s says that the store is %q, another one %q", what, mark.Store, name)
		s.that(mark.Revision >= result.Mark.Revision, "%s has mark %d, and a commit %d before it", what, mark.Revision, result.Mark.Revision)
	}
}
