package libcluster

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// RunOption changes what [Cluster.Run], [Cluster.RunWorkers] and [Cluster.RunPrimary]
// do: [Restart] or [Returning].
type RunOption interface{ toRun(r *runner) }

// Restart makes Run run a function again that has returned an error by itself, under the
// same state and the same context, instead of ending. The wait before that is least at
// first, and doubles with each error up to most; up to half of it is taken off by chance.
// After a run that has lasted longer than most, the wait is least again. Each error is
// logged at Warn. Of the workers of [Cluster.RunWorkers] only the failed one runs again;
// the others go on.
//
// A nil still means that the work is done. Run returns an error at once if least is not
// above 0, or most is below least or above 24 h.
func Restart(least, most time.Duration) RunOption { return restartWaits{least, most} }

type restartWaits struct{ least, most time.Duration }

func (w restartWaits) toRun(r *runner) { r.restart = &w }

// check tells what is wrong with the options.
func (r *runner) check() error {
	if w := r.restart; w != nil && (w.least <= 0 || w.most < w.least || w.most > maxTTL) {
		return fmt.Errorf("libcluster: Restart(%v, %v): the first must be positive, and the second from that up to %v", w.least, w.most, maxTTL)
	}
	return r.leaving.check()
}

// do runs f, again after each error if it is to be restarted. It returns what counts.
func (w *restartWaits) do(t *turn, f task) error {
	if w == nil {
		return f(t.ctx)
	}
	for wait := w.least; ; wait = min(2*wait, w.most) {
		began := time.Now()
		err := f(t.ctx)
		if err == nil || t.ctx.Err() != nil || t.run.ctx.Err() != nil || errors.Is(err, errGoexit) {
			return err
		}
		if time.Since(began) > w.most {
			wait = w.least
		}
		pause := wait - t.inc.c.chance.Below(wait/2+1)
		t.inc.log.Warn("a function given to Run has returned an error, and will be run again",
			zap.Error(err), zap.Duration("in", pause))
		if !sleep(t.ctx, pause) {
			return nil
		}
	}
}
