package libcluster

import (
	"slices"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// repeatCoverage is the pause before the same trouble is logged again.
	repeatCoverage = time.Minute

	// coveragePause is the least time between two looks of a coordinator, which takes a
	// survey at each change.
	coveragePause = 100 * time.Millisecond
)

// coverageLog logs trouble that lasts. One goroutine at a time uses it: the coordinator, or
// in direct mode ping.
type coverageLog struct {
	*instance
	log *zap.Logger
	coverageTrouble
}

// coverageTrouble is how long trouble has lasted, as far as this instance has looked.
type coverageTrouble struct{ looked, since, logged time.Time }

// watchRecords looks, after a heartbeat in direct mode, at what this instance knows of the
// members. The first member that is there does the logging. That may not be the primary,
// whose record may be orphaned or reserved. The roster is that of the incarnation that
// readers see.
func (l *coverageLog) watchRecords(r *roster) {
	if l.cfg.Mode != ModeDirect {
		return
	}
	r.mu.Lock()
	first, whole := r.latest.firstThere()
	found := Coverage{Covered: true}
	if !whole && first == l.cfg.ID {
		found = cover(scheme{mode: ModeDirect}, Survey{Members: r.latest.recorded()})
	}
	r.mu.Unlock()
	if first != l.cfg.ID || l.cfg.Passive {
		l.saw(whole)
		return
	}
	l.watchCoverage(found)
}

// watchSurvey looks at the coordinator's survey.
func (l *coverageLog) watchSurvey(survey Survey) {
	if time.Since(l.looked) >= coveragePause {
		l.watchCoverage(cover(l.cfg.scheme(), survey))
	}
}

// watchCoverage logs trouble that lasts.
func (l *coverageLog) watchCoverage(found Coverage) {
	l.saw(found.Covered)
	w, now, after := &l.coverageTrouble, time.Now(), l.cfg.CoverageTimeout
	// That an instance drains is wanted.
	found.Problems = slices.DeleteFunc(found.Problems, func(p CoverageProblem) bool { return p.Kind == ProblemDraining })
	if now.Sub(w.looked) > l.cfg.TTL {
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
