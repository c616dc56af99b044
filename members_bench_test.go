package libcluster_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// BenchmarkMetadataSeenBy100 is what another value of one member's costs that all 100 hear
// of, beside the publishing alone, in the same run.
func BenchmarkMetadataSeenBy100(b *testing.B) {
	for _, mode := range allModes {
		b.Run(mode.String(), func(b *testing.B) {
			alone := benchmarkMetadata(b, mode, false)
			seen := benchmarkMetadata(b, mode, true)
			b.ReportMetric(float64(alone.Microseconds()), "µs-published")
			b.ReportMetric(float64(seen.Microseconds()), "µs-seen-by-all")
			b.ReportMetric(float64(seen)/float64(alone), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func benchmarkMetadata(b *testing.B, mode libcluster.Mode, all bool) (each time.Duration) {
	b.Helper()
	const members = 100
	registry := libclustertest.New()
	var seeing sync.WaitGroup
	var of []*libcluster.Cluster
	for n := range members {
		cfg := libcluster.Config{Key: "mailer", ID: fmt.Sprintf("m%03d", n), Mode: mode, Registry: registry, TTL: time.Hour}
		if all {
			seeing.Add(members) // of whom it is told before one changes
			cfg.OnMembers = func(c libcluster.MembersChange) {
				for range c.Joined {
					seeing.Done()
				}
				for _, u := range c.Changed {
					if u.After.ID == "m000" {
						seeing.Done()
					}
				}
			}
		}
		c, err := libcluster.New(cfg)
		if err == nil {
			err = c.Join(context.Background())
		}
		if err != nil {
			b.Fatal(err)
		}
		defer c.Leave(context.Background())
		of = append(of, c)
	}
	seeing.Wait()
	began := time.Now()
	for n := range b.N {
		if all {
			seeing.Add(members)
		}
		if err := of[0].SetMetadata(context.Background(), map[string]string{"n": fmt.Sprint(n)}); err != nil {
			b.Fatal(err)
		}
		seeing.Wait()
	}
	return time.Since(began) / time.Duration(b.N)
}
