package libcluster

import (
	"context"
	"errors"

	"go.uber.org/zap"
)

// acknowledge notes in the registry that the application has stopped. It reports false if
// that has to be tried again.
func (inc *incarnation) acknowledge() bool {
	p := inc.drain.stopped.Load()
	if v := inc.view.Load(); v.inc != inc || v.plan == nil || v.plan.prepare == nil || *v.plan.prepare != p.prepare {
		return true // the plan has changed meanwhile
	}
	ctx, cancel := context.WithTimeout(inc.ctx, inc.patience())
	defer cancel()
	err := inc.planner().Acknowledge(ctx, p.revision, p.generation, p.remaining)
	switch {
	case err == nil, errors.Is(err, ErrPlanChanged), inc.ctx.Err() != nil:
		return true
	case isFinal(err):
		inc.end(err)
		return true
	}
	inc.note(err)
	inc.stats.failed(RegistryAcknowledge, err)
	inc.report(zap.WarnLevel, "cannot say yet that the application has stopped, will keep trying", zap.Error(err))
	return false
}
