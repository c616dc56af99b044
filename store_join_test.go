package libcluster_test

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/kv/kvtest"
)

// unordered is a store in which a test says in which order it comes to the requests of one who
// joins, and which answers get lost.
type unordered struct {
	kv.Store
	begin  func(space kv.Space, begin func() error) error
	commit func(ctx context.Context, commit func() (kv.Result, error)) (kv.Result, error)
	end    func(end func() error) error
}

func (u *unordered) Open(ctx context.Context, name string) (kv.Space, error) {
	space, err := u.Store.Open(ctx, name)
	return &unorderedSpace{space, u}, err
}

type unorderedSpace struct {
	kv.Space
	of *unordered
}

func (s *unorderedSpace) Begin(ctx context.Context, owner kv.Owner, ttl time.Duration) (granted time.Duration, err error) {
	err = s.of.begin(s.Space, func() error {
		granted, err = s.Space.Begin(ctx, owner, ttl)
		return err
	})
	return granted, err
}

func (s *unorderedSpace) Commit(ctx context.Context, tx kv.Tx) (kv.Result, error) {
	return s.of.commit(ctx, func() (kv.Result, error) { return s.Space.Commit(ctx, tx) })
}

func (s *unorderedSpace) End(ctx context.Context, owner kv.Owner) error {
	if s.of.end == nil {
		return s.Space.End(ctx, owner)
	}
	return s.of.end(func() error { return s.Space.End(ctx, owner) })
}

var errLost = errors.New("the answer is lost")

// enters begins a membership of an instance a.
func enters(t *testing.T, store kv.Store, mode libcluster.Mode) (libcluster.Membership, libcluster.Member) {
	t.Helper()
	r := libcluster.Registration{
		Key: "k", Env: "e", Member: libcluster.Member{ID: "a", Workers: 1}, Mode: mode, TTL: time.Hour, Logger: zap.NewNop(),
	}
	m, err := libcluster.OnStore(store).Enter(r)
	require.NoError(t, err)
	return m, r.Member
}

// recordOf reads what there is below a key of the space of enters.
func recordOf(t *testing.T, store kv.Store, key string) kv.Record {
	t.Helper()
	space, err := store.Open(t.Context(), "k/e")
	require.NoError(t, err)
	found, _, err := space.Get(t.Context(), key)
	require.NoError(t, err)
	return found
}

func TestAWriteThatComesBeforeItsLeaseIsSentAgain(t *testing.T) {
	for _, mode := range allModes {
		memory, refused, writes := kvtest.NewMemory(), make(chan struct{}), atomic.Int32{}
		store := &unordered{Store: memory}
		store.begin = func(_ kv.Space, begin func() error) error { <-refused; return begin() }
		store.commit = func(_ context.Context, commit func() (kv.Result, error)) (kv.Result, error) {
			done, err := commit()
			if writes.Add(1) == 1 {
				require.ErrorIs(t, err, kv.ErrEnded)
				close(refused)
			}
			return done, err
		}
		in, a := enters(t, store, mode)
		session, ttl, err := in.Join(t.Context(), a)
		require.NoError(t, err, mode)
		require.Equal(t, time.Hour, ttl)
		require.Equal(t, int32(2), writes.Load())
		require.Equal(t, session.(libcluster.Planner).Incarnation(), strconv.FormatInt(int64(recordOf(t, memory, "a").Owner), 16))
		require.NoError(t, session.Leave(t.Context(), libcluster.Departure{}))
	}
}

func TestWhatWasWrittenGoesIfItsLeaseIsNotKnownToHaveBegun(t *testing.T) {
	memory, written := kvtest.NewMemory(), make(chan struct{})
	store := &unordered{Store: memory}
	store.begin = func(_ kv.Space, begin func() error) error {
		if err := begin(); err != nil {
			return err
		}
		<-written
		return errLost
	}
	store.commit = func(_ context.Context, commit func() (kv.Result, error)) (kv.Result, error) {
		defer close(written)
		for { // until the lease is there
			if done, err := commit(); err == nil {
				return done, err
			}
		}
	}
	in, a := enters(t, store, libcluster.ModeDirect)
	_, _, err := in.Join(t.Context(), a)
	require.ErrorIs(t, err, errLost)
	require.Zero(t, recordOf(t, memory, "a").Version, "the record outlives the attempt")
}

// Or a store that refuses leases, and is slow, would hold up each attempt.
func TestAWriteIsGivenUpWhenItsLeaseIsRefused(t *testing.T) {
	store, sent := &unordered{Store: kvtest.NewMemory()}, make(chan struct{})
	store.begin = func(kv.Space, func() error) error { <-sent; return kv.ErrRefused }
	store.commit = func(ctx context.Context, _ func() (kv.Result, error)) (kv.Result, error) {
		close(sent)
		<-ctx.Done()
		return kv.Result{}, ctx.Err()
	}
	in, a := enters(t, store, libcluster.ModeDirect)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, _, err := in.Join(ctx, a)
	require.ErrorIs(t, err, kv.ErrRefused)
	require.NoError(t, ctx.Err())
}

// Otherwise the others would wait for it as for one that has vanished.
func TestAnAttemptOfWhichNoAnswerCameIsSaidToHaveStopped(t *testing.T) {
	memory, written, first := kvtest.NewMemory(), make(chan struct{}), atomic.Bool{}
	first.Store(true)
	store := &unordered{Store: memory}
	store.begin = func(_ kv.Space, begin func() error) error {
		err := begin()
		if first.Load() {
			<-written
			return errLost
		}
		return err
	}
	store.commit = func(_ context.Context, commit func() (kv.Result, error)) (kv.Result, error) {
		for first.Load() {
			if _, err := commit(); err == nil {
				close(written)
				return kv.Result{}, errLost
			}
		}
		return commit()
	}
	store.end = func(end func() error) error {
		if first.Load() {
			return errLost
		}
		return end()
	}
	in, a := enters(t, store, libcluster.ModeExclusive)
	_, _, err := in.Join(t.Context(), a)
	require.ErrorIs(t, err, errLost)
	before := recordOf(t, memory, "a").Owner
	require.NotZero(t, before)
	first.Store(false)
	session, _, err := in.Join(t.Context(), a)
	require.NoError(t, err)
	note := recordOf(t, memory, "/acknowledged/"+strconv.FormatInt(int64(before), 16))
	require.Equal(t, strconv.Itoa(libcluster.StoppedForGood), string(note.Value))
	require.NoError(t, session.Leave(t.Context(), libcluster.Departure{}))
}
