// Package chance is where instances draw what they leave to chance: how long to wait
// after a failure, when a heartbeat is due, in which order instances try to coordinate.
package chance

import (
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"time"
)

// Source is one instance's source. Any goroutine may draw from it. A nil Source draws
// from Go's own generator, which nobody can seed.
type Source struct {
	mu   sync.Mutex // guards rand
	rand *rand.Rand
}

// New returns a source that follows from a seed and the name of the instance.
func New(seed uint64, name string) *Source {
	h := fnv.New64a()
	h.Write([]byte(name))
	return &Source{rand: rand.New(rand.NewPCG(seed, h.Sum64()))}
}

// Below draws a duration from 0 up to, but not including, most, which must be positive.
func (s *Source) Below(most time.Duration) time.Duration {
	if s == nil {
		return rand.N(most)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Duration(s.rand.Int64N(int64(most)))
}

// Seeded is implemented by a registry that gives each instance its source. Only
// simulations need one: with the same seed they draw the same.
type Seeded interface {
	Chance(instance string) *Source
}
