//go:build linux && faults

package faults_test

import (
	"flag"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

var exclusiveFor = flag.Duration("exclusive", time.Minute, "how long to have processes in exclusive mode suffer")

// No two processes hold overlapping places, or places in different totals, at the
// same time, whatever happens to them, to their connections and to etcd.
func TestProcessesInExclusiveModeNeverActTwoAtOnce(t *testing.T) {
	for name, begin := range stages {
		t.Run(name, func(t *testing.T) {
			s := suffer(t, begin(t), libcluster.ModeExclusive, *exclusiveFor)
			v, generations := judgeStints(s.stints), make(map[int64]bool)
			for _, one := range s.stints {
				maps.Copy(generations, one.generations)
			}
			s.show(len(generations), v, "")
			require.Empty(t, v.overlaps)
		})
	}
}
