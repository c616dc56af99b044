package libcluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
)

const (
	// An instance that steps in for a lost coordinator first leaves rankPause to each
	// member before it in the plan, so that not all try at once.
	rankPause    = 2 * time.Millisecond
	longestPause = 200 * time.Millisecond

	// After a plan is committed, the next plan waits a little for each member that has to
	// learn of it. Instances that join meanwhile are all in the next plan.
	commitPause = 100 * time.Microsecond
)

// coordinateIf has this incarnation try to coordinate if no instance coordinates. So too
// if this incarnation is the coordinator and does not know it, because an answer was lost
// or a request was late. The balancer calls it.
func (s *stay) coordinateIf(inc *incarnation, says []byte) {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	_, who, _ := strings.Cut(firstLine(says), "\t")
	inc.mayCoordinate = says == nil || who == inc.planner().Incarnation()
	if inc.mayCoordinate && !inc.coordinates {
		inc.coordinates = true
		inc.coordinator.Go(func() { s.coordinate(inc) })
	}
}

// says is the first line of what a coordinator says: its mode and its incarnation.
func (s *stay) says(inc *incarnation) string {
	return s.c.cfg.Mode.String() + "\t" + inc.planner().Incarnation()
}

func firstLine(says []byte) string {
	line, _, _ := bytes.Cut(says, []byte("\n"))
	return string(line)
}

// coordinate is the coordinator's goroutine. It ends with the incarnation, or when
// another instance coordinates.
func (s *stay) coordinate(inc *incarnation) {
	sleep(inc.ctx, s.rank(inc))
	again := s.c.newRetry()
	for inc.goesOnCoordinating() {
		if s.claim(inc) {
			s.lead(inc)
		}
		if !inc.goesOnCoordinating() {
			return
		}
		again.wait(inc.ctx)
	}
}

// goesOnCoordinating reports whether the coordinator goes on. If not, it must end at once,
// since from then on the balancer may start another coordinator.
func (inc *incarnation) goesOnCoordinating() bool {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	inc.coordinates = inc.mayCoordinate && inc.ctx.Err() == nil
	return inc.coordinates
}

// rank is how long this instance waits so that members before it in the plan can
// coordinate.
func (s *stay) rank(inc *incarnation) time.Duration {
	v := s.c.view.Load()
	if v.plan == nil || v.inc != inc {
		return s.c.chance.Below(rankPause)
	}
	before := 0
	for _, p := range v.plan.places() {
		if p.ID == s.c.cfg.ID {
			break
		}
		before++
	}
	return min(time.Duration(before)*rankPause+s.c.chance.Below(rankPause), longestPause)
}

// claim makes this incarnation the coordinator, if it can.
func (s *stay) claim(inc *incarnation) bool {
	ctx, cancel := context.WithTimeout(inc.ctx, errandTimeout)
	defer cancel()
	claimed, err := inc.planner().Claim(ctx, []byte(s.says(inc)))
	if err != nil {
		s.coordinatorTrouble(inc, err)
	}
	if !claimed {
		return false
	}
	survey, err := inc.planner().Survey(ctx, 0)
	if err != nil {
		s.coordinatorTrouble(inc, err)
		return false // not known yet: whether this incarnation may coordinate
	}
	s.watchSurvey(survey)
	s.reportForeign(survey.foreign, true)
	if err := fits(s.c.cfg.Mode, inc.planner().Incarnation(), !isClosed(s.ready), survey); err != nil {
		// The record has gone, or others were there first and have lost their
		// coordinator just now. With our record goes our claim.
		if errors.As(err, new(*ModeError)) {
			s.refuse(err)
		}
		inc.end(err)
		return false
	}
	s.log.Debug("coordinates the cluster")
	return true
}

// coordinatorTrouble logs err, ends the incarnation if err is final, and reports whether
// to retry.
func (s *stay) coordinatorTrouble(inc *incarnation, err error) bool {
	switch {
	case inc.ctx.Err() != nil:
		return false
	case isFinal(err):
		inc.end(err)
		return false
	}
	s.note(err)
	s.report(zap.WarnLevel, "cannot coordinate the cluster yet, will keep trying", zap.Error(err))
	return true
}

// fits returns an error if an incarnation of this mode may not coordinate: if its record is
// not there, or if an older member has another mode. While the instance joins, any member
// counts as older, because a record that the instance took over looks older than it is.
func fits(mode Mode, incarnation string, joining bool, survey Survey) error {
	members := survey.sorted()
	i := slices.IndexFunc(members, func(m Recorded) bool { return m.Incarnation == incarnation })
	if i < 0 {
		return fmt.Errorf("%w: it was not there when this instance was to coordinate", ErrRecordGone)
	}
	for _, m := range members {
		there := m.Incarnation != "" && !m.kept
		if there && m.plans.mode != mode && (joining || m.Since < members[i].Since) {
			return &ModeError{mode, m.plans.mode}
		}
	}
	return nil
}

