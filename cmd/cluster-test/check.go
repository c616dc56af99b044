package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/libcluster/libcluster"
)

// longestReturning is for how long the library can keep a place.
const longestReturning = 24 * time.Hour

// check finds what is wrong with single flags, and which do not go together.
func (f *flags) check() error {
	var empty error
	f.set.Visit(func(flag *pflag.Flag) {
		if flag.Value.String() == "" && empty == nil {
			empty = fmt.Errorf("%s: must not be empty; leave the flag out for its default", label(flag))
		}
	})
	if empty != nil {
		return empty
	}
	if err := f.contradiction(); err != nil {
		return err
	}
	if err := f.checkNumbers(); err != nil {
		return err
	}
	var err error
	if f.counts, err = f.parseThreads(); err != nil {
		return fmt.Errorf("%s: %w", f.shown("threads"), err)
	}
	return nil
}

func (f *flags) checkNumbers() error {
	switch {
	case f.given("nodes") && (f.nodes < 1 || f.nodes > maxNodes):
		return fmt.Errorf("%s: must be 1 to %d", f.shown("nodes"), maxNodes)
	case f.total < 1 || f.total > libcluster.MaxWorkers:
		return fmt.Errorf("%s: must be 1 to %d", f.shown("total"), libcluster.MaxWorkers)
	case f.index < 0:
		return fmt.Errorf("%s: must be at least 0", f.shown("index"))
	case f.index >= f.total && !f.staticEnv:
		return fmt.Errorf("%s: must be below the total, which is %d; see -T/--total", f.shown("index"), f.total)
	case f.work < 0:
		return fmt.Errorf("%s: must not be negative", f.shown("work"))
	case f.returning < 0 || f.returning > longestReturning:
		return fmt.Errorf("%s: must be 0s to %v", f.shown("returning"), longestReturning)
	case f.ttl <= 0: // to the library 0 is the default
		return fmt.Errorf("%s: must be positive", f.shown("ttl"))
	}
	return nil
}

// parseThreads returns the thread count of each instance.
func (f *flags) parseThreads() ([]int, error) {
	n := 1
	if f.given("nodes") {
		n = int(f.nodes)
	}
	list := strings.Split(f.threads, ",")
	switch {
	case len(list) > 1 && !f.given("nodes"):
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
	dynamic := f.given("registry")
	internal := isEmbedded(f.registry)
	file := hasNoServer(f.registry)
	_, server := databaseScheme(f.registry)
	_, listed := cutScheme(f.registry, peersScheme)
	const (
		needs = "needs a registry; give -r/--registry, such as -r embedded:"
		alone = "is for an etcd; a file has no users and no certificates"
		etcds = "is for an etcd; a database is told by options of its URI, such as ?sslmode=verify-full&sslrootcert=FILE"
		other = "is for an etcd of your own; the file of the peers names their certificates, and they have no users"
		own   = "is for an etcd of your own; the embedded one has no users, and certificates of its own"
	)
	for _, c := range []struct {
		flag  string
		wrong bool
		why   string
	}{
		{"static-env", dynamic, "contradicts -r/--registry, in which the instances find their places themselves"},
		{"index", dynamic, "contradicts -r/--registry, in which the instances find their places themselves"},
		{"total", dynamic, "contradicts -r/--registry, in which the instances find their total themselves"},
		{"index", f.staticEnv, "contradicts --static-env, which takes the index from the environment"},
		{"nodes", !dynamic, needs},
		{"passive", !dynamic, needs},
		{"mode", !dynamic, needs},
		{"exclusive", !dynamic, needs},
		{"exclusive", f.given("mode") && libcluster.Mode(f.mode) != libcluster.ModeExclusive, "contradicts " + f.shown("mode")},
		{"work", f.passive, "contradicts -P/--passive: a passive instance does no work"},
		{"threads", f.passive, "contradicts -P/--passive: a passive instance has no threads"},
		{"ttl", !dynamic, needs},
		{"returning", !dynamic, needs},
		{"returning", f.instance == "" && !listed, "needs an identifier to come back under; give -i/--instance"},
		{"returning", f.passive, "contradicts -P/--passive: a passive instance has no place"},
		{"cacert", !dynamic, needs},
		{"cert", !dynamic, needs},
		{"cert-key", !dynamic, needs},
		{"user", !dynamic, needs},
		{"cacert", internal, own},
		{"cert", internal, own},
		{"cert-key", internal, own},
		{"user", internal, own},
		{"cacert", listed, other},
		{"cert", listed, other},
		{"cert-key", listed, other},
		{"user", listed, other},
		{"cacert", file, alone},
		{"cert", file, alone},
		{"cert-key", file, alone},
		{"user", file, alone},
		{"cacert", server, etcds},
		{"cert", server, etcds},
		{"cert-key", server, etcds},
		{"password-file", !f.given("user"), "needs a user; give --user USER"},
		{"password-file", strings.Contains(f.user, ":"), "contradicts the password in --user"},
		{"cert", !f.given("cert-key"), "needs its key too; give --cert-key"},
		{"cert-key", !f.given("cert"), "needs its certificate too; give --cert"},
	} {
		if c.wrong && f.given(c.flag) {
			return fmt.Errorf("%s: %s", f.shown(c.flag), c.why)
		}
	}
	return nil
}
