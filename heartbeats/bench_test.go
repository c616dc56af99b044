package heartbeats_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

// BenchmarkCrashToTheNextPrimary kills the primary of three processes, and measures until another
// one has index 0.
func BenchmarkCrashToTheNextPrimary(b *testing.B) {
	for _, mode := range []libcluster.Mode{libcluster.ModeDirect, libcluster.ModePlanned, libcluster.ModeExclusive} {
		for name, bind := range map[string]string{"heartbeats": loopback.Bind, "none": ""} {
			b.Run(mode.String()+"/"+name, func(b *testing.B) {
				var took []time.Duration
				for b.Loop() {
					took = append(took, crash(b, mode, bind))
				}
				slices.Sort(took)
				b.ReportMetric(0, "ns/op") // what takes long is starting
				b.ReportMetric(float64(took[0].Milliseconds()), "ms-min")
				b.ReportMetric(float64(took[len(took)/2].Milliseconds()), "ms-median")
				b.ReportMetric(float64(took[len(took)-1].Milliseconds()), "ms-max")
			})
		}
	}
}

func crash(b *testing.B, mode libcluster.Mode, bind string) time.Duration {
	dir := shm(b)
	var all []*process
	for n, id := range []string{"a", "b", "c"} {
		p := spawn(b, role{Dir: dir, ID: id, Bind: bind, Mode: mode, TTL: time.Second})
		p.until(n, n+1)
		all = append(all, p)
	}
	all[0].until(0, 3)
	time.Sleep(time.Second + rand.N(200*time.Millisecond)) // at rest, at any time between two heartbeats
	killed := time.Now()
	require.NoError(b, all[0].Process.Kill())
	for ctx := patience(b); ; {
		var s said
		select {
		case s = <-all[1].lines:
		case s = <-all[2].lines:
		case <-ctx.Done():
			b.Fatal("there is no other primary")
		}
		if s.index == 0 && s.at.After(killed) {
			for _, p := range all {
				_ = p.Process.Kill()
			}
			return s.at.Sub(killed)
		}
	}
}
