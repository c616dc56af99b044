package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/registryflag"
)

// longestReturning is for how long the library can keep an assignment.
const longestReturning = 24 * time.Hour

// check finds what is wrong with single flags, and which do not go together.
func (f *flags) check() error {
	if err := f.CheckEmpty(); err != nil {
		return err
	}
	if err := f.contradiction(); err != nil {
		return err
	}
	if err := f.checkNumbers(); err != nil {
		return err
	}
	var err error
	if f.counts, err = f.parseThreads(); err != nil {
		return fmt.Errorf("%s: %w", f.Shown("threads"), err)
	}
	return nil
}

func (f *flags) checkNumbers() error {
	switch {
	case f.Given("nodes") && (f.nodes < 1 || f.nodes > maxNodes):
		return fmt.Errorf("%s: must be 1 to %d", f.Shown("nodes"), maxNodes)
	case f.total < 1 || f.total > libcluster.MaxWorkers:
		return fmt.Errorf("%s: must be 1 to %d", f.Shown("total"), libcluster.MaxWorkers)
	case f.index < 0:
		return fmt.Errorf("%s: must be at least 0", f.Shown("index"))
	case f.index >= f.total && !f.staticEnv:
		return fmt.Errorf("%s: must be below the total, which is %d; see -T/--total", f.Shown("index"), f.total)
	case f.Given("partitions") && (f.partitions < 1 || f.partitions > libcluster.MaxPartitions):
		return fmt.Errorf("%s: must be 1 to %d", f.Shown("partitions"), libcluster.MaxPartitions)
	case f.work < 0:
		return fmt.Errorf("%s: must not be negative", f.Shown("work"))
	case f.returning < 0 || f.returning > longestReturning:
		return fmt.Errorf("%s: must be 0s to %v", f.Shown("returning"), longestReturning)
	case f.ttl <= 0: // to the library 0 is the default
		return fmt.Errorf("%s: must be positive", f.Shown("ttl"))
	}
	return nil
}

// parseThreads returns the thread count of each instance.
func (f *flags) parseThreads() ([]int, error) {
	n := 1
	if f.Given("nodes") {
		n = int(f.nodes)
	}
	list := strings.Split(f.threads, ",")
	switch {
	case len(list) > 1 && !f.Given("nodes"):
		return nil, fmt.Errorf("a list needs --nodes %d, to run as many instances", len(list))
	case len(list) > 1 && len(list) != n:
		return nil, fmt.Errorf("has %d counts for --nodes %d; give one for all, or one for each", len(list), n)
	}
	counts := make([]int, n)
	sum := 0
	for i := range counts {
		s := list[min(i, len(list)-1)]
		count, err := strconv.Atoi(s)
		if err != nil || count < 1 || count > libcluster.MaxWorkers {
			return nil, fmt.Errorf("count %q must be a whole number, 1 to %d", s, libcluster.MaxWorkers)
		}
		counts[i] = count
		if sum += count; sum > libcluster.MaxWorkers {
			return nil, fmt.Errorf("all together must be at most %d", libcluster.MaxWorkers)
		}
	}
	return counts, nil
}

// contradiction finds a flag that means nothing, or the opposite, beside the
// others: what was meant can't be told, so nothing is guessed.
func (f *flags) contradiction() error {
	dynamic := f.Given("registry")
	const needs = registryflag.NeedsRegistry
	err := f.Obey(registryflag.Rules{
		{"static-env", dynamic, "contradicts -r/--registry, in which the instances find their assignments themselves"},
		{"index", dynamic, "contradicts -r/--registry, in which the instances find their assignments themselves"},
		{"total", dynamic, "contradicts -r/--registry, in which the instances find their total themselves"},
		{"index", f.staticEnv, "contradicts --static-env, which takes the index from the environment"},
		{"nodes", !dynamic, needs},
		{"passive", !dynamic, needs},
		{"mode", !dynamic, needs},
		{"exclusive", !dynamic, needs},
		{"exclusive", f.Given("mode") && libcluster.Mode(f.mode) != libcluster.ModeExclusive, "contradicts " + f.Shown("mode")},
		{"partitions", libcluster.Mode(f.mode) != libcluster.ModeCooperative, "needs --mode cooperative"},
		{"work", f.passive, "contradicts -P/--passive: a passive instance does no work"},
		{"threads", f.passive, "contradicts -P/--passive: a passive instance has no threads"},
		{"ttl", !dynamic, needs},
		{"returning", !dynamic, needs},
		{"returning", f.instance == "" && !f.Peers(), "needs an identifier to come back under; give -i/--instance"},
		{"returning", f.passive, "contradicts -P/--passive: a passive instance has no assignment"},
	})
	if err != nil {
		return err
	}
	return f.Flags.Check()
}
