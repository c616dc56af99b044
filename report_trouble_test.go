package libcluster_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/between"
	"github.com/libcluster/libcluster/libclustertest"
)

func TestUpdateThatHangsDelaysNoHeartbeat(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.join("a")
		wait(time.Minute)
		t.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.Op == libclustertest.OpUpdate {
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return call.Send(ctx)
		})
		require.Error(t, a.SetWorkers(t.within(100*time.Millisecond), 3))
		for range 200 {
			wait(100 * time.Millisecond)
			require.NoError(t, a.Err(), a.story())
		}
		t.Intercept(nil)
		wait(5 * time.Second)
		require.Equal(t, "0/3", a.place(), "the next beat publishes it")
	})
}

// What the store says counts, not what was once sent: a store that was restored can have
// another count.
func TestCountThatTheRegistryLostIsPublishedAgain(t *testing.T) {
	inMemory(t, func(t *memory) {
		a, b := t.join("a"), t.join("b")
		before := t.Snapshot()
		require.NoError(t, a.SetWorkers(t.Context(), 6))
		t.Restore(before)
		wait(10 * time.Second)
		require.Equal(t, "0/7", a.place(), a.story())
		require.Equal(t, "6/7", b.place(), b.story())
	})
}

// An update whose outcome is unknown is sent again, and if the first arrives after a newer
// one the record is another by then.
func TestUpdateThatArrivesAfterANewerOneHasNoEffect(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.join("a")
		late := make(chan error, 1)
		t.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.Op != libclustertest.OpUpdate {
				return call.Send(ctx)
			}
			t.Intercept(nil)
			time.AfterFunc(time.Second, func() { late <- call.Send(context.WithoutCancel(ctx)) })
			return errors.New("connection reset")
		})
		require.NoError(t, a.SetWorkers(t.Context(), 3))
		require.NoError(t, a.SetWorkers(t.Context(), 6))
		wait(2 * time.Second)
		require.ErrorContains(t, <-late, "the record has changed since the request was made")
		wait(10 * time.Second)
		require.Equal(t, "0/6", a.place(), a.story())
	})
}

func TestRejoiningThatIsSlowAndThenFailsIsTriedAgain(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.join("a")
		t.Cut("a")
		wait(7 * time.Second)
		require.ErrorIs(t, a.Err(), libcluster.ErrDeadlinePassed)
		joins, renewals := 0, 0
		t.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			switch call.Op {
			case libclustertest.OpJoin:
				if joins++; joins == 1 {
					time.Sleep(2 * time.Second)
				}
			case libclustertest.OpRenew:
				if renewals++; renewals == 1 {
					return errors.New("connection reset")
				}
			default:
			}
			return call.Send(ctx)
		})
		t.Heal("a")
		wait(30 * time.Second)
		require.NoError(t, a.Err(), a.story())
	})
}

func TestLeavingWhileFencedRemovesTheRecord(t *testing.T) {
	inMemory(t, func(t *memory) {
		a, b := t.join("a"), t.join("b")
		t.Cut("a")
		wait(6500 * time.Millisecond)
		require.ErrorIs(t, a.Err(), libcluster.ErrDeadlinePassed)
		t.Heal("a")
		t.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.Op == libclustertest.OpJoin {
				return errors.New("no leader")
			}
			return call.Send(ctx)
		})
		wait(time.Second)
		t.Intercept(nil)
		require.NoError(t, a.Leave(t.Context()))
		synctest.Wait()
		require.False(t, t.Holds(cluster, "a"))
		require.Equal(t, "0/1", b.place())
	})
}

func TestSetWorkersAfterLeavingIsNotJudgedByTheClusterThatWasLeft(t *testing.T) {
	inMemory(t, func(t *memory) {
		a, b := t.join("a"), t.join("b", workers(libcluster.MaxWorkers-1))
		require.NoError(t, a.Leave(t.Context()))
		require.NoError(t, b.Leave(t.Context()))
		require.NoError(t, a.SetWorkers(t.Context(), 5))
	})
}

type stubbornSession struct {
	libcluster.Session
	closed chan struct{}
}

func (s stubbornSession) Close() error {
	close(s.closed)
	return s.Session.Close()
}

func TestSessionThatOpensAfterLeavingIsClosed(t *testing.T) {
	inMemory(t, func(t *memory) {
		closed := make(chan struct{})
		registry := between.Registry{Registry: t.Registry, Joining: func(ctx context.Context, m libcluster.Member, below libcluster.Membership,
		) (libcluster.Session, time.Duration, error) { // it does not heed its context
			time.Sleep(4 * time.Second)
			session, ttl, err := below.Join(context.WithoutCancel(ctx), m)
			return stubbornSession{session, closed}, ttl, err
		}}
		a := t.app("a", ttl(time.Minute), func(c *libcluster.Config) { c.Registry = registry })
		require.Error(t, a.Join(t.within(100*time.Millisecond)))
		<-closed
	})
}

// A store that is full answers reads and renewals, and no writes. Then a change can
// not be brought to an end, and people who wonder why look into the log.
func TestWritesThatFailInTheMiddleOfAChangeAreLogged(t *testing.T) {
	for op, message := range map[libclustertest.Op]string{
		libclustertest.OpSwap:        "cannot coordinate the cluster yet, will keep trying",
		libclustertest.OpAcknowledge: "cannot say yet that the application has stopped, will keep trying",
	} {
		inMemory(t, func(w *memory) {
			var log logs
			w.join("a", exclusive, log.configure)
			wait(time.Second)
			w.Intercept(func(ctx context.Context, call libclustertest.Call) error {
				if call.Op == op && call.ID == "a" {
					return errors.New("database space exceeded")
				}
				return call.Send(ctx)
			})
			b := w.app("b", exclusive)
			require.Error(w, b.Join(w.within(15*time.Second)))
			entries := log.FilterMessage(message).All()
			require.Len(w, entries, 2, "now and again: %v", log.All())
			require.Equal(w, zap.WarnLevel, entries[0].Level)
			require.Equal(w, "database space exceeded", entries[0].ContextMap()["error"])
		})
	}
}
