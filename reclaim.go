package libcluster

import (
	"context"
	"slices"

	"go.uber.org/zap"
)

// looksToReclaim is how often an ID is looked at within [Config.ReclaimAfter].
const looksToReclaim = 4

// overtaken fences the instance because another instance has its ID now. It returns true
// when this instance may ask for the ID again, and false if it never may or the membership has
// ended. A Join that still waits for its first callback fails.
func (p *pinger) overtaken(why error) (again bool) {
	forGood := p.cfg.ReclaimAfter == 0 || !isClosed(p.ready)
	if forGood {
		p.fail(why)
	}
	if v := p.view.Load(); v.inc != nil && v.inc.membership == p.membership {
		// The incarnation that readers see may have been fenced for another reason, but
		// this is the reason why it has no successor.
		v.inc.explain(why)
	}
	p.wake()
	if forGood {
		p.log.Error("fenced for good; leave and join again to take the ID back", zap.Error(why))
		return false
	}
	p.report(zap.ErrorLevel, "fenced; will ask for the ID again when no other instance has had it for a while",
		zap.Duration("after", p.cfg.ReclaimAfter), zap.Error(why))
	return p.awaitFreeID()
}

// awaitFreeID looks at the cluster until no instance has had this instance's ID for as long
// as the application wants. It returns false if the membership has ended.
func (p *pinger) awaitFreeID() bool {
	for free := 0; free <= looksToReclaim; {
		if !sleep(p.ctx, p.cfg.ReclaimAfter/looksToReclaim) {
			return false
		}
		if p.isFreeID() {
			free++
		} else {
			free = 0
		}
	}
	return true
}

// isFreeID reports whether no instance has the ID, as far as can be known. If the registry
// keeps no plans, or its session has been left, only the next Join can tell.
func (p *pinger) isFreeID() bool {
	inc := p.current.Load()
	planner, ok := inc.session.(Planner)
	if !ok || inc.withdrawn {
		return true
	}
	ctx, cancel := context.WithTimeout(p.ctx, errandTimeout)
	defer cancel()
	survey, err := planner.Look(ctx)
	if err != nil {
		p.stats.failed(RegistryLook, err)
		p.report(zap.WarnLevel, "cannot see whether the ID is free", zap.Error(err))
		return false
	}
	return !slices.ContainsFunc(survey.Members, func(m Recorded) bool { return m.ID == p.cfg.ID })
}
