package libcluster_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// Between a state and a list of members there may be a change. One that asks for both at
// once is told of one instant, however fast the cluster changes.
func TestViewIsOfOneInstant(t *testing.T) {
	t.Parallel()
	registry := libclustertest.New()
	front, err := libcluster.New(libcluster.Config{Key: "mailer", Registry: registry, Passive: true})
	require.NoError(t, err)
	require.NoError(t, front.Join(t.Context()))
	t.Cleanup(func() { require.NoError(t, front.Leave(t.Context())) })

	done := make(chan struct{})
	var looking sync.WaitGroup
	for range 2 {
		looking.Go(func() {
			of := make(map[int64]string)
			for looked := 0; ; looked++ {
				select {
				case <-done:
					t.Logf("looked %d times, saw %d generations", looked, len(of))
					return
				default:
				}
				v := front.View()
				next := 0
				for _, p := range v.Members {
					if p.Index != next {
						t.Errorf("members do not tile: %v", v.Members)
					}
					next += p.Workers
				}
				if next != v.State.Total {
					t.Errorf("the total is %d, and that of the members %d", v.State.Total, next)
				}
				members := fmt.Sprint(v.Members)
				if before, ok := of[v.State.Generation]; ok && before != members {
					t.Errorf("generation %d is of %s and of %s", v.State.Generation, before, members)
				}
				of[v.State.Generation] = members
			}
		})
	}
	for n := range 300 {
		before := front.State().Generation
		registry.Delete("mailer/production", fmt.Sprint("node", n%5))
		registry.Put("mailer/production", fmt.Sprint("node", n%7), fmt.Append(nil, 1+n%5))
		for front.State().Generation == before {
			runtime.Gosched()
		}
	}
	close(done)
	looking.Wait()
}

func TestViewBelongsToItsCaller(t *testing.T) {
	for _, m := range rangeModes {
		inMemory(t, func(t *memory) {
			a := t.join("a", mode(m), func(c *libcluster.Config) { c.Metadata = map[string]string{"zone": "east"} })
			before := a.View()
			before.Members[0].Index = 7
			require.Zero(t, a.View().Members[0].Index)
			if m == libcluster.ModeDirect { // a plan has no metadata
				before.Members[0].Metadata["zone"] = "west"
				require.Equal(t, "east", a.View().Members[0].Metadata["zone"])
			}
			require.Equal(t, a.State(), a.View().State)
		})
	}
}
