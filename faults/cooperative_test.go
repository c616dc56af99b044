//go:build linux && faults

package faults_test

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

var cooperativeFor = flag.Duration("cooperative", time.Minute, "how long to have processes in cooperative mode suffer")

// No two processes hold a partition at the same time, and none stops a partition that does
// not move, whatever happens to them, to their connections and to etcd.
func TestProcessesInCooperativeModeStopOnlyWhatMovesAndNeverActTwoAtOnce(t *testing.T) {
	for name, begin := range stages {
		t.Run(name, func(t *testing.T) {
			by := begin(t)
			s := suffer(t, by, libcluster.ModeCooperative, *cooperativeFor)
			var plans history
			if by.plans != nil {
				plans = by.plans(t)
			}
			v, sameTokens := judgePartitions(s.stints)
			stopped := judgeStops(s.deeds, plans)
			tokens := make(map[int64]bool)
			for _, one := range s.stints {
				tokens[one.last.generation] = true
			}
			s.show(len(tokens), v, fmt.Sprintf(" needless stops %d of %v | tokens that have not grown %d | plans in etcd's history %d |",
				len(stopped.needless), stopped.counts, len(sameTokens), len(plans)))
			require.Empty(t, v.overlaps)
			require.Empty(t, sameTokens)
			require.Empty(t, stopped.needless)
		})
	}
}
