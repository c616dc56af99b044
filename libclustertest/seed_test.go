package libclustertest_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

func TestInstancesOfOneSeedWaitEquallyLong(t *testing.T) {
	attempts := func(seed uint64) (at []time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			r := libclustertest.New()
			r.Seed(seed)
			start := time.Now()
			r.Intercept(func(_ context.Context, call libclustertest.Call) error {
				if call.Op == libclustertest.OpOpen { // of each attempt, by one goroutine
					at = append(at, time.Since(start))
				}
				return context.DeadlineExceeded
			})
			c, err := libcluster.New(libcluster.Config{Key: "mailer", ID: "node1", Registry: r})
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			require.Error(t, c.Join(ctx))
		})
		return at
	}
	require.Greater(t, len(attempts(1)), 10)
	require.Equal(t, attempts(1), attempts(1))
	require.NotEqual(t, attempts(1), attempts(2))
}
