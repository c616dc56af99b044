package libcluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// coordination is a coordinator at work. One goroutine uses it.
type coordination struct {
	deciding
	of    *coordinator
	inc   *incarnation
	under handOver             // the change that is under way
	after int64                // the revision of the last survey; 0: take another survey at once
	wait  time.Duration        // how long to wait for a change
	says  string               // what the registry has the coordinator say
	since map[string]time.Time // since when each incarnation is waited for
}

// makePlans makes plans until the incarnation is over or another instance coordinates.
func (c *coordinator) makePlans() {
	inc := c.inc
	l := coordination{of: c, inc: inc, since: map[string]time.Time{}}
	l.scheme, l.incarnation, l.ttl = inc.cfg.scheme(), inc.id(), inc.cfg.TTL
	l.longest = mostWindows * inc.registration().Member.plans.window
	again := inc.newRetry()
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
		if !c.trouble(err) || !again.wait(inc.ctx) {
			return
		}
	}
}

// round takes a survey and does what follows from it. It returns false if another instance
// coordinates.
func (l *coordination) round() (bool, error) {
	survey, err := l.survey()
	if err != nil || survey.Revision == 0 {
		l.after = 0
		return true, err
	}
	l.after, l.says = survey.Revision, string(survey.Coordinator)
	l.inc.coverage.watchSurvey(survey)
	l.inc.reportForeign(survey.foreign, true)
	if known := l.inc.known.Load(); known != nil && (l.known == nil || l.known.generation < known.generation) {
		if p, err := parsePlan(known.text); err == nil {
			l.known = p
		}
	}
	d := l.decide(survey, l.inc.clock(), clockGeneration())
	l.under.meets(d, len(l.gone) > 0, time.Now())
	l.awaits(d)
	if d.next != nil {
		switch err := l.swap(survey.Planning.Revision, d); {
		case errors.Is(err, ErrNotCoordinator):
			return false, nil
		case err != nil || !d.next.committed:
			return true, err
		}
		return l.say(nil)
	}
	l.wait = l.inc.cfg.TTL / 2 // in case the watch is silent
	if again := sooner(d.again, l.held); again > 0 {
		l.wait = again
	}
	if len(d.waiting) > 0 {
		l.wait = min(l.wait, blockerAfter)
	}
	return l.say(d.waiting)
}

// survey takes a survey as soon as there is something new, or when the wait is over. It
// returns an empty survey if there is nothing new.
func (l *coordination) survey() (Survey, error) {
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

// awaits has the next survey leave out acknowledgements of which nothing follows: all but the
// last one of a plan. The first one it does not leave out, since the pauses that follow a plan
// count from there.
func (l *coordination) awaits(d decision) {
	awaited := make(map[string]bool, len(d.waiting))
	for _, w := range d.waiting {
		if _, vanished := l.gone[w.incarnation]; !vanished && d.next == nil {
			awaited[w.incarnation] = true
		}
	}
	l.inc.planner().awaits(awaited)
}

func (l *coordination) swap(revision int64, d decision) error {
	next := d.next
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
	if d.isOver() && l.mode.excludes() {
		l.inc.stats.handedOver(l.under, time.Now())
		l.under = handOver{}
	}
	l.inc.log.Debug("plan", zap.Bool("committed", next.committed), zap.Int64("generation", next.generation),
		zap.Int("total", next.total), zap.Int("members", len(next.lines)))
	l.wait = blockerAfter
	for _, p := range next.lines {
		if _, known := l.since[p.incarnation]; !next.committed && !known {
			l.since[p.incarnation] = time.Now()
		}
	}
	if next.committed {
		l.wait = sooner(l.inc.cfg.TTL/2, l.held)
		sleep(l.inc.ctx, min(commitPause*time.Duration(len(next.lines)), longestPause))
	}
	return nil
}

// say tells all members which instances they wait for, once the wait has lasted. It returns
// false if another instance coordinates.
func (l *coordination) say(waiting []planned) (bool, error) {
	since := make(map[string]time.Time, len(waiting))
	var names []string
	longest := time.Now()
	says := bytes.NewBufferString(l.of.firstLine())
	for _, w := range waiting {
		first, known := l.since[w.incarnation]
		if !known {
			first = time.Now()
		}
		since[w.incarnation] = first
		if time.Since(first) >= blockerAfter && len(names) < maxBlockers {
			fmt.Fprintf(says, "\n%d\t%s", first.UnixMilli(), w.ID)
			if l.mode == ModeCooperative {
				fmt.Fprintf(says, "\t%v", w.releases[:min(len(w.releases), maxBlockers)])
			}
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
		l.inc.report(zap.WarnLevel, "the cluster waits for an instance to stop",
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
