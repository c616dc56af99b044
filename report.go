package libcluster

import (
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// Trouble that goes on is logged again after firstPause, and then after twice as
	// long each time, up to mostPause. Trouble that has not come for that
	// long is new when it does.
	firstPause = 10 * time.Second
	mostPause  = 5 * time.Minute

	// mostForeign is how many foreign keys are each reported by name.
	mostForeign = 20
)

// reports is what a stay has logged, by cause.
type reports struct {
	mu sync.Mutex // guards what follows
	by map[string]*report

	foreign map[string]struct{} // reported keys; used by the balancer or, with a plan, by the coordinator
}

// report is when one cause was logged last.
type report struct {
	logged, seen time.Time
	pause        time.Duration // until it is logged again
	unsaid       int
}

// due tells whether to log the cause now, and how often it has come since it was logged.
func (r *report) due(now time.Time) (due bool, unsaid int) {
	switch {
	case now.Sub(r.seen) >= mostPause:
		r.pause = firstPause
	case now.Sub(r.logged) < r.pause:
		r.seen = now
		r.unsaid++
		return false, 0
	default:
		r.pause = min(2*r.pause, mostPause)
	}
	unsaid, r.unsaid = r.unsaid, 0
	r.logged, r.seen = now, now
	return true, unsaid
}

// report logs trouble at once, and now and again while it lasts, with the number of times
// that it was not logged in between. The message identifies the cause.
func (s *stay) report(level zapcore.Level, message string, fields ...zap.Field) {
	s.reports.mu.Lock()
	r := s.reports.by[message]
	if r == nil {
		r = &report{}
		s.reports.by[message] = r
	}
	due, unsaid := r.due(time.Now())
	s.reports.mu.Unlock()
	if !due {
		return
	}
	if unsaid > 0 {
		fields = append(fields, zap.Int("unsaid", unsaid))
	}
	s.log.Log(level, message, fields...)
}

// levelOf is level for the one instance that speaks for the cluster, and Debug for others.
func levelOf(level zapcore.Level, speaks bool) zapcore.Level {
	if speaks {
		return level
	}
	return zap.DebugLevel
}

// foreign is a key below the cluster's that is neither a member's nor the library's own.
type foreign struct {
	key string
	why error
}

// reportForeign names the first foreign keys, each once, and then says now and again that
// there are more. Only the instance that speaks for the cluster logs above Debug.
func (s *stay) reportForeign(keys []foreign, speaks bool) {
	level := levelOf(zap.WarnLevel, speaks)
	for _, k := range keys {
		if _, known := s.reports.foreign[k.key]; known {
			continue
		}
		fields := []zap.Field{zap.String("key", fmt.Sprintf("%.300q", k.key)), zap.Error(k.why)}
		if len(s.reports.foreign) < mostForeign {
			s.reports.foreign[k.key] = struct{}{}
			s.log.Log(level, "ignoring a key that is not a member's", fields...)
		} else {
			s.report(level, "ignoring more keys that are not members'", fields...)
		}
	}
}
