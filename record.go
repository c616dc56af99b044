package libcluster

import (
	"context"
	"fmt"
	"maps"

	"github.com/libcluster/libcluster/internal/quote"
)

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
	err := publisher{inc}.publish(ctx, false)
	if refusal := c.own.refusalOf(a); refusal != nil || isPermanent(err) {
		err = refusal // of another call's, if there is none
	}
	if err != nil {
		inc.record.compare()
	}
	return err
}
