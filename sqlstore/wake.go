package sqlstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"
)

// channel is what commits are told on. One is enough: PostgreSQL wakes every listener of
// a database whatever it listens on.
const channel = "libcluster"

// restful is how many times longer a watch rests while notifications are heard.
const restful = 5

// Listening is what a listener has to do for a Store.
type Listening struct {
	// Channel is the channel to listen on.
	Channel string
	// Heard is to be called with the payload of each notification. It does not block.
	Heard func(payload string)
	// Hears is to be called with true once all notifications are heard from now on, and
	// with false as soon as some may not be. It does not block. All watches then look once.
	Hears func(all bool)
}

// shortName stands for a space, and the tables it is in, where a name must be short.
func (s *Store) shortName(space string) uint64 {
	sum := sha256.Sum256([]byte(s.expand("{space} ") + space))
	return binary.BigEndian.Uint64(sum[:])
}

func payload(short uint64) string { return fmt.Sprintf("%016x", short) }

// told is the end of the statement that every commit has, which tells of it. The database
// does so when the commit can be seen.
func (s *Store) told(short uint64) string {
	if s.Wake == nil {
		return ""
	}
	return fmt.Sprintf(s.lang.notify, channel, payload(short))
}

// startListening is called with mu held.
func (s *Store) startListening() {
	if s.Wake == nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	s.deafen = stop
	hears := func(all bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if ctx.Err() != nil { // another one may listen by now
			return
		}
		s.hears = all
		for _, watches := range s.watches {
			wakeAll(watches)
		}
	}
	go func() {
		s.Wake(ctx, Listening{Channel: channel, Heard: s.heard, Hears: hears})
		hears(false)
	}()
}

// stopListening is called with mu held.
func (s *Store) stopListening() {
	if s.deafen != nil {
		s.deafen()
		s.deafen, s.hears = nil, false
	}
}

// heard has the watches of a space look at once. It is no more than a hint: what they find
// is in the database.
func (s *Store) heard(payload string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wakeAll(s.watches[payload])
}

// Look has the watches of a space look for changes at once, as a notification does: such as when
// another process has said that there are some. It is no more than a hint, and does not block.
func (s *Store) Look(space string) { s.heard(payload(s.shortName(space))) }

func wakeAll(watches map[chan struct{}]bool) {
	for c := range watches {
		select {
		case c <- struct{}{}:
		default: // it will look anyway
		}
	}
}

// pause returns for how long a watch rests that has found a space to be as h says. A
// lease's end is told of by nobody: a watch looks when the first is due, each at a time of
// its own, and it is the first of them that ends the lease and tells the others.
func (s *Store) pause(h head) time.Duration {
	s.mu.Lock()
	hears := s.hears
	s.mu.Unlock()
	poll := s.poll()
	pause := poll
	if hears {
		pause = restful * poll
	}
	if h.leases {
		pause = min(pause, max(h.due, 0)+rand.N(poll))
	}
	return pause
}

// listen returns the channel by which a watch is woken.
func (s *Store) listen(payload string) chan struct{} {
	c := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watches[payload] == nil {
		s.watches[payload] = map[chan struct{}]bool{}
	}
	s.watches[payload][c] = true
	return c
}

func (s *Store) unlisten(payload string, c chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.watches[payload], c)
	if len(s.watches[payload]) == 0 {
		delete(s.watches, payload)
	}
}
