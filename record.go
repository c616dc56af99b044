package libcluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster/internal/quote"
)

// ownRecord is what this instance wants to publish of itself. It outlives memberships.
type ownRecord struct {
	mu     sync.Mutex // guards what follows
	wanted Member     // as SetWorkers and SetMetadata have left it
	asking []*asked   // by calls that have not returned
}

// asked is what a call asks for.
type asked struct {
	wants   func(Member) bool // whether a record is as asked for
	refusal error
}

func (o *ownRecord) desired() Member {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.wanted
}

// ask changes the record. The call ends with answered.
func (o *ownRecord) ask(change func(*Member), wants func(Member) bool) *asked {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(&o.wanted)
	a := &asked{wants: wants}
	o.asking = append(o.asking, a)
	return a
}

func (o *ownRecord) answered(call *asked) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asking = slices.DeleteFunc(o.asking, func(a *asked) bool { return a == call })
}

// refusalOf returns why what was asked for has been refused, if it has. Another goroutine may
// have sent it, because it published what could not be published before.
func (o *ownRecord) refusalOf(a *asked) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return a.refusal
}

// refused takes back what the registry refuses for good, unless something else has been set
// since. Of a record that differs from the published one in two ways the count is refused
// first. It reports whether there is something left to publish.
func (o *ownRecord) refused(m, published Member, why error) (more bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	nothingElse := maps.Equal(m.Metadata, published.Metadata)
	only := published.clone() // but for what is refused
	if m.Workers != published.Workers {
		only.Workers = m.Workers
		if o.wanted.Workers == m.Workers {
			o.wanted.Workers = published.Workers
		}
	} else {
		nothingElse, only.Metadata = true, m.Metadata
		if maps.Equal(o.wanted.Metadata, m.Metadata) {
			o.wanted.Metadata = published.Metadata
		}
	}
	for _, a := range o.asking {
		if a.wants(only) && !a.wants(published) {
			a.refusal = why
		}
	}
	return !nothingElse
}

// publisher brings the registry's record of an incarnation up to date: what is desired,
// what was published, and what the registry tells of it.
type publisher struct {
	inc *incarnation
	due signal // what is published is to be compared
	// answered is set when a heartbeat has succeeded since: what the registry tells of
	// the own record is to be compared, too. Before, its answer to the latest update may
	// be under way.
	answered atomic.Bool

	sending   baton  // held around each Update; guards what follows
	published Member // the last record that the registry is known to have had
	unknown   bool   // whether it has another one by now
}

func newPublisher(inc *incarnation, published Member) *publisher {
	return &publisher{inc: inc, due: newSignal(), sending: make(baton, 1), published: published}
}

// compare has the record compared, and published if it is another one. It never blocks.
func (p *publisher) compare() { p.due.set() }

// catchUp publishes what SetWorkers or SetMetadata could not publish, or what was set while
// joining. It reports false if that has to be tried again. Another call of these does not have
// to wait for long.
func (p *publisher) catchUp() bool {
	ctx, cancel := context.WithTimeout(p.inc.ctx, p.inc.patience())
	defer cancel()
	err := p.publish(ctx, p.answered.Swap(false))
	return err == nil || isFinal(err) || isPermanent(err) || p.inc.ctx.Err() != nil
}

// publish brings the registry's record up to date with what is desired. If it is to
// compare, what the registry tells of the record counts, too, besides what it was sent
// last.
func (p *publisher) publish(ctx context.Context, compare bool) error {
	if err := p.sending.take(ctx); err != nil {
		return err
	}
	defer p.sending.give()
	inc := p.inc
	if inc.c.cfg.Passive || inc.fenced() != nil {
		return nil // the next incarnation joins with what is desired
	}
	for {
		m := inc.registration().Member
		if p.isPublished(m) && (!compare || inc.roster.agree(m)) {
			return nil
		}
		err := p.update(ctx, m)
		if !isPermanent(err) {
			return err
		}
		inc.log.Error("the record is refused", zap.Int("workers", m.Workers), zap.Error(err))
		if !inc.c.own.refused(m, p.published, err) {
			return err
		}
	}
}

// update sends a record.
func (p *publisher) update(ctx context.Context, m Member) error {
	inc := p.inc
	ctx, cancel := context.WithTimeout(ctx, errandTimeout)
	defer cancel()
	err := inc.session.Update(ctx, m)
	if err != nil && !inc.stopping() {
		inc.c.stats.failed(RegistryPublish, err)
	}
	switch {
	case err == nil:
		p.published, p.unknown = m, false
	case isFinal(err):
		inc.end(err)
	case isPermanent(err):
	case inc.stopping():
		err = ErrLeft
	default:
		p.unknown = true
		inc.report(zap.WarnLevel, "cannot publish the record yet", zap.Int("workers", m.Workers), zap.Error(err))
		err = fmt.Errorf("will be tried again: %w", err)
	}
	return err
}

// isPublished reports whether the registry has all of a record that matters.
func (p *publisher) isPublished(m Member) bool {
	return !p.unknown && p.published.sameTo(m) && p.published.plans.draining == m.plans.draining &&
		p.published.plans.seen >= p.inc.drain.slowFor.Load()
}

// SetWorkers changes how many workers this instance has, 1 to [MaxWorkers]. If the
// instance is joined, the new count is published at once, and SetWorkers returns when the
// registry has it; the state and the callback follow. If that fails, or while the
// instance is fenced, libcluster remembers the count, and publishes it as soon as the
// registry answers.
func (c *Cluster) SetWorkers(ctx context.Context, workers int) error {
	if err := checkWorkers(workers); err != nil {
		return &ConfigError{"Workers", err}
	}
	if c.cfg.Passive {
		return ErrPassive
	}
	if total := c.view.Load().totalWith(workers); total > MaxWorkers {
		return &ConfigError{"Workers", errTotal(total)}
	}
	err := c.publish(ctx, c.own.ask(
		func(m *Member) { m.Workers = workers }, func(m Member) bool { return m.Workers == workers },
	))
	if err != nil {
		return fmt.Errorf("libcluster: publish %d workers: %w", workers, quote.Error(err))
	}
	return nil
}

// SetMetadata changes what this instance publishes as its Metadata; the map is copied. It
// is published at once and remembered, as a count of [Cluster.SetWorkers] is, with the same
// errors. No instance is called back for it but by [Config.OnMembers], and nothing is moved.
// The limits are those of [Config.Metadata].
func (c *Cluster) SetMetadata(ctx context.Context, metadata map[string]string) error {
	cfg := c.cfg
	cfg.Metadata = maps.Clone(metadata)
	if err := cfg.validateRecord(); err != nil {
		return err
	}
	if c.cfg.Passive {
		return ErrPassive
	}
	defer c.refresh()
	err := c.publish(ctx, c.own.ask(
		func(m *Member) { m.Metadata = cfg.Metadata }, func(m Member) bool { return maps.Equal(m.Metadata, cfg.Metadata) },
	))
	if err != nil {
		return fmt.Errorf("libcluster: publish the metadata: %w", quote.Error(err))
	}
	return nil
}

// publish publishes what was asked for, if the instance is joined, and sees to it that it is
// tried again.
func (c *Cluster) publish(ctx context.Context, a *asked) error {
	defer c.own.answered(a)
	inc := c.current()
	if inc == nil {
		return nil // the next one joins with it
	}
	err := inc.record.publish(ctx, false)
	if refusal := c.own.refusalOf(a); refusal != nil || isPermanent(err) {
		err = refusal // of another call's, if there is none
	}
	if err != nil {
		inc.record.compare()
	}
	return err
}
