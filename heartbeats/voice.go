package heartbeats

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster/kv"
)

const (
	// perLife is how often a lease is heard in the time that it lives without being renewed, and
	// silentPart the part of that after which it is silent.
	perLife    = 20
	silentPart = 4
	// readAgain is how soon the records are read again after an error.
	readAgain = 500 * time.Millisecond
)

// voice is a lease that is heard by the others in its space, and hears them.
type voice struct {
	store *Store
	space kv.Space
	name  string // of the space
	port  *port
	log   *zap.Logger
	// isolated is called, once, when this lease is no part of a majority; nil: nothing is.
	isolated func(context.Context)

	ctx     context.Context
	cancel  context.CancelFunc
	work    sync.WaitGroup
	sending sync.Mutex
	early   chan struct{} // has an element when a round is due at once
	moving  atomic.Bool   // while move runs

	mu     sync.Mutex    // guards what follows
	owner  kv.Owner      // 0: it has not been started
	life   time.Duration // of the lease, if it is not renewed
	circle *circle
	lines  map[kv.Owner]*line
	ending map[kv.Owner]bool // leases that are being ended
	number uint64            // of the last packet
	read   bool              // the records were read once
	alone  bool              // it has been said, or obeyed, that it is isolated
	said   string            // the address that the store was last given; empty: none
	moved  chan struct{}     // closed when anybody is found, heard or gone
}

// newVoice opens the port, if no other voice has. Unless there is an error it has to be stopped.
func (s *Store) newVoice(ctx context.Context, space kv.Space, name string) (*voice, error) {
	v := &voice{
		store: s, space: space, name: name, log: s.log, early: make(chan struct{}, 1),
		circle: newCircle(time.Now(), s.refusals), lines: map[kv.Owner]*line{}, ending: map[kv.Owner]bool{}, moved: make(chan struct{}),
	}
	v.ctx, v.cancel = context.WithCancel(context.Background())
	return v, s.enter(ctx, v)
}

// start has a lease heard, which lives for a time without being renewed.
func (v *voice) start(owner kv.Owner, life time.Duration) {
	v.log = v.log.With(zap.String("space", v.name), zap.String("lease", strconv.FormatInt(int64(owner), 16)))
	v.mu.Lock()
	v.owner, v.life = owner, life
	v.mu.Unlock()
	v.work.Go(v.follow)
	v.work.Go(v.beat)
}

// stop ends it. The lease lives on, for as long as it would without heartbeats.
func (v *voice) stop() {
	v.send(packet{last: true}, nil)
	v.cancel()
	v.work.Wait()
	v.store.leave(v)
}

// says is what the others have to know of a lease that is heard here.
func (v *voice) says(owner kv.Owner, life time.Duration) kv.Record {
	address := v.port.where()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.said = address
	return record{address, v.port.key, max(1, (life / silentPart).Milliseconds())}.put(owner)
}

// move has the store say where this lease is heard, if that has changed since the store was told.
func (v *voice) move() {
	v.mu.Lock()
	before := v.said
	v.mu.Unlock()
	if before == "" || v.port.where() == before {
		return
	}
	ctx, cancel := context.WithTimeout(v.ctx, v.life/silentPart)
	defer cancel()
	_, err := v.space.Commit(ctx, kv.Tx{Put: []kv.Record{v.says(v.owner, v.life)}})
	if err != nil {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.said = before // the next round tries again
		return
	}
	v.log.Info("the address has changed at which this instance is heard")
	v.tell()
}

// beat sends and judges, again and again.
func (v *voice) beat() {
	interval := v.life / perLife
	for due := time.Now(); v.ctx.Err() == nil; {
		v.round(due)
		pause := interval*3/4 + rand.N(interval/2+1)
		due = time.Now().Add(pause)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-v.early:
		case <-v.ctx.Done():
		}
		timer.Stop()
	}
}

// round sends one packet to all, and does what follows from what was heard.
func (v *voice) round(due time.Time) {
	v.mu.Lock()
	now := time.Now()
	if now.Sub(due) > v.life/perLife {
		v.circle.overslept(now)
	}
	dead := v.circle.dead(now)
	alone := v.circle.isolated(now)
	v.mu.Unlock()
	v.send(packet{}, nil)
	for _, owner := range dead {
		v.end(owner)
	}
	if alone && v.moving.CompareAndSwap(false, true) {
		v.work.Go(func() {
			v.move()
			sleep(v.ctx, v.life/silentPart)
			v.moving.Store(false)
		})
	}
	v.judge(alone)
}

// judge does, or says, what follows from hearing no majority, once.
func (v *voice) judge(alone bool) {
	v.mu.Lock()
	changed := alone != v.alone
	v.alone = alone
	v.mu.Unlock()
	switch {
	case !changed:
	case alone && v.isolated != nil:
		v.log.Warn("too few of the others' heartbeats are heard: this instance steps down")
		isolated := v.isolated
		v.isolated = nil
		v.work.Go(func() { isolated(v.ctx) })
	case alone:
		v.log.Warn("too few of the others' heartbeats are heard; changes are found by looking")
	default:
		v.log.Info("most of the others' heartbeats are heard again")
	}
}

// tell has the others look at the store: something has changed.
func (v *voice) tell() { v.send(packet{changed: true}, nil) }

// send sends a packet to one or, if that is nil, to all, with what it says by itself and what all say.
func (v *voice) send(p packet, only *line) {
	v.sending.Lock() // or an earlier one could arrive later, and say nothing
	defer v.sending.Unlock()
	v.mu.Lock()
	v.number++
	p.from, p.number, p.accused = v.owner, v.number, v.circle.accused(time.Now())
	lines := []*line{only}
	if only == nil {
		lines = slices.Collect(maps.Values(v.lines))
	}
	v.mu.Unlock()
	b := p.encode(v.port.key)
	sent := map[string]bool{} // one packet is for all leases of a process
	for _, l := range lines {
		if sent[l.address] {
			continue
		}
		sent[l.address] = true
		if l.send(b) {
			v.refused(l.owner)
		}
	}
}

