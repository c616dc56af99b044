package httpapi_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/libclustertest"
)

// However many ask, the registry is read once at a time, and what was read is good for a moment.
func TestManyRequestsShareOneReadOfTheRegistry(t *testing.T) {
	t.Parallel()
	registry := libclustertest.New()
	base := show(t, join(t, registry, "a"))
	var reads, reading, most atomic.Int64
	let := make(chan struct{})
	registry.Intercept(func(ctx context.Context, call libclustertest.Call) error {
		if call.Op == libclustertest.OpLook {
			reads.Add(1)
			most.Store(max(most.Load(), reading.Add(1)))
			defer reading.Add(-1)
			<-let
		}
		return call.Send(ctx)
	})
	var asking sync.WaitGroup
	for range 50 {
		asking.Go(func() {
			if a := get(t, base+"/v1/coverage"); a.StatusCode != http.StatusOK {
				t.Errorf("%s", a.body)
			}
		})
	}
	require.Eventually(t, func() bool { return reads.Load() == 1 }, watchdog, time.Millisecond)
	require.Equal(t, http.StatusOK, get(t, base+"/").StatusCode, "the page does not wait for a registry that hangs")
	close(let)
	asking.Wait()
	require.EqualValues(t, 1, most.Load())
	require.LessOrEqual(t, reads.Load(), int64(3), "two more if the requests took a second to come")
	registry.Intercept(nil)
}

// What was read before a change is not shown after it.
func TestCoverageIsNotOlderThanAChange(t *testing.T) {
	t.Parallel()
	registry := libclustertest.New()
	a := join(t, registry, "a")
	base := show(t, a)
	for n := range 50 {
		require.Equal(t, float64(1+n), get(t, base+"/v1/coverage").is(t, "coverage")["total"])
		require.NoError(t, a.SetWorkers(t.Context(), 2+n))
		require.Eventually(t, func() bool { return a.State().Total == 2+n }, watchdog, time.Millisecond)
	}
}

func TestCloseWaitsForTheReadOfTheRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := libclustertest.New()
		h := handler(t, join(t, registry, "a"))
		let := make(chan struct{})
		registry.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.Op != libclustertest.OpLook {
				return call.Send(ctx)
			}
			<-let // whatever its context says
			return context.Canceled
		})
		answer := httptest.NewRecorder()
		go h.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/v1/coverage", nil))
		synctest.Wait()
		var closed atomic.Bool
		go func() {
			h.Close()
			closed.Store(true)
		}()
		synctest.Wait()
		require.False(t, closed.Load())
		close(let)
		synctest.Wait()
		require.True(t, closed.Load())
		require.Equal(t, http.StatusServiceUnavailable, answer.Code)
	})
}
