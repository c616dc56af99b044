//go:build unix

package heartbeats_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

// A process that was stopped has not acted meanwhile. When it goes on it hears first that it has no
// index, and then comes back last. Without heartbeats it is missed when its lease has had its time.
func TestPrimaryThatIsStoppedIsFollowedAndComesBackLast(t *testing.T) {
	t.Parallel()
	for _, with := range []role{
		{Mode: libcluster.ModePlanned}, {Mode: libcluster.ModePlanned, Bind: loopback.Bind}, {Mode: libcluster.ModeExclusive},
	} {
		t.Run(fmt.Sprint(with.Mode, " ", with.Bind), func(t *testing.T) {
			t.Parallel()
			dir := shm(t)
			var all []*process
			for n, id := range []string{"a", "b", "c"} {
				with.Dir, with.ID, with.TTL = dir, id, 10*time.Second
				all = append(all, spawn(t, with))
				all[n].until(n, n+1)
			}
			a, b, c := all[0], all[1], all[2]
			a.until(0, 3)
			require.NoError(t, a.Process.Signal(syscall.SIGSTOP))
			b.until(1, 2)
			c.until(0, 2) // the last one fills the hole
			require.NoError(t, a.Process.Signal(syscall.SIGCONT))
			first := a.await("anything", func(s said) bool { return s.log == "" })
			require.Equal(t, -1, first.index)
			a.until(2, 3)
			c.until(0, 3)
		})
	}
}
