package peers_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The place of an instance that has left for a restart is kept, also when its process has ended:
// the others, whose dials are refused then, revoke what was its own, and not what it left behind.
func TestProcessThatLeavesForARestartKeepsItsPlace(t *testing.T) {
	for _, mode := range []string{"direct", "exclusive"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			all := spawnAll(t, mode+" 3s returning", files(t, 3, nil)...)
			active(t, all...)
			settled(t, all...)
			before := make(map[*process]event)
			for _, p := range all {
				before[p], _ = p.last("state")
			}
			all[2].leave(t)
			again := spawn(t, all[2].file, mode+" 3s")
			eventually(t, "it is back", func() bool {
				e, ok := again.last("state")
				return ok && e.Index == before[all[2]].Index && e.Total == 3
			})
			for _, p := range all[:2] {
				after, _ := p.last("state")
				require.Equal(t, before[p], after, "%s was called back", p.id)
			}
		})
	}
}
