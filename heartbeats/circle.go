package heartbeats

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/libcluster/libcluster/kv"
)

const (
	// enoughRefusals is how many packets in a row a port must refuse.
	enoughRefusals = 2
	// mostRefusals bounds of how many processes it is remembered that their ports have refused.
	mostRefusals = 1024
)

// circle is what one lease knows of the others in its space. It does nothing: it is told what
// has happened, and when, and is asked what follows.
type circle struct {
	others   map[kv.Owner]*other
	awake    time.Time // since when nothing here has been late
	refusals *refusals
}

// refusals are what a process remembers of ports that have refused, for all its leases: with each
// lease that was ended by mistake it would otherwise forget, and processes that end one another's
// leases would never come to an end.
type refusals struct {
	mu sync.Mutex // guards what follows
	// lies has the keys of processes whose ports have refused, and whether they were heard
	// since: a firewall's doing.
	lies map[string]bool
}

func newRefusals() *refusals { return &refusals{lies: map[string]bool{}} }

// note notes that the port of a process has refused. It may have ended, and is never seen again.
func (r *refusals) note(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lies) >= mostRefusals {
		clear(r.lies)
	}
	if _, known := r.lies[key]; !known {
		r.lies[key] = false
	}
}

// heard notes that a process is heard.
func (r *refusals) heard(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, refused := r.lies[key]; refused {
		r.lies[key] = true
	}
}

// isLie reports whether a port has refused before whose process was heard again.
func (r *refusals) isLie(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lies[key]
}

// other is another lease.
type other struct {
	record
	since    time.Time // when its record was found
	heard    time.Time // last; zero: never
	steady   time.Time // since when it has been heard without a silence
	number   uint64    // of the last packet
	accused  []kv.Owner
	refusals int // in a row
}

func newCircle(now time.Time, r *refusals) *circle {
	return &circle{others: map[kv.Owner]*other{}, awake: now, refusals: r}
}

// found notes a lease's record, and reports whether it is new.
func (c *circle) found(owner kv.Owner, r record, now time.Time) bool {
	if o := c.others[owner]; o != nil && o.Address == r.Address && string(o.Key) == string(r.Key) {
		return false
	}
	c.others[owner] = &other{record: r, since: now}
	return true
}

// gone notes that a lease has ended.
func (c *circle) gone(owner kv.Owner) { delete(c.others, owner) }

// hear takes in a packet that is authentic, and reports whether it is a new one.
func (c *circle) hear(p packet, now time.Time) bool {
	o := c.others[p.from]
	if o == nil || p.number <= o.number {
		return false
	}
	if !c.hears(o, now) {
		o.steady = now
	}
	c.refusals.heard(string(o.Key))
	o.number, o.heard, o.accused, o.refusals = p.number, now, p.accused, 0
	if p.last {
		o.heard = time.Time{} // as if it had never been heard, or its silence would be held against it
	}
	return true
}

// refused notes that the port of a lease, and of all of that process, has refused a packet, and
// reports whether to send another one at once. A port that was never heard of may belong to a
// firewall that refuses.
func (c *circle) refused(owner kv.Owner) (again bool) {
	its := c.others[owner]
	if its == nil {
		return false
	}
	key := string(its.Key)
	if c.refusals.isLie(key) {
		return false
	}
	for o := range maps.Values(c.others) {
		if string(o.Key) != key || o.heard.IsZero() {
			continue
		}
		o.refusals++
		again = again || o.refusals < enoughRefusals
		c.refusals.note(key)
	}
	return again
}

// overslept notes that what is due at a time was not looked at until now. What has not been heard
// meanwhile may lie in the socket.
func (c *circle) overslept(now time.Time) { c.awake = now }

// hears reports whether a lease is heard.
func (c *circle) hears(o *other, now time.Time) bool {
	return !o.heard.IsZero() && now.Sub(latest(o.heard, c.awake)) <= o.silence()
}

// hearsSteadily reports whether a lease has been heard for as long as would have been silence.
func (c *circle) hearsSteadily(o *other, now time.Time) bool {
	return c.hears(o, now) && now.Sub(o.steady) >= o.silence()
}

func (o *other) silence() time.Duration { return time.Duration(o.Silence) * time.Millisecond }

// accused returns those that were heard once and are silent now, if most of the rest are heard
// steadily. An instance that hears few of the others is alone itself, or heartbeats fail for all. When they
// work again one is heard before another, which is why it has to be steadily.
func (c *circle) accused(now time.Time) (silent []kv.Owner) {
	steady := 0
	for o := range maps.Values(c.others) {
		if c.hearsSteadily(o, now) {
			steady++
		}
	}
	for owner, o := range c.others {
		rest := len(c.others) - 1
		if !o.heard.IsZero() && !c.hears(o, now) && 2*steady > rest {
			silent = append(silent, owner)
		}
	}
	slices.Sort(silent)
	return silent
}

// dead returns those whose leases shall end: a port that refuses, or an accusation by most of the
// others, to which this one belongs.
func (c *circle) dead(now time.Time) (dead []kv.Owner) {
	accused := c.accused(now)
	for owner, o := range c.others {
		votes := 0
		if slices.Contains(accused, owner) {
			votes = 1 + c.accusers(owner, now)
		}
		if o.refusals >= enoughRefusals || 2*votes > len(c.others) {
			dead = append(dead, owner)
		}
	}
	slices.Sort(dead)
	return dead
}

// accusers is how many of those that are heard accuse a lease.
func (c *circle) accusers(of kv.Owner, now time.Time) (n int) {
	for owner, o := range c.others {
		if owner != of && c.hears(o, now) && slices.Contains(o.accused, of) {
			n++
		}
	}
	return n
}

func (c *circle) heard(now time.Time) (n int) {
	for o := range maps.Values(c.others) {
		if c.hears(o, now) {
			n++
		}
	}
	return n
}

// isolated reports whether this lease and those that it hears are no majority of all. Who
// has just come is given the time to be heard.
func (c *circle) isolated(now time.Time) bool {
	heard := 0
	for o := range maps.Values(c.others) {
		if c.hears(o, now) || o.heard.IsZero() && now.Sub(latest(o.since, c.awake)) <= o.silence() {
			heard++
		}
	}
	return 2*heard < len(c.others)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
