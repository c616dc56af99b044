package metrics_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
	"github.com/libcluster/libcluster/metrics"
)

func TestScrapeTakesNoTimeWhileACallbackHangs(t *testing.T) {
	inBubble(t, func(w *world) {
		release := make(chan struct{})
		a := w.member("a", func(c *libcluster.Config) {
			c.OnRebalance = func(s libcluster.State) {
				if s.Total == 3 {
					<-release
				}
			}
		})
		require.NoError(w, a.SetWorkers(w.Context(), 3))
		wait(time.Minute)
		began := time.Now()
		require.Equal(w, "3", w.values("a")["total_workers"])
		require.Equal(w, "2", w.values("a")["rebalances_total"], "the call that hangs counts already")
		require.Zero(w, time.Since(began))
		close(release)
	})
}

// For the race detector.
func TestScrapesRunBesideAnything(t *testing.T) {
	for _, mode := range []libcluster.Mode{libcluster.ModeDirect, libcluster.ModeExclusive, libcluster.ModeCooperative} {
		inBubble(t, func(w *world) {
			var scraping sync.WaitGroup
			ctx, stop := context.WithCancel(context.Background())
			for i := range 2 {
				scraping.Go(func() {
					for ctx.Err() == nil {
						if _, err := w.Gather(); err != nil { // a pedantic registry finds what does not fit
							t.Error(err)
						}
						time.Sleep(time.Duration(731+i*300) * time.Millisecond)
					}
				})
			}
			a, b := w.member("a", in(mode)), w.member("b", in(mode))
			for n := range 2 {
				require.NoError(w, a.SetWorkers(w.Context(), n+2))
				w.Expire("mailer/production", "b")
				w.Cut("a")
				time.Sleep(15 * time.Second)
				w.HealAll()
				time.Sleep(15 * time.Second)
				require.NoError(w, b.Leave(w.Context()))
				require.NoError(w, b.Join(w.Context()))
			}
			stop()
			scraping.Wait()
		})
	}
}

func BenchmarkScrape(b *testing.B) {
	for _, members := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			registry, prom := libclustertest.New(), prometheus.NewRegistry()
			for n := range members - 1 {
				registry.Put("mailer/production", fmt.Sprintf("m%04d", n), []byte("1"))
			}
			c, err := libcluster.New(libcluster.Config{Key: "mailer", ID: "a", Registry: registry})
			require.NoError(b, err)
			require.NoError(b, c.Join(b.Context()))
			defer c.Leave(context.Background())
			prom.MustRegister(metrics.NewCollector(c))
			b.ReportAllocs()
			for b.Loop() {
				_, err := prom.Gather()
				require.NoError(b, err)
			}
		})
	}
}
