package kvtest

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/libcluster/libcluster/kv"
)

// memory is a harness of stores in memory, in real time.
func memory() Harness {
	return Harness{
		Open:   func(*testing.T) kv.Store { return NewMemory() },
		Forget: func(_ *testing.T, store kv.Store, space string) { store.(*Memory).Forget(space) },
		TTL:    300 * time.Millisecond,
	}
}

// inBubbles is the same in virtual time.
func inBubbles() Harness {
	h := memory()
	h.Around = synctest.Test
	h.TTL = 24 * time.Hour
	return h
}

func TestMemory(t *testing.T) {
	t.Run("RealTime", func(t *testing.T) { Run(t, memory()) })
	t.Run("VirtualTime", func(t *testing.T) { Run(t, inBubbles()) })
}
