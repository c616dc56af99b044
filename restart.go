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

// Restart has a function that returns an error by itself run again, under the same
// state and the same context, in place of ending Run: after the wait least at first,
// doubled with each error up to most, and less up to a half of that by chance. A run
// that has lasted for longer than most begins again with least. Each error is logged at
// Warn. A worker of [Cluster.RunWorkers] is run again alone; the others go on.
//
// A nil still says that the work is done. Run returns an error at once if least is not
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
		pause := wait - t.inc.stay.c.chance.Below(wait/2+1)
		t.inc.stay.log.Warn("a function given to Run has returned an error, and will be run again",
			zap.Error(err), zap.Duration("in", pause))
		if !sleep(t.ctx, pause) {
			return nil
		}
	}
}
