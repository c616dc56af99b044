package libcluster_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// agree fails unless all name the same owner of each key, and it alone says that
// the key is its own.
func (w *memory) agree(apps ...*application) {
	w.Helper()
	for key := range 200 {
		key := fmt.Sprint(key)
		owner, ok := apps[0].OwnerOf(key)
		require.True(w, ok)
		require.Equal(w, "http://"+owner.ID, owner.Address)
		for _, a := range apps {
			other, ok := a.OwnerOf(key)
			require.True(w, ok)
			require.Equal(w, owner.ID, other.ID, "as %s sees it", a.ID())
			require.Equal(w, owner.ID == a.ID(), a.State().Owns(key), "%s, of %s", key, a.ID())
		}
	}
}

func TestEverybodyNamesTheSameOwnerOfAKey(t *testing.T) {
	for _, m := range []libcluster.Mode{libcluster.ModeDirect, libcluster.ModePlanned, libcluster.ModeExclusive} {
		t.Run(m.String(), func(t *testing.T) {
			inMemory(t, func(t *memory) {
				address := func(c *libcluster.Config) { c.Address = "http://" + c.ID }
				front := t.join("front end", mode(m), passive)
				_, ok := front.OwnerOf("key")
				require.False(t, ok, "nobody is there")

				c, a := t.join("c", mode(m), address), t.join("a", mode(m), address, workers(3))
				wait(time.Second)
				t.agree(front, a, c)
				b := t.join("b", mode(m), address, workers(2))
				wait(time.Second)
				t.agree(front, a, b, c)
				require.NoError(t, a.SetWorkers(t.Context(), 1))
				wait(time.Second)
				t.agree(front, a, b, c)
				require.NoError(t, c.Leave(t.Context()))
				wait(time.Second)
				t.agree(front, a, b)
			})
		})
	}
}

func TestFencedFrontEndStillNamesTheLastOwner(t *testing.T) {
	inMemory(t, func(t *memory) {
		t.join("a")
		b := t.join("b")
		b.OwnerOf("key")
		t.Cut("b")
		wait(window(libcluster.DefaultTTL))
		require.False(t, b.State().Active())
		_, ok := b.OwnerOf("key")
		require.True(t, ok)
	})
}

// What it returns is checked elsewhere: this is for the race detector, and for a
// list that is half of one change and half of another.
func TestOwnerIsAlwaysThereWhileMembersComeAndGo(t *testing.T) {
	registry := libclustertest.New()
	cluster := func(id string, passive bool) *libcluster.Cluster {
		c, err := libcluster.New(libcluster.Config{Key: "mailer", ID: id, Passive: passive, Registry: registry})
		require.NoError(t, err)
		require.NoError(t, c.Join(t.Context()))
		t.Cleanup(func() { _ = c.Leave(t.Context()) })
		return c
	}
	m := cluster("m", false)
	front := cluster("front end", true)
	stop := make(chan struct{})
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			for key := 0; ; key++ {
				select {
				case <-stop:
					return
				default:
				}
				for _, c := range []*libcluster.Cluster{m, front} {
					if _, ok := c.OwnerOf(fmt.Sprint(key)); !ok {
						t.Errorf("%s has no owner of %d", c.ID(), key)
						return
					}
				}
			}
		})
	}
	for n := range 100 {
		c, err := libcluster.New(libcluster.Config{
			Key: "mailer", ID: string(rune('a' + n%12)), Workers: 1 + n%3, Registry: registry,
		})
		require.NoError(t, err)
		require.NoError(t, c.Join(t.Context()))
		require.NoError(t, c.Leave(t.Context()))
	}
	close(stop)
	group.Wait()
}
