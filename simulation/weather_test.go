package simulation

import (
	"context"

	"github.com/libcluster/libcluster/libclustertest"
)

// intercept is the way of each call of each app to the registry and back.
func (w *world) intercept(ctx context.Context, call libclustertest.Call) error {
	s := ctx.Value(key{}).(*incarnation)
	return w.Way(ctx, s.a.App, call, func(ctx context.Context, late bool) error { return w.send(ctx, s, call, late) })
}

// send lets a call have its effect. What changes the registry does so alone, so
// that who was a member at which revision is known.
func (w *world) send(ctx context.Context, s *incarnation, call libclustertest.Call, late bool) (err error) {
	if call.Op == libclustertest.OpNext {
		err = call.Send(ctx)
		w.Locked(w.note)
		return err
	}
	w.Locked(func() {
		w.note()
		if call.Op == libclustertest.OpJoin {
			err = w.sendJoin(ctx, s, call)
		} else {
			err = call.Send(ctx)
		}
		if err == nil && call.Op == libclustertest.OpUpdate {
			s.overtaken = late
		}
		w.note()
	})
	return err
}

// sendJoin also sees to it that nobody takes an ID back.
func (w *world) sendJoin(ctx context.Context, s *incarnation, call libclustertest.Call) error {
	id, held := s.a.ID, w.Holds(cluster, s.a.ID)
	owner, known := w.owners[id]
	known = known && s.restores == w.restores // in a store that has gone back nobody can tell whose record it is
	err := call.Send(ctx)
	if err != nil || s.a.cfg.Passive {
		return err
	}
	if held && known && owner != s.a && s.rejoins {
		w.Fail("%s took its ID back from %s", s.a, owner)
	}
	if s.stay < s.a.Stay {
		// A request of an earlier stay that arrives only now looks like that of
		// another instance, and nobody knows of the record to remove it.
		w.Happened("join of an earlier stay")
		s.a.rivals++
		s.a.orphans++
	}
	w.owners[id], s.a.recorded = s.a, s
	w.tampered(id, s)
	return nil
}
