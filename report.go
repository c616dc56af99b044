package libcluster

import (
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/libcluster/libcluster/internal/quote"
)

const (
	// Trouble that goes on is logged again after firstPause, and then after twice as
	// long each time, up to mostPause. Trouble that has not come for that
	// long is new when it does.
	firstPause = 10 * time.Second
	mostPause  = 5 * time.Minute

	// mostCauses is how many kinds of trouble are told apart.
	mostCauses = 100

	// mostForeign is how many foreign keys are each reported by name.
	mostForeign = 20
)

// reporter is what a membership says of its trouble: in the log, and to a Join that fails.
type reporter struct {
	log *zap.Logger

	mu     sync.Mutex // guards what follows
	by     map[string]*report
	latest error // the latest trouble with the registry

	foreign map[string]struct{} // reported keys; used by the balancer or, with a plan, by the coordinator
}

func newReporter(log *zap.Logger) reporter {
	return reporter{log: log, by: make(map[string]*report), foreign: make(map[string]struct{})}
}

// note keeps the latest trouble with the registry.
func (r *reporter) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.latest = quote.Error(err)
}

// trouble returns that.
func (r *reporter) trouble() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.latest
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
func (r *reporter) report(level zapcore.Level, message string, fields ...zap.Field) {
	r.reportCause(message, level, message, fields...)
}

// reportError is report of an error of the application's: the same message with another error is
// another cause, as long as there are few.
func (r *reporter) reportError(level zapcore.Level, message string, err error, fields ...zap.Field) {
	cause := message + ": " + err.Error()
	r.mu.Lock()
	if r.by[cause] == nil && len(r.by) >= mostCauses {
		cause = message
	}
	r.mu.Unlock()
	r.reportCause(cause, level, message, append(fields, zap.Error(err))...)
}

func (r *reporter) reportCause(cause string, level zapcore.Level, message string, fields ...zap.Field) {
	r.mu.Lock()
	of := r.by[cause]
	if of == nil {
		of = &report{}
		r.by[cause] = of
	}
	due, unsaid := of.due(time.Now())
	r.mu.Unlock()
	if !due {
		return
	}
	if unsaid > 0 {
		fields = append(fields, zap.Int("unsaid", unsaid))
	}
	r.log.Log(level, message, fields...)
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
func (r *reporter) reportForeign(keys []foreign, speaks bool) {
	level := levelOf(zap.WarnLevel, speaks)
	for _, k := range keys {
		if _, known := r.foreign[k.key]; known {
			continue
		}
		fields := []zap.Field{zap.String("key", fmt.Sprintf("%.300q", k.key)), zap.Error(k.why)}
		if len(r.foreign) < mostForeign {
			r.foreign[k.key] = struct{}{}
			r.log.Log(level, "ignoring a key that is not a member's", fields...)
		} else {
			r.report(level, "ignoring more keys that are not members'", fields...)
		}
	}
}
