package libcluster

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/libcluster/libcluster/internal/quote"
)

const (
	// repeatCoverage is the pause before the same trouble is logged again.
	repeatCoverage = time.Minute

	// coveragePause is the least time between two looks of a coordinator, which takes a
	// survey at each change.
	coveragePause = 100 * time.Millisecond
)

// Coverage reads from the registry whether every worker index is held exactly once
// right now, by which instance, and what is wrong if not. Any instance that has joined
// can call it, also a passive or a fenced instance. It takes one read, and no longer than
// some seconds.
//
// The answer is what the registry knows: an instance that has crashed, or was cut off,
// counts until its record expires. In mode [ModeDirect] assignments follow from the
// records. So they have neither gaps nor overlaps, except for the moment that a change
// takes to reach all instances; what can go wrong is that a record belongs to no instance.
//
// In a static cluster, and if the registry keeps no plans, the error is [ErrCannotLook].
func (c *Cluster) Coverage(ctx context.Context) (Coverage, error) {
	ctx, cancel := context.WithTimeout(ctx, errandTimeout)
	defer cancel()
	inc := c.current()
	if inc == nil {
		return Coverage{}, ErrLeft
	}
	for {
		planner, ok := inc.session.(Planner)
		if !ok {
			return Coverage{}, ErrCannotLook
		}
		survey, err := planner.Look(ctx)
		if err == nil {
			found := cover(c.cfg.scheme(), survey)
			found.Since = c.covered.saw(c, found.Covered)
			return found, nil
		}
		next := inc.pinger.current.Load()
		if next == inc {
			c.stats.failed(RegistryLook, err)
			return Coverage{}, fmt.Errorf("libcluster: cannot see which instance holds which index: %w", quote.Error(err))
		}
		inc = next // the session was closed because there is another one
	}
}

// coverageSeen is what an instance remembers of the last look at the coverage.
type coverageSeen struct {
	mu         sync.Mutex // guards what follows
	at         time.Time  // when it was; zero: never
	covered    bool
	since      time.Time
	generation int64 // of the state then
}

// saw notes an answer, and returns since when it has been the same.
//
// Within one generation coverage can only be lost, never regained: every change makes a
// new generation, except in a mode with a plan a vanished incarnation, which never
// returns. So two looks at the same generation that agree also agree about the time
// between them.
func (seen *coverageSeen) saw(c *Cluster, covered bool) time.Time {
	v, now := c.view.Load(), time.Now()
	seen.mu.Lock()
	defer seen.mu.Unlock()
	watched := now.Sub(seen.at) <= c.cfg.TTL
	switch {
	case !seen.at.IsZero() && seen.covered == covered && (!covered || watched || seen.generation == v.state.Generation):
	case covered && !v.since.IsZero() && (seen.at.IsZero() || seen.covered):
		seen.since = v.since
	default:
		seen.since = now
	}
	seen.at, seen.covered, seen.generation = now, covered, v.state.Generation
	return seen.since
}

// latest returns what the last look has found.
func (seen *coverageSeen) latest() LastLook {
	seen.mu.Lock()
	defer seen.mu.Unlock()
	return LastLook{At: seen.at, Covered: seen.covered, Since: seen.since}
}

// coverageLog logs trouble that lasts. One goroutine at a time uses it: the coordinator, or
// in direct mode ping.
type coverageLog struct {
	c   *Cluster
	log *zap.Logger
	coverageTrouble
}

// coverageTrouble is how long trouble has lasted, as far as this instance has looked.
type coverageTrouble struct{ looked, since, logged time.Time }

// watchRecords looks, after a heartbeat in direct mode, at what this instance knows of the
// members. The first member that is there does the logging. That may not be the primary,
// whose record may be orphaned or reserved.
func (l *coverageLog) watchRecords(inc *incarnation) {
	if l.c.cfg.Mode != ModeDirect || l.c.view.Load().inc != inc {
		return
	}
	r := inc.roster
	r.mu.Lock()
	first, whole := r.latest.firstThere()
	found := Coverage{Covered: true}
	if !whole && first == l.c.cfg.ID {
		found = cover(scheme{mode: ModeDirect}, Survey{Members: r.latest.recorded()})
	}
	r.mu.Unlock()
	if first != l.c.cfg.ID || l.c.cfg.Passive {
		l.c.covered.saw(l.c, whole)
		return
	}
	l.watchCoverage(found)
}

// watchSurvey looks at the coordinator's survey.
func (l *coverageLog) watchSurvey(survey Survey) {
	if time.Since(l.looked) >= coveragePause {
		l.watchCoverage(cover(l.c.cfg.scheme(), survey))
	}
}

// watchCoverage logs trouble that lasts.
func (l *coverageLog) watchCoverage(found Coverage) {
	l.c.covered.saw(l.c, found.Covered)
	w, now, after := &l.coverageTrouble, time.Now(), l.c.cfg.CoverageTimeout
	// That an instance drains is wanted.
	found.Problems = slices.DeleteFunc(found.Problems, func(p CoverageProblem) bool { return p.Kind == ProblemDraining })
	if now.Sub(w.looked) > l.c.cfg.TTL {
		*w = coverageTrouble{} // another instance has watched meanwhile, or none could
	}
	w.looked = now
	switch {
	case len(found.Problems) == 0:
		if !w.logged.IsZero() {
			l.log.Info("every worker index is held by one instance again", zap.Duration("after", now.Sub(w.since)))
		}
		w.since, w.logged = time.Time{}, time.Time{}
		return
	case w.since.IsZero():
		w.since = now
	}
	if after < 0 || now.Sub(w.since) < after || now.Sub(w.logged) < repeatCoverage {
		return
	}
	w.logged = now
	level, message := zapcore.ErrorLevel, "not every worker index is held by exactly one instance"
	if found.Covered {
		level, message = zapcore.WarnLevel, "every worker index is held by one instance, but not all is well"
	}
	fields := []zap.Field{
		zap.Duration("for", now.Sub(w.since)), zap.Int("total", found.Total), zap.String("problems", some(found.Problems)),
	}
	if len(found.Blockers) > 0 {
		fields = append(fields, zap.String("waiting for", idsOf(found.Blockers)))
	}
	l.log.Log(level, message, fields...)
}
