package kvtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/kv"
)

func open(t *testing.T, m *Memory, name string) kv.Space {
	s, err := m.Open(t.Context(), name)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t *testing.T, s kv.Space, key, value string, owner kv.Owner) int64 {
	result, err := s.Commit(t.Context(), kv.Tx{Put: []kv.Record{{Key: key, Value: []byte(value), Owner: owner}}})
	require.NoError(t, err)
	require.True(t, result.Done)
	return result.Mark.Revision
}

func watchFrom(t *testing.T, s kv.Space, after int64) kv.Watch {
	w, err := s.Watch(t.Context(), "", after)
	require.NoError(t, err)
	t.Cleanup(w.Close)
	return w
}

func TestLeasesOfOneInstantEndInTheOrderInWhichTheyHaveBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, NewMemory(), "s")
		var want, got []string
		for range 20 {
			owner := kv.Owner(rand.Int64N(1e6) + 1)
			_, err := s.Begin(t.Context(), owner, time.Hour)
			require.NoError(t, err)
			put(t, s, fmt.Sprint("b", owner), "", owner)
			put(t, s, fmt.Sprint("a", owner), "", owner)
			want = append(want, fmt.Sprint("a", owner), fmt.Sprint("b", owner))
		}
		began := time.Now()
		w := watchFrom(t, s, 0)
		mark := int64(0)
		for len(got) < len(want) {
			changes, err := w.Next(t.Context())
			require.NoError(t, err)
			for _, change := range changes.Records {
				require.True(t, change.Gone)
				got = append(got, change.Key)
			}
			require.Greater(t, changes.Mark.Revision, mark)
			mark = changes.Mark.Revision
		}
		require.Equal(t, want, got)
		require.Equal(t, time.Hour, time.Since(began), "nobody has called")
	})
}

func TestForgottenHistoryIsMissed(t *testing.T) {
	m := NewMemory()
	s := open(t, m, "s")
	behind, upToDate := watchFrom(t, s, 0), watchFrom(t, s, 0)
	first := put(t, s, "a", "1", 0)
	_, err := upToDate.Next(t.Context())
	require.NoError(t, err)
	m.Forget("s")
	put(t, s, "a", "2", 0)
	for range 2 {
		_, err = behind.Next(t.Context())
		require.ErrorIs(t, err, kv.ErrMissed)
		_, err = upToDate.Next(t.Context())
		require.ErrorIs(t, err, kv.ErrMissed, "also if it has read all")
	}
	_, err = watchFrom(t, s, first).Next(t.Context())
	require.NoError(t, err)
	_, err = watchFrom(t, s, first-1).Next(t.Context())
	require.ErrorIs(t, err, kv.ErrMissed, "%d is not in the history", first)
}

func TestHistoryIsBounded(t *testing.T) {
	m := NewMemory()
	s := open(t, m, "s")
	first := put(t, s, "a", "", 0)
	for range 2 * maxHistory {
		put(t, s, "a", "", 0)
	}
	_, err := watchFrom(t, s, first).Next(t.Context())
	require.ErrorIs(t, err, kv.ErrMissed)
	changes, err := watchFrom(t, s, first+maxHistory).Next(t.Context())
	require.NoError(t, err)
	require.Len(t, changes.Records, maxHistory)
}

func TestRestoredSpaceGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		s, other := open(t, m, "s"), open(t, m, "other")
		begin := func(owner kv.Owner) {
			_, err := s.Begin(t.Context(), owner, time.Hour)
			require.NoError(t, err)
		}
		begin(1)
		begin(2)
		put(t, s, "one", "1", 1)
		put(t, s, "two", "1", 2)
		snapshot := m.Snapshot("s")
		_, before, err := listAll(t.Context(), s, "")
		require.NoError(t, err)

		begin(3)
		put(t, s, "three", "1", 3)
		put(t, s, "one", "2", 1)
		late := put(t, other, "there", "1", 0)
		require.NoError(t, s.End(t.Context(), 2))
		w, elsewhere := watchFrom(t, s, before.Revision), watchFrom(t, other, late-1)
		waits := make(chan error)
		go func() {
			quiet := watchFrom(t, s, 0)
			_, err := quiet.Next(context.Background())
			waits <- err
		}()
		synctest.Wait()

		time.Sleep(time.Minute)
		m.Restore("s", snapshot)
		require.ErrorIs(t, <-waits, kv.ErrMissed)
		_, err = w.Next(t.Context())
		require.ErrorIs(t, err, kv.ErrMissed)
		_, err = elsewhere.Next(t.Context())
		require.NoError(t, err, "another space goes on")

		records, after, err := listAll(t.Context(), s, "")
		require.NoError(t, err)
		require.Equal(t, before, after)
		require.Len(t, records, 2)
		require.Equal(t, "1", string(records[0].Value))
		_, err = s.Renew(t.Context(), 3)
		require.ErrorIs(t, err, kv.ErrEnded)
		_, err = watchFrom(t, s, late+100).Next(t.Context())
		require.ErrorIs(t, err, kv.ErrMissed, "a revision that the space has not had yet")

		w = watchFrom(t, s, 0)
		time.Sleep(59*time.Minute + 59*time.Second)
		_, err = s.Renew(t.Context(), 2)
		require.NoError(t, err, "a lease that lived then lives again, with its whole time")
		_, err = w.Next(t.Context())
		require.NoError(t, err)
		records, _, err = listAll(t.Context(), s, "")
		require.NoError(t, err)
		require.Len(t, records, 1)
		require.Equal(t, "two", records[0].Key)

		m.Restore("s", Snapshot{})
		records, mark, err := listAll(t.Context(), s, "")
		require.NoError(t, err)
		require.Empty(t, records)
		require.EqualValues(t, 1, mark.Revision)
	})
}

func TestValuesAreTheCallersOwn(t *testing.T) {
	s := open(t, NewMemory(), "s")
	w := watchFrom(t, s, 0)
	value := []byte("abc")
	_, err := s.Commit(t.Context(), kv.Tx{Put: []kv.Record{{Key: "k", Value: value}}})
	require.NoError(t, err)
	value[0] = 'x'
	for range 2 {
		r, _, err := s.Get(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, "abc", string(r.Value))
		r.Value[0] = 'x'
		records, _, err := listAll(t.Context(), s, "")
		require.NoError(t, err)
		require.Equal(t, "abc", string(records[0].Value))
		records[0].Value[0] = 'x'
	}
	changes, err := w.Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, "abc", string(changes.Records[0].Value))
	changes.Records[0].Value[0] = 'x'
	changes, err = watchFrom(t, s, changes.Mark.Revision-1).Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, "abc", string(changes.Records[0].Value))
}

func TestWhatIsNoTransactionIsRefused(t *testing.T) {
	s := open(t, NewMemory(), "s")
	for what, tx := range map[string]kv.Tx{
		"a key that is put twice":         {Put: []kv.Record{{Key: "a"}, {Key: "a"}}},
		"a key that is put and deleted":   {Put: []kv.Record{{Key: "a"}}, Delete: []string{"a"}},
		"a key that cannot be printed":    {Put: []kv.Record{{Key: "a\n"}}},
		"a condition on a key of nothing": {If: []kv.Cond{kv.AtVersion("", 0)}},
		"a value that is too large":       {Put: []kv.Record{{Key: "a", Value: make([]byte, 1<<20+1)}}},
		"an owner that is none":           {Put: []kv.Record{{Key: "a", Owner: -1}}},
	} {
		_, err := s.Commit(t.Context(), tx)
		require.ErrorIs(t, err, kv.ErrRefused, what)
	}
	records, _, err := listAll(t.Context(), s, "")
	require.NoError(t, err)
	require.Empty(t, records)
}
