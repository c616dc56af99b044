package main

import (
	"context"
	"time"

	"github.com/libcluster/libcluster"
)

// pollEvery is how often each account is polled.
const pollEvery = time.Second

// poller is one instance. It polls the accounts that are its own.
type poller struct {
	id    string
	tally *tally
}

// run polls until ctx ends.
func (p *poller) run(ctx context.Context, mode libcluster.Mode, registry libcluster.Registry) error {
	cluster, err := libcluster.New(libcluster.Config{Key: "poller", ID: p.id, Mode: mode, Registry: registry})
	if err != nil {
		return err
	}
	if mode == libcluster.ModeCooperative {
		return cluster.RunPartitions(ctx, func(ctx context.Context, part libcluster.Partition) error {
			return p.poll(ctx, part.Owns)
		})
	}
	return cluster.Run(ctx, func(ctx context.Context, state libcluster.State) error {
		return p.poll(ctx, state.Owns)
	})
}

// poll polls the accounts that it owns until ctx ends. When it has returned, others may poll
// them.
func (p *poller) poll(ctx context.Context, owns func(account string) bool) error {
	var own []string
	for _, account := range p.tally.accounts {
		if owns(account) {
			own = append(own, account)
		}
	}
	p.tally.begin(p.id, own)
	defer p.tally.end(own)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		for _, account := range own {
			if ctx.Err() != nil {
				return nil
			}
			fetch(ctx, account)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// fetch stands for what is to be done about an account.
func fetch(_ context.Context, _ string) {}
