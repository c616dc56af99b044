//go:build faults && linux

package peers_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The server of an instance whose ID another one has goes on as one of the voters, and when its process
// ends, the others revoke what was its own.
func TestCutOffInstanceDoesNotTakeItsIDBack(t *testing.T) {
	for when, mode := range map[string]string{"before its record has gone": forLong, "afterwards": "direct"} {
		t.Run("taken "+when, func(t *testing.T) {
			net := newNetwork(t, 3)
			all := net.spawnAll(t, mode)
			active(t, all...)
			settled(t, all...)
			first, rest := all[2], all[:2]
			net.cut(first)
			if mode != forLong {
				active(t, rest...)
			}
			successor := net.client(t, first.id, mode)
			now := append([]*process{successor}, rest...)
			active(t, now...)
			eventually(t, "the successor has its place", func() bool { e, _ := successor.last("state"); return e.Index == 2 })

			told := states(now...)
			net.mend(first)
			first.says(t, "fenced for good; leave and join again to take the ID back")
			idles(t, first)
			time.Sleep(2 * ttl) // long enough to fight
			idles(t, first)
			_, voters := store(t, first)
			require.Equal(t, 3, voters)
			first.kill()
			time.Sleep(2 * ttl) // long enough to revoke
			require.Equal(t, told, states(now...), "they were called back")
		})
	}
}
