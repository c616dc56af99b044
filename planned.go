package libcluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

// planning is what an incarnation of a mode with a plan has besides. The member's
// part in a change: the balancer sees a plan that has everybody stop, and publishes
// a state without a place; the notifier has the application stop, and says so here;
// ping tells the registry.
type planning struct {
	// Guarded by incarnation.mu.
	own           *planned // its line in the committed plan; nil while all stop for the next one
	mayCoordinate bool     // nobody else does, as far as the registry has told
	coordinates   bool     // its coordinator runs

	coordinator sync.WaitGroup // the coordinator, started by the balancer and awaited by ping

	drain *drain
}

// planView is what readers see of a plan. It never changes.
type planView struct {
	text        []byte
	coordinator []byte
	prepare     *prepare // not nil: this incarnation is waited for
	revision    int64    // of the plan
	generation  int64
}

// knownPlan is the newest plan that an instance knows of.
type knownPlan struct {
	generation int64
	text       []byte
}

// applyPlan computes the state after a change of the plan, and publishes it.
func (s *stay) applyPlan(inc *incarnation, now *Planning) {
	if err := s.sameMode(now.Coordinator); err != nil {
		s.refuse(err)
		s.report(zap.ErrorLevel, "the cluster runs in another mode", zap.Error(err))
		return
	}
	before := s.c.view.Load()
	first := before.inc == nil || before.inc.stay != s
	v := &view{inc: inc, state: State{Index: -1, Workers: s.c.cfg.Workers}}
	if !s.c.cfg.Passive {
		v.why = ErrWaiting
		s.coordinateIf(inc, now.Coordinator)
	}
	p, own, err := findPlanned(now.Plan, s.incarnation(inc))
	if err == nil && !credible(p.generation, clockGeneration()) {
		err = fmt.Errorf("plan: generation %d is of a time a century ahead", p.generation)
	}
	foreign := err == nil && p.mode != s.c.cfg.Mode
	late := err == nil && !foreign && !s.isNewest(p.generation, now.Plan)
	switch {
	case late && before.inc == inc && before.plan.generation > 0:
		inc.end(fmt.Errorf("%w: the plan is of generation %d, and there was a newer one", ErrRegistryReset, p.generation))
		return
	case err != nil || late || foreign:
		// There is no plan yet, or the plan is a mistake, or a cluster of another mode has
		// left it, or the store has gone back behind a newer plan. A coordinator will make
		// a new plan, this instance if no other does. The range that this instance holds by
		// the last plan cannot go to another instance before this one has heard of it.
		if len(now.Plan) > 0 {
			s.report(levelOf(zap.WarnLevel, s.speaks(inc, now.Coordinator)), "ignoring a plan that is none of this cluster's",
				zap.Bool("of the past", late), zap.Bool("of another mode", foreign), zap.Error(err))
		}
		p, own = nil, nil
		if before.inc == inc {
			v = &view{inc: inc, state: before.state, why: before.why, plan: before.plan.says(now.Coordinator)}
		} else {
			v.plan = &planView{coordinator: now.Coordinator}
			if known := s.c.known.Load(); known != nil {
				v.state.Generation = known.generation
			}
		}
	default:
		v.plan = &planView{text: now.Plan, coordinator: now.Coordinator, revision: now.Revision, generation: p.generation}
		v.state.Total, v.state.Generation = p.total, p.generation
		s.place(inc, v, p, own)
	}
	if v.why != nil {
		s.note(s.whyWaiting(v, p, own))
	}
	s.c.view.Store(v.after(before))
	if p != nil && p.committed && (before.inc != inc || before.plan.revision != v.plan.revision) {
		s.logMembers(v)
	}
	s.logBlockers(before.blockers(), v.blockers(), s.speaks(inc, now.Coordinator))
	if first || before.inc != inc || v.plan.prepare != nil || !v.state.sameTo(before.state) {
		s.wake()
	}
}

// whyWaiting returns the error for a Join that ends while it waits. It also ends a Join
// that cannot succeed.
func (s *stay) whyWaiting(v *view, p *plan, own *planned) error {
	if p != nil && p.committed && own == nil {
		if err := s.noRoom(v, p); err != nil {
			s.refuse(err)
			return err
		}
	}
	if blockers := v.blockers(); len(blockers) > 0 {
		return fmt.Errorf("%w; the others wait for %s to stop", ErrWaiting, idsOf(blockers))
	}
	if _, wait, held := bytes.Cut(v.plan.coordinator, []byte("\n"+newcomersWait+"\t")); held {
		wait, _, _ = bytes.Cut(wait, []byte("\n"))
		return fmt.Errorf("%w; newcomers have to wait for %.20q, since others have come and soon vanished", ErrWaiting, wait)
	}
	return ErrWaiting
}

