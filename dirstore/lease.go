package dirstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/libcluster/libcluster/kv"
)

// # How a lease is renewed, and how it ends
//
// An owner that renews writes its heartbeat, and then finds its lease in the newest document. Any
// process may end the lease of an owner, in this order. It has read the same
// heartbeat for the whole time of the lease. It has the lease doubted, by a commit. It reads
// the heartbeat once more, and it is still the same. It ends the lease, by a commit that
// is carried out only if the lease is doubted and has not been renewed by a commit since.
//
// An owner that finds its lease doubted renews it by a commit, which ends the doubt.
//
// So a renewal that has succeeded is never in vain. If it was written before the process
// began to read, the process has waited for the whole time since. If it was written while
// the process was reading, the process has seen that. If it was written after the
// last reading, it was after the doubt: the owner has found the doubt, and the commit of the one
// or of the other came first.
//
// On a network a heartbeat that is read may be old. There each lease is doubted from
// its beginning to its end.

// Begin begins a lease.
func (sp *space) Begin(ctx context.Context, owner kv.Owner, ttl time.Duration) (time.Duration, error) {
	const what = "beginning a lease"
	if owner <= 0 || ttl <= 0 {
		return 0, fmt.Errorf("%s: %w: an owner and a time are positive", what, kv.ErrRefused)
	}
	return call(ctx, sp.life, sp.f, what, func(ctx context.Context) (time.Duration, error) {
		_, err := sp.f.swap(ctx, begin(owner, ttl))
		if err == nil {
			sp.f.owns(owner)
		}
		return ttl, err
	})
}

// Renew renews a lease.
func (sp *space) Renew(ctx context.Context, owner kv.Owner) (time.Duration, error) {
	return call(ctx, sp.life, sp.f, "renewing a lease", func(ctx context.Context) (time.Duration, error) {
		l, err := sp.f.renew(ctx, owner)
		if errors.Is(err, kv.ErrEnded) {
			_ = sp.f.files.remove(sp.f.heartbeat(owner))
		}
		return l.TTL, err
	})
}

// renew renews by the heartbeat, or by a commit if the lease is doubted or the heartbeat cannot be
// written.
func (f *folder) renew(ctx context.Context, owner kv.Owner) (lease, error) {
	if !f.store.Network && f.files.overwrite(f.heartbeat(owner), f.beat()) == nil {
		d, err := f.newest(ctx)
		if err != nil {
			return lease{}, err
		}
		switch l, lives := d.leases[owner]; {
		case !lives:
			return l, kv.ErrEnded
		case !l.Doubted:
			return l, nil
		}
	}
	d, err := f.swap(ctx, renew(owner))
	if err != nil {
		return lease{}, err
	}
	return d.leases[owner], nil
}

// End ends a lease.
func (sp *space) End(ctx context.Context, owner kv.Owner) error {
	_, err := call(ctx, sp.life, sp.f, "ending a lease", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, sp.f.end(ctx, end(owner), owner)
	})
	return err
}

// end ends leases by a change, and removes their heartbeats.
func (f *folder) end(ctx context.Context, c change, owners ...kv.Owner) error {
	d, err := f.swap(ctx, c)
	if err != nil {
		return err
	}
	for _, owner := range owners {
		if _, lives := d.leases[owner]; !lives && !d.network {
			_ = f.files.remove(f.heartbeat(owner)) // or it is swept
		}
	}
	return nil
}

func (f *folder) heartbeat(owner kv.Owner) string { return f.at(heartbeatName(owner)) }

// beat returns what no heartbeat has ever been. Each is as long.
func (f *folder) beat() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.beats++
	return fmt.Appendf(nil, "%s %016x\n", f.store.id, f.beats)
}

// owns has the rounds begin from an owner of this process.
func (f *folder) owns(owner kv.Owner) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.own = owner
}

// looks is how often in the time of the shortest lease it is looked whether it is renewed, at
// the most.
const looks = 16

// tend ends the leases of the dead, if it is time to look. Every call and every watch does so:
// in the end somebody looks. An error is the next one's trouble. However many have died, the call
// that finds them makes two documents.
func (f *folder) tend(ctx context.Context) {
	if !f.tending.TryLock() {
		return
	}
	defer f.tending.Unlock()
	d := f.known() // the call has just read it
	if d == nil {
		return
	}
	shortest := d.shortest()
	if time.Since(f.tended) < max(f.store.poll()/2, shortest/looks) {
		return
	}
	f.tended = time.Now()
	f.observed.forget(d)
	f.mu.Lock()
	own := f.own
	f.mu.Unlock()
	if dead := f.dead(d, own); len(dead) > 0 {
		_ = f.endDead(ctx, d, dead)
	}
}

// dead returns the owners that this process has to watch and that have been quiet for the whole
// time of their leases.
func (f *folder) dead(d *document, own kv.Owner) beats {
	dead, shortest := beats{}, d.shortest()
	for _, owner := range round(d, own) {
		l := d.leases[owner]
		quiet, lives, err := f.look(owner, l)
		switch {
		case err != nil:
			continue // it may hide no dead below it
		case quiet >= l.TTL:
			dead[owner] = l.Beat
		case lives && quiet < shortest/2:
			return dead // it looks at those below, unless it has died since
		}
	}
	return dead
}

// look returns for how long an owner has not renewed, and whether it has ever done so.
func (f *folder) look(owner kv.Owner, l lease) (quiet time.Duration, lives bool, err error) {
	began := time.Now()
	sign := strconv.FormatInt(l.Beat, 10)
	if !f.store.Network {
		const most = 64
		beat, err := f.files.read(f.heartbeat(owner), most)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errForeign) {
			return 0, false, err
		}
		sign += " " + string(beat)
	}
	quiet, lives = f.observed.saw(owner, sign, began, time.Now())
	return quiet, lives, nil
}

// endDead ends leases that have been quiet for their whole time, by one document. Those that are
// not doubted yet are doubted first, by another one, and looked at once more.
func (f *folder) endDead(ctx context.Context, d *document, dead beats) error {
	fresh := maps.Clone(dead)
	maps.DeleteFunc(fresh, func(owner kv.Owner, _ int64) bool { return d.leases[owner].Doubted })
	if len(fresh) > 0 {
		if _, err := f.swap(ctx, doubt(fresh)); err != nil {
			return err
		}
	}
	for owner := range fresh {
		l := d.leases[owner]
		if quiet, _, err := f.look(owner, l); err != nil || quiet < l.TTL {
			delete(dead, owner)
		}
	}
	return f.end(ctx, bury(dead), slices.Collect(maps.Keys(dead))...)
}