// hear takes in a packet, and reports whether it knows the sender, and has news of it. It is called by
// the port, and does not wait for anything.
func (v *voice) hear(p packet, b []byte) (knows, news bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	o := v.circle.others[p.from]
	if o == nil {
		return p.from == v.owner, false
	}
	first := o.heard.IsZero()
	if !authentic(b, o.Key) || !v.circle.hear(p, time.Now()) {
		return true, false
	}
	if first && !p.last {
		v.log.Debug("another instance is heard", zap.String("other", strconv.FormatInt(int64(p.from), 16)))
	}
	v.stir()
	return true, p.changed
}

// perLook is how often the store is looked at since somebody is heard whom nobody knows.
func (v *voice) perLook() time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.life / perLook
}

// refused notes that a port has refused a packet.
func (v *voice) refused(owner kv.Owner) {
	v.mu.Lock()
	again := v.circle.refused(owner)
	o := v.circle.others[owner]
	dead := o != nil && o.refusals >= enoughRefusals
	v.mu.Unlock()
	switch {
	case again:
		time.AfterFunc(refusedAgain, v.hurry)
	case dead:
		v.hurry()
	}
}

// hurry has a round come at once.
func (v *voice) hurry() {
	select {
	case v.early <- struct{}{}:
	default: // one is due already
	}
}

// end ends the lease of another instance. No proof needs a lease's end to come late: an instance
// whose lease is ended by mistake finds that out when it renews, and joins anew.
func (v *voice) end(owner kv.Owner) {
	v.mu.Lock()
	o := v.circle.others[owner]
	if o == nil || v.ending[owner] {
		v.mu.Unlock()
		return
	}
	v.ending[owner] = true
	why := "its heartbeats have stopped, as most of the others find too"
	if o.refusals >= enoughRefusals {
		why = "its port refuses: the process has ended"
	}
	v.mu.Unlock()
	v.work.Go(func() {
		ctx, cancel := context.WithTimeout(v.ctx, v.life/silentPart)
		defer cancel()
		if err := v.space.End(ctx, owner); err != nil {
			v.mu.Lock()
			defer v.mu.Unlock()
			delete(v.ending, owner) // the next round tries again
			return
		}
		v.log.Info("the lease of another instance was ended", zap.String("other", strconv.FormatInt(int64(owner), 16)), zap.String("why", why))
		v.tell()
	})
}

// follow keeps up with who is there, as the store tells.
func (v *voice) follow() {
	for v.ctx.Err() == nil {
		_ = v.followOnce() // a store that cannot be read tells nothing new, and what was known stays
		sleep(v.ctx, readAgain)
	}
}

func (v *voice) followOnce() error {
	there := map[kv.Owner]record{}
	reading, cancel := context.WithTimeout(v.ctx, v.life) // a line may have died of which nothing tells
	defer cancel()
	mark, err := v.space.List(reading, prefix, func(r kv.Record) error {
		v.parse(r, there)
		return nil
	})
	if err != nil {
		return err
	}
	v.reset(there)
	watch, err := v.space.Watch(v.ctx, prefix, mark.Revision)
	if err != nil {
		return err
	}
	defer watch.Close()
	for {
		changes, err := watch.Next(v.ctx)
		if err != nil {
			return err
		}
		for _, c := range changes.Records {
			if c.Gone {
				delete(there, ownerOf(c.Key))
			} else {
				v.parse(c.Record, there)
			}
		}
		v.reset(there)
	}
}

// parse notes a record, unless it is this process's own.
func (v *voice) parse(r kv.Record, there map[kv.Owner]record) {
	delete(there, ownerOf(r.Key))
	said, err := parseRecord(r)
	if err != nil {
		v.log.Warn("a record of heartbeats is not understood", zap.Error(err))
	} else if string(said.Key) != string(v.port.key) {
		there[r.Owner] = said
	}
}

// reset notes who is there.
func (v *voice) reset(there map[kv.Owner]record) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for owner := range v.lines {
		if _, is := there[owner]; !is {
			v.circle.gone(owner)
			v.hangUp(owner)
			delete(v.ending, owner)
		}
	}
	for owner, said := range there {
		if v.circle.found(owner, said, time.Now()) {
			v.hangUp(owner)
			v.call(owner, said.Address)
		}
	}
	v.read = true
	v.stir()
}

// call opens a line. mu is held.
func (v *voice) call(owner kv.Owner, address string) {
	ctx, cancel := context.WithCancel(v.ctx)
	l := &line{owner: owner, address: address, end: cancel}
	v.lines[owner] = l
	first := func() { v.send(packet{changed: true}, l) } // what was to be said before there was a line
	v.work.Go(func() { l.hold(ctx, v.store.network, first, func() { v.refused(owner) }) })
}

// hangUp closes a line. mu is held.
func (v *voice) hangUp(owner kv.Owner) {
	if l := v.lines[owner]; l != nil {
		l.end()
		delete(v.lines, owner)
	}
}

// majority reports whether this lease and those that it hears are one, and returns a channel
// that is closed when that may have changed.
func (v *voice) majority() (bool, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.read && 2*v.circle.heard(time.Now()) >= len(v.circle.others), v.moved
}

// stir wakes an attempt to join that waits to hear a majority. mu is held.
func (v *voice) stir() {
	close(v.moved)
	v.moved = make(chan struct{})
}