// lead makes plans until the incarnation is over or another instance coordinates.
func (s *stay) lead(inc *incarnation) {
	l := leader{s: s, inc: inc, since: map[string]time.Time{}}
	l.mode, l.incarnation, l.ttl = s.c.cfg.Mode, inc.planner().Incarnation(), s.c.cfg.TTL
	l.longest = mostWindows * s.registration().Member.plans.window
	again := s.c.newRetry()
	for inc.ctx.Err() == nil {
		ok, err := l.round()
		switch {
		case err == nil && !ok:
			return
		case err == nil:
			again.reset()
			continue
		}
		l.after = 0
		if !s.coordinatorTrouble(inc, err) || !again.wait(inc.ctx) {
			return
		}
	}
}

// leader is a coordinator at work. One goroutine uses it.
type leader struct {
	deciding
	s     *stay
	inc   *incarnation
	after int64                // the revision of the last survey; 0: take another survey at once
	wait  time.Duration        // how long to wait for a change
	says  string               // what the registry has the coordinator say
	since map[string]time.Time // since when each incarnation is waited for
}

// round takes a survey and does what follows from it. It returns false if another instance
// coordinates.
func (l *leader) round() (bool, error) {
	survey, err := l.survey()
	if err != nil || survey.Revision == 0 {
		l.after = 0
		return true, err
	}
	l.after, l.says = survey.Revision, string(survey.Coordinator)
	l.s.watchSurvey(survey)
	l.s.reportForeign(survey.foreign, true)
	if known := l.s.c.known.Load(); known != nil && (l.known == nil || l.known.generation < known.generation) {
		if p, err := parsePlan(known.text); err == nil {
			l.known = p
		}
	}
	d := l.decide(survey, l.s.c.clock(), clockGeneration())
	if d.next != nil {
		switch err := l.swap(survey.Planning.Revision, d.next); {
		case errors.Is(err, ErrNotCoordinator):
			return false, nil
		case err != nil || !d.next.committed:
			return true, err
		}
		return l.say(nil)
	}
	l.wait = l.s.c.cfg.TTL / 2 // in case the watch is silent
	if again := sooner(d.again, l.held); again > 0 {
		l.wait = again
	}
	if len(d.waiting) > 0 {
		l.wait = min(l.wait, holdingUp)
	}
	return l.say(d.waiting)
}

// survey takes a survey as soon as there is something new, or when the wait is over. It
// returns an empty survey if there is nothing new.
func (l *leader) survey() (Survey, error) {
	limit := errandTimeout
	if l.after > 0 {
		limit = l.wait
	}
	ctx, cancel := context.WithTimeout(l.inc.ctx, limit)
	defer cancel()
	survey, err := l.inc.planner().Survey(ctx, l.after)
	if l.after > 0 && ctx.Err() != nil && l.inc.ctx.Err() == nil {
		return Survey{}, nil
	}
	return survey, err
}

func (l *leader) swap(revision int64, next *plan) error {
	ctx, cancel := context.WithTimeout(l.inc.ctx, errandTimeout)
	defer cancel()
	text := next.encode()
	if _, err := parsePlan(text); err != nil {
		return fmt.Errorf("a plan that no member could read: %w", err) // or the next round would make it anew, at once
	}
	err := l.inc.planner().Swap(ctx, revision, text)
	if errors.Is(err, ErrPlanChanged) {
		l.after = 0
		return nil
	}
	if err != nil {
		return err
	}
	l.known = next
	l.s.log.Debug("plan", zap.Bool("committed", next.committed), zap.Int64("generation", next.generation),
		zap.Int("total", next.total), zap.Int("members", len(next.places)))
	l.wait = holdingUp
	for _, p := range next.places {
		if _, known := l.since[p.incarnation]; !next.committed && !known {
			l.since[p.incarnation] = time.Now()
		}
	}
	if next.committed {
		l.wait = sooner(l.s.c.cfg.TTL/2, l.held)
		sleep(l.inc.ctx, min(commitPause*time.Duration(len(next.places)), longestPause))
	}
	return nil
}

// newcomersWait begins the line in which the coordinator says how long newcomers wait. The
// other lines begin with a time.
const newcomersWait = "newcomers"

// say tells all members which instances they wait for, once the wait has lasted. It returns
// false if another instance coordinates.
func (l *leader) say(waiting []planned) (bool, error) {
	since := make(map[string]time.Time, len(waiting))
	var names []string
	longest := time.Now()
	says := bytes.NewBufferString(l.s.says(l.inc))
	for _, w := range waiting {
		first, known := l.since[w.incarnation]
		if !known {
			first = time.Now()
		}
		since[w.incarnation] = first
		if time.Since(first) >= holdingUp && len(names) < maxBlockers {
			fmt.Fprintf(says, "\n%d\t%s", first.UnixMilli(), w.ID)
			names = append(names, w.ID)
		}
		if first.Before(longest) {
			longest = first
		}
	}
	l.since = since
	if l.held > 0 {
		fmt.Fprintf(says, "\n%s\t%v", newcomersWait, l.hold())
	}
	if len(names) > 0 {
		l.s.report(zap.WarnLevel, "the cluster waits for an instance to stop",
			zap.String("for", some(names)), zap.Time("since", longest))
	}
	if says.String() == l.says {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(l.inc.ctx, errandTimeout)
	defer cancel()
	claimed, err := l.inc.planner().Claim(ctx, says.Bytes())
	l.says = "" // the next survey tells
	return claimed || err != nil, err
}
