package libcluster_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

// seenOf is all that Changed is for, in one text.
func seenOf(a *application) string {
	v := a.View()
	v.State.Deadline = time.Time{}
	return fmt.Sprintf("%+v %v %v", v, a.Phase(), a.Err())
}

// A goroutine that waits on the channels alone has seen the newest of everything whenever all is quiet.
func TestChangedTellsOfEverythingThatCanBeSeen(t *testing.T) {
	for _, m := range rangeModes {
		inMemory(t, func(t *memory) {
			members := func(c *libcluster.Config) { c.OnMembers = func(libcluster.MembersChange) {} }
			a := t.app("a", mode(m), members)
			var (
				mu   sync.Mutex
				seen string
				done = make(chan struct{})
			)
			go func() {
				for {
					changed := a.Changed()
					mu.Lock()
					seen = seenOf(a)
					mu.Unlock()
					select {
					case <-changed:
					case <-done:
						return
					}
				}
			}()
			defer close(done)
			check := func(what string) {
				t.Helper()
				synctest.Wait()
				mu.Lock()
				defer mu.Unlock()
				require.Equal(t, seenOf(a), seen, "%v: %s", m, what)
			}
			check("before the first Join")

			t.Cut("a")
			joined := make(chan error)
			go func() { joined <- a.Join(t.Context()) }()
			check("joining")
			require.Equal(t, libcluster.PhaseJoining, a.Phase())
			t.Heal("a")
			require.NoError(t, <-joined)
			check("joined")

			b := t.join("b", mode(m))
			time.Sleep(time.Second) // what a plan takes
			check("another one has joined")
			require.NoError(t, b.SetMetadata(t.Context(), map[string]string{"zone": "east"}))
			check("it has published something else")
			require.Len(t, a.View().Members[1].Metadata, 1)
			require.NoError(t, b.Leave(t.Context()))
			time.Sleep(time.Second)
			check("it has left")

			t.Cut("a")
			time.Sleep(time.Minute)
			check("fenced")
			require.Equal(t, libcluster.PhaseFenced, a.Phase())
			t.Heal("a")
			time.Sleep(time.Minute)
			check("back")

			holding := make(chan struct{})
			a.inCallback(func(libcluster.State) { <-holding })
			left := make(chan error)
			go func() { left <- a.Leave(t.Context()) }()
			check("leaving")
			require.Equal(t, libcluster.PhaseLeaving, a.Phase())
			close(holding)
			require.NoError(t, <-left)
			check("left")
		})
	}
}
