package libcluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// RunOption changes what [Cluster.Run], [Cluster.RunWorkers], [Cluster.RunPrimary] and
// [Cluster.RunPartitions] do: [Restart], [WithPrimary] or [Returning].
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
	if r.also != nil && (r.primary || r.also.also != nil) {
		return errors.New("libcluster: WithPrimary: give it once, to Run, RunWorkers or RunPartitions")
	}
	for _, one := range r.all() {
		if one.tasks == nil && (one.partitions == nil || one.partitions.f == nil) {
			return errors.New("libcluster: a function given to Run, RunWorkers, RunPrimary, RunPartitions or WithPrimary is nil")
		}
	}
	return r.leaving.check()
}

// WithPrimary has [Cluster.Run], [Cluster.RunWorkers] or [Cluster.RunPartitions] run f
// besides, on one instance of the cluster: while this one is the primary, as
// [Cluster.RunPrimary] runs it. What is said there of modes counts here. An error that f
// returns by itself ends Run, unless [Restart] says otherwise. After a nil that f returns
// by itself the others go on, and f runs again when this instance next becomes the primary.
func WithPrimary(f func(ctx context.Context, s State) error) RunOption { return withPrimary(f) }

type withPrimary func(context.Context, State) error

func (f withPrimary) toRun(r *runner) {
	r.also = &runner{primary: true, tasks: alone(f), also: r.also}
}

// do runs f, again after each error if it is to be restarted. It returns what counts.
func (w *restartWaits) do(t *turn, f task) error {
	if w == nil {
		return f(t.ctx)
	}
	for wait := w.least; ; wait = min(2*wait, w.most) {
		began := time.Now()
		err := f(t.ctx)
		if err == nil || t.ctx.Err() != nil || t.run.of.ctx.Err() != nil || errors.Is(err, errGoexit) {
			return err
		}
		if time.Since(began) > w.most {
			wait = w.least
		}
		pause := wait - t.inc.chance.Below(wait/2+1)
		t.inc.reportError(zap.WarnLevel, "a function given to Run has returned an error, and will be run again",
			err, zap.Duration("in", pause))
		if !sleep(t.ctx, pause) {
			return nil
		}
	}
}