// noRoom tells why no coordinator like the present one gives this instance a place.
func (s *stay) noRoom(v *view, p *plan) error {
	m := s.registration().Member
	if p.total > MaxWorkers-m.Workers {
		return errTotal(int64(p.total) + int64(m.Workers))
	}
	if len(v.plan.text) > maxPlan/4 {
		size := roomFor(s.incarnation(v.inc), m)
		if all, err := parsePlan(v.plan.text); err == nil {
			for _, l := range all.places {
				size += roomFor(l.incarnation, l.Member)
			}
		}
		if size > maxPlan {
			return fmt.Errorf("libcluster: the cluster's plan would have up to %d bytes, more than %d: "+
				"too many instances, or too long IDs and addresses", size, maxPlan)
		}
	}
	_, coordinator, _ := strings.Cut(firstLine(v.plan.coordinator), "\t")
	_, its, err := findPlanned(v.plan.text, coordinator)
	if err == nil && its != nil && m.plans.window > mostWindows*its.window {
		return fmt.Errorf("libcluster: TTL %v is more than %d times that of %q, which coordinates: the others would have to wait as long for this instance",
			s.c.cfg.TTL, mostWindows, its.ID)
	}
	return nil
}

// place fills in the place that a plan gives.
func (s *stay) place(inc *incarnation, v *view, p *plan, own *planned) {
	switch {
	case s.c.cfg.Passive:
	case own == nil:
	case !p.committed:
		v.state.Workers = own.Workers
		if own.Index >= 0 {
			v.state.Total -= own.Workers
		}
		v.plan.prepare = &prepare{v.plan.revision, p.generation}
		inc.drain.begin(*v.plan.prepare, window(s.c.cfg.TTL)/slowDrainPart, s.c.cfg.DrainTimeout)
	default:
		v.state.Index, v.state.Workers, v.why = own.Index, own.Workers, nil
	}
	if p.committed {
		inc.drain.end()
	} else {
		own = nil
	}
	inc.mu.Lock()
	inc.own = own
	inc.mu.Unlock()
}

// sameMode returns an error if the coordinator has another mode.
func (s *stay) sameMode(coordinator []byte) error {
	if coordinator == nil {
		return nil
	}
	name, _, _ := strings.Cut(firstLine(coordinator), "\t")
	var mode Mode
	if err := mode.UnmarshalText([]byte(name)); err != nil || mode == s.c.cfg.Mode {
		return nil // no coordinator has written this, so it says nothing
	}
	return &ModeError{s.c.cfg.Mode, mode}
}

// isNewest notes a plan, and reports whether it is no older than the plans before.
func (s *stay) isNewest(generation int64, text []byte) bool {
	for {
		known := s.c.known.Load()
		if known != nil && generation < known.generation {
			return false
		}
		if s.c.known.CompareAndSwap(known, &knownPlan{generation, text}) {
			return true
		}
	}
}

// incarnation is what surveys know an incarnation by; nothing, if it is passive.
func (s *stay) incarnation(inc *incarnation) string {
	if s.c.cfg.Passive {
		return ""
	}
	return inc.planner().Incarnation()
}

// planner returns the session as one that can plan, which attempt has seen to.
func (inc *incarnation) planner() Planner { return inc.session.(Planner) }

// says returns the same plan after the coordinator has said something else.
func (p *planView) says(coordinator []byte) *planView {
	if p == nil {
		return &planView{coordinator: coordinator}
	}
	now := *p
	now.coordinator = coordinator
	return &now
}

// places returns the members with their ranges, by index.
func (p *planView) places() []Place {
	all, err := parsePlan(p.text)
	if err != nil {
		return nil
	}
	var places []Place
	for _, l := range all.places {
		if l.Index >= 0 {
			places = append(places, l.Place)
		}
	}
	return places
}

// blockers returns the instances that the coordinator says it waits for. After its first
// line there is one line for each, with the time and the ID.
func (v *view) blockers() (all []Blocker) {
	if v.plan == nil || v.inc.over() != nil {
		return nil
	}
	return parseBlockers(v.plan.coordinator)
}

// logBlockers says how a wait begins and ends. The coordinator warns meanwhile that it
// lasts.
func (s *stay) logBlockers(before, now []Blocker, speaks bool) {
	switch {
	case len(now) > 0 && !slices.Equal(before, now):
		s.log.Debug("the cluster has to wait", zap.String("for", idsOf(now)))
	case len(before) > 0 && len(now) == 0:
		s.log.Log(levelOf(zap.InfoLevel, speaks), "the cluster waits no longer for an instance", zap.String("for", idsOf(before)))
	}
}

// speaks reports whether this instance is the one to warn of what concerns the cluster:
// the coordinator, or each if there is none.
func (s *stay) speaks(inc *incarnation, coordinator []byte) bool {
	_, who, _ := strings.Cut(firstLine(coordinator), "\t")
	return !s.c.cfg.Passive && (coordinator == nil || who == s.incarnation(inc))
}

