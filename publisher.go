package libcluster

import (
	"context"
	"fmt"

	"go.uber.org/zap"
)

// publisher brings the registry's record of an incarnation up to date. It compares what is
// desired with what was published, and with what the registry tells. Any goroutine may use one.
type publisher struct{ *incarnation }

// catchUp publishes what SetWorkers or SetMetadata could not publish, or what was set while
// joining. It reports false if that has to be tried again. Another call of these does not have
// to wait for long.
func (p publisher) catchUp() bool {
	ctx, cancel := context.WithTimeout(p.ctx, p.patience())
	defer cancel()
	err := p.publish(ctx, p.record.renewed.Swap(false))
	return err == nil || isFinal(err) || isPermanent(err) || p.ctx.Err() != nil
}

// publish brings the registry's record up to date with what is desired. If it is to
// compare, what the registry tells of the record counts, too, besides what it was sent
// last.
func (p publisher) publish(ctx context.Context, compare bool) error {
	if err := p.record.sending.take(ctx); err != nil {
		return err
	}
	defer p.record.sending.give()
	if p.cfg.Passive || p.fenced() != nil {
		return nil // the next incarnation joins with what is desired
	}
	for {
		m := p.registration().Member
		if p.isPublished(m) && (!compare || p.roster.agree(m)) {
			return nil
		}
		err := p.update(ctx, m)
		if !isPermanent(err) {
			return err
		}
		p.log.Error("the record is refused", zap.Int("workers", m.Workers), zap.Error(err))
		if !p.own.refused(m, p.record.member, err) {
			return err
		}
	}
}

// update sends a record.
func (p publisher) update(ctx context.Context, m Member) error {
	ctx, cancel := context.WithTimeout(ctx, errandTimeout)
	defer cancel()
	err := p.session.Update(ctx, m)
	if err != nil && !p.stopping() {
		p.stats.failed(RegistryPublish, err)
	}
	switch {
	case err == nil:
		p.record.member, p.record.unknown = m, false
	case isFinal(err):
		p.end(err)
	case isPermanent(err):
	case p.stopping():
		err = ErrLeft
	default:
		p.record.unknown = true
		p.report(zap.WarnLevel, "cannot publish the record yet", zap.Int("workers", m.Workers), zap.Error(err))
		err = fmt.Errorf("will be tried again: %w", err)
	}
	return err
}

// isPublished reports whether the registry has all of a record that matters.
func (p publisher) isPublished(m Member) bool {
	return !p.record.unknown && p.record.member.sameTo(m) && p.record.member.plans.draining == m.plans.draining &&
		p.record.member.plans.seen >= p.drain.slowFor.Load()
}
