package dirstore_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/dirstore"
	"github.com/libcluster/libcluster/kv"
)

// keptBySleepers is how few documents are kept where one must miss some.
const keptBySleepers = 4

// sleeper is a user that falls asleep before a call of files, once it is told to.
type sleeper struct {
	kv.Space
	store *dirstore.Store

	mu     sync.Mutex
	at     string // the beginning of the call and its name; "": it does not fall asleep
	skip   int    // how many such calls it is awake for
	asleep chan struct{}
	wake   chan struct{}
}

func newSleeper(t *testing.T, dir string) *sleeper {
	t.Helper()
	s := &sleeper{store: dirstore.Dir(dir)}
	s.store.Keep(keptBySleepers)
	s.store.Around(func(call, name string, do func() error) error {
		s.mu.Lock()
		asleep, wake := s.asleep, s.wake
		hit := s.at != "" && strings.HasPrefix(call+" "+name, s.at)
		if hit {
			s.skip--
			hit = s.skip < 0
		}
		if hit {
			s.at = ""
		}
		s.mu.Unlock()
		if hit {
			close(asleep)
			<-wake
		}
		return do()
	})
	s.Space = open(t, s.store)
	return s
}

// sleepAt has it fall asleep before a call, waits for that, and returns what wakes it.
func (s *sleeper) sleepAt(t *testing.T, at string, act func()) (wake func()) {
	t.Helper()
	return s.sleepAfter(t, 0, at, act)
}

// sleepAfter has it be awake for some such calls.
func (s *sleeper) sleepAfter(t *testing.T, skip int, at string, act func()) (wake func()) {
	t.Helper()
	s.mu.Lock()
	s.at, s.skip, s.asleep, s.wake = at, skip, make(chan struct{}), make(chan struct{})
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { defer close(done); act() }()
	s.goesToSleep(t)
	return func() { close(s.wake); <-done }
}

func (s *sleeper) goesToSleep(t *testing.T) {
	t.Helper()
	select {
	case <-s.asleep:
	case <-patience(t).Done():
		require.Fail(t, "it does not fall asleep")
	}
}

func putting(space kv.Space, key, value string) error {
	ctx, cancel := context.WithTimeout(context.Background(), watchdog)
	defer cancel()
	_, err := space.Commit(ctx, kv.Tx{Put: []kv.Record{{Key: key, Value: []byte(value)}}})
	return err
}

func TestSleeperThatLinksARemovedNumberHasNotSwapped(t *testing.T) {
	t.Parallel()
	dir := shm(t)
	a, b := newSleeper(t, dir), newSleeper(t, dir)
	first := put(t, b, "k", "1", 0)
	var err error
	wake := a.sleepAt(t, "link", func() { err = putting(a, "k", "of the sleeper") })
	for n := range 3 * keptBySleepers {
		put(t, b, "k", fmt.Sprint(n), 0)
	}
	name := fmt.Sprintf("%s/space/s.%d", dir, first+1)
	require.NoFileExists(t, name)
	want := get(t, b, "k")
	wake()
	require.ErrorIs(t, err, dirstore.ErrUnknown)
	require.FileExists(t, name, "it has linked the number anew")
	for _, space := range []kv.Space{a, b, newSleeper(t, dir)} {
		require.Equal(t, want, get(t, space, "k"))
	}
	require.Greater(t, put(t, a, "k", "awake", 0), want.Version)
	require.Equal(t, "awake", string(get(t, b, "k").Value))
}

// One sleeper has linked a number anew that has been removed, and another one finds that number as the one
// before its own. It is not the document that it was.
func TestSleeperIsNotTakenInByAnotherOne(t *testing.T) {
	t.Parallel()
	dir := shm(t)
	one, two, b := newSleeper(t, dir), newSleeper(t, dir), newSleeper(t, dir)
	var errOne, errTwo error
	first := put(t, b, "k", "1", 0)
	wakeOne := one.sleepAt(t, "link", func() { errOne = putting(one, "k", "one") })
	put(t, b, "k", "2", 0)
	wakeTwo := two.sleepAt(t, "link", func() { errTwo = putting(two, "k", "two") })
	for n := range 3 * keptBySleepers {
		put(t, b, "k", fmt.Sprint(n), 0)
	}
	want := get(t, b, "k")
	wakeOne()
	require.FileExists(t, fmt.Sprintf("%s/space/s.%d", dir, first+1))
	wakeTwo()
	require.FileExists(t, fmt.Sprintf("%s/space/s.%d", dir, first+2))
	require.ErrorIs(t, errOne, dirstore.ErrUnknown)
	require.ErrorIs(t, errTwo, dirstore.ErrUnknown)
	for _, space := range []kv.Space{one, two, b, newSleeper(t, dir)} {
		require.Equal(t, want, get(t, space, "k"))
	}
}

// A reader that has slept between two of its calls finds what a sleeper has left there.
func TestReaderThatHasSleptReadsTheNewest(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"read space/s.", "list"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			dir := shm(t)
			reader, writer := newSleeper(t, dir), newSleeper(t, dir)
			put(t, writer, "k", "1", 0)
			get(t, reader, "k")
			if at == "list" {
				reader.store.Lose("space") // only a process that knows nothing lists
			}
			var got kv.Record
			var err error
			wake := reader.sleepAt(t, at, func() {
				ctx, cancel := context.WithTimeout(context.Background(), watchdog)
				defer cancel()
				got, _, err = reader.Get(ctx, "k")
			})
			for n := range 3 * keptBySleepers {
				put(t, writer, "k", fmt.Sprint("late ", n), 0)
			}
			want := get(t, writer, "k")
			wake()
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
}

// The proof at folder rests on this.
func TestDocumentsAreRemovedInAscendingOrderAndLate(t *testing.T) {
	t.Parallel()
	store := dirstore.Dir(shm(t))
	store.Keep(keptBySleepers)
	var newest, removed int64
	number := func(name string) (n int64) {
		_, _ = fmt.Sscanf(name, "space/s.%d", &n)
		return n
	}
	store.Around(func(call, name string, do func() error) error {
		switch n := number(name); {
		case call == "link":
			newest = n
		case call == "remove" && n > 0:
			require.Equal(t, removed+1, n, "one after another")
			require.Less(t, n, newest-keptBySleepers+1)
			removed = n
		}
		return do()
	})
	space := open(t, store)
	for range 50 {
		put(t, space, "k", "", 0)
	}
	require.Greater(t, removed, newest-3*keptBySleepers)
}

func TestListingThatIsAMinuteOldDecidesNothing(t *testing.T) {
	t.Parallel()
	dir := shm(t)
	b := dirstore.Dir(dir)
	space := open(t, b)
	late := dirstore.Dir(dir)
	late.ListLate(time.Minute)
	put(t, open(t, late), "k", "0", 0) // it has listed
	other := dirstore.Dir(dir)
	other.ListLate(time.Minute)
	seen := open(t, other)
	for n := range 200 {
		put(t, space, "k", fmt.Sprint(n), 0)
		if n%20 == 0 {
			other.Lose("space") // it has to list once more
			require.Equal(t, fmt.Sprint(n), string(get(t, seen, "k").Value))
			_, err := count(patience(t), seen, "n")
			require.NoError(t, err)
		}
	}
	require.Equal(t, 10, number(t, space))
}

// awaits reports whether it has yet to fall asleep.
func (s *sleeper) awaits() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at != ""
}