// acknowledge notes in the registry that the application has stopped. It reports false if
// that has to be tried again.
func (s *stay) acknowledge(inc *incarnation) bool {
	p := inc.drain.stopped.Load()
	if v := s.c.view.Load(); v.inc != inc || v.plan == nil || v.plan.prepare == nil || *v.plan.prepare != *p {
		return true // the plan has changed meanwhile
	}
	ctx, cancel := context.WithTimeout(inc.ctx, inc.patience())
	defer cancel()
	err := inc.planner().Drained(ctx, p.revision, p.generation)
	switch {
	case err == nil, errors.Is(err, ErrPlanChanged), inc.ctx.Err() != nil:
		return true
	case isFinal(err):
		inc.end(err)
		return true
	}
	s.note(err)
	s.report(zap.WarnLevel, "cannot say yet that the application has stopped, will keep trying", zap.Error(err))
	return false
}

// stuckFlush is how long OnStuck waits for the line that says why it is called.
const stuckFlush = 100 * time.Millisecond

// slowDrainPart: an instance that has not stopped after a twelfth of its window writes into
// its record that it has heard of the plan, or the coordinator may take it for dead.
const slowDrainPart = 12

// stuck lets the record go, since the application does not stop for a plan, so
// that the plan does not wait for ever.
func (s *stay) stuck(inc *incarnation, p prepare) {
	if inc.ctx.Err() != nil {
		return
	}
	inc.end(ErrStuck)
	s.log.Error("the application has not stopped in time; letting the record go",
		zap.Duration("after", s.c.cfg.DrainTimeout), zap.Int64("generation", p.generation))
	if s.c.cfg.OnStuck != nil {
		s.c.flushLog(context.Background(), stuckFlush) // it may end the process
		s.c.cfg.OnStuck()
	}
}

// awaitStopped waits until the application holds no place, in a mode in which no
// incarnation begins before the one before has ended. It reports false if the stay
// has ended.
func (s *stay) awaitStopped() bool {
	for s.c.cfg.Mode == ModeExclusive && s.notifier.acting.Load() {
		select {
		case <-s.notifier.rested:
		case <-s.ctx.Done():
			return false
		}
	}
	return true
}

// closePlan is called when the application has stopped for good, before the record is
// removed. The last instance to leave writes an empty plan. Acknowledgements expire with
// their leases: without an empty plan, the next instance to join would wait for all that
// have left as if they had vanished. Several instances may leave at once, so each first
// acknowledges that it has stopped, and then looks whether it is the last. If closePlan
// fails, that costs only such a wait.
func (s *stay) closePlan(ctx context.Context, p Planner) {
	v := s.c.view.Load()
	if v.plan == nil {
		return
	}
	revision := v.plan.revision
	var survey Survey
	for tries := 0; ; tries++ {
		err := p.Drained(ctx, revision, DrainedForGood)
		if err != nil && !errors.Is(err, ErrPlanChanged) || tries > 2 {
			return
		}
		var trouble error
		if survey, trouble = p.Survey(ctx, 0); trouble != nil {
			return
		}
		if err == nil {
			break
		}
		revision = survey.Planning.Revision
	}
	known := s.c.known.Load()
	stopped := func(incarnation string) bool { return survey.Drained[incarnation] == DrainedForGood }
	last, err := parsePlan(survey.Plan)
	if err != nil || !credible(last.generation, clockGeneration()) || last.mode != s.c.cfg.Mode || known != nil && last.generation < known.generation ||
		slices.ContainsFunc(last.places, func(l planned) bool { return !stopped(l.incarnation) }) ||
		slices.ContainsFunc(survey.Members, func(m Recorded) bool { return m.kept || !stopped(m.Incarnation) }) {
		return
	}
	nobody := plan{mode: s.c.cfg.Mode, committed: true, generation: last.generation + 1}
	err = s.claimForLast(ctx, p, survey.Revision)
	if err == nil {
		err = p.Swap(ctx, survey.Planning.Revision, nobody.encode())
	}
	if err != nil {
		s.log.Debug("could not leave an empty plan", zap.Error(err))
	}
}

// claimForLast makes the last instance to leave the coordinator, since only the coordinator
// may swap. If the coordinator leaves at the same time, it has the claim for a moment yet.
func (s *stay) claimForLast(ctx context.Context, p Planner, after int64) error {
	ctx, cancel := context.WithTimeout(ctx, holdingUp)
	defer cancel()
	for {
		claimed, err := p.Claim(ctx, []byte(s.c.cfg.Mode.String()+"\t"+p.Incarnation()))
		if claimed || err != nil {
			return err
		}
		survey, err := p.Survey(ctx, after)
		if err != nil {
			return err
		}
		after = survey.Revision
	}
}
