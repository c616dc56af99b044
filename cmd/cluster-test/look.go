package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/libcluster/libcluster"
)

// lookAgain is how often watch looks for a change: a passive instance is called
// back for another total only, and here every change is of interest.
const lookAgain = 100 * time.Millisecond

// ofAnInstance are the flags that mean nothing to who only looks.
var ofAnInstance = []string{"instance", "threads", "nodes", "passive", "index", "total", "static-env"}

// looker is the commands ls, which prints the members once, and watch, which goes
// on printing them whenever they change.
type looker struct {
	t       transcript
	cluster *libcluster.Cluster
	from    string // the registry, for people
	follow  bool
}

func look(ctx context.Context, command string, args []string, stdout, stderr io.Writer) int {
	o, err := parseLook(args)
	if errors.Is(err, errHelp) {
		if _, err := io.WriteString(stdout, lookUsage); err != nil {
			return exitFailed
		}
		return exitOK
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	l := &looker{follow: command == "watch", t: newTranscript(&output{
		stderr: zapcore.Lock(zapcore.AddSync(stderr)),
		stdout: zapcore.Lock(zapcore.AddSync(stdout)),
		json:   o.json,
		end:    end,
	})}
	if err == nil {
		err = l.open(o)
	}
	if err != nil {
		l.t.say("%s: %s; try '%s %s --help'", command, oneLine(err), program, command)
		return exitUsage
	}
	failed := runAll(ctx, o, l.t, func() bool { return l.run(ctx) })
	if failed || l.t.broken.Load() {
		return exitFailed
	}
	return exitOK
}

// parseLook reads the flags that say where to look.
func parseLook(args []string) (options, error) {
	o, err := parse(args)
	if err != nil {
		return o, err
	}
	for _, name := range ofAnInstance {
		if o.flags.given(name) {
			return o, fmt.Errorf("%s: is about an instance, and this is none", o.flags.shown(name))
		}
	}
	if !o.flags.given("registry") {
		return o, errors.New("needs a registry; give -r/--registry, such as -r embedded:")
	}
	return o, nil
}

// open makes the passive instance through which the members are seen.
func (l *looker) open(o options) (err error) {
	log := zap.NewNop()
	if o.verbose {
		log = newLogger(zap.DebugLevel, l.t.stderr)
	}
	l.from = fmt.Sprint(o.registry)
	l.cluster, err = libcluster.New(libcluster.Config{
		Key: o.key, Env: o.env, Partition: o.partition,
		Passive: true, Registry: o.registry, TTL: o.ttl, Logger: log,
	})
	return o.explain(err)
}

// run looks until ctx ends, or once. It reports whether it has failed.
func (l *looker) run(ctx context.Context) bool {
	err := l.t.waitingFor(l.from, func() error { return l.cluster.Join(ctx) })
	if err != nil {
		if ctx.Err() != nil {
			return false // given up because told to
		}
		l.t.say("cannot see the cluster: %s", oneLine(err))
		return true
	}
	shown := l.show()
	if l.follow {
		l.watch(ctx, shown)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if err := l.cluster.Leave(ctx); err != nil {
		l.t.say("%s", oneLine(err))
	}
	return false
}

// watch shows every generation that it comes to see, until ctx ends.
func (l *looker) watch(ctx context.Context, shown int64) {
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	blind := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
		why := l.cluster.Err()
		switch {
		case why != nil && !blind:
			l.t.say("cannot see the cluster now: %s", oneLine(why))
		case why == nil && blind:
			l.t.say("can see the cluster again")
		}
		blind = why != nil
		if l.cluster.State().Generation != shown {
			shown = l.show()
		}
	}
}

// census is who is there, and a line of --json.
type census struct {
	Time       string  `json:"time"`
	Generation int64   `json:"generation"`
	Total      int     `json:"total"`
	Primary    string  `json:"primary"`
	Members    []there `json:"members"`
}

type there struct {
	ID       string            `json:"id"`
	Index    int               `json:"index"`
	Workers  int               `json:"workers"`
	Address  string            `json:"address,omitempty"`
	Version  string            `json:"version,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

// show prints who is there now, and returns the generation.
func (l *looker) show() int64 {
	c := l.take()
	text := c.table()
	if l.t.json {
		line, err := json.Marshal(c)
		if err != nil { // strings and numbers always marshal
			panic(err)
		}
		text = string(line) + "\n"
	} else if l.follow {
		text = time.Now().Format(time.TimeOnly) + "  " + text + "\n"
	}
	l.t.write(l.t.stdout, "standard output", text)
	return c.Generation
}

// take asks who is there. The members and the generation are two questions, and a
// change in between makes it ask again, within reason.
func (l *looker) take() census {
	s, places := l.cluster.State(), l.cluster.Members()
	for range 1000 {
		if l.cluster.State().Generation == s.Generation && sum(places) == s.Total {
			break
		}
		s, places = l.cluster.State(), l.cluster.Members()
	}
	c := census{Time: time.Now().UTC().Format(timeForm), Generation: s.Generation, Total: s.Total, Members: []there{}}
	slices.SortFunc(places, func(a, b libcluster.Place) int { return a.Index - b.Index })
	for _, p := range places {
		if p.Index == 0 {
			c.Primary = p.ID
		}
		c.Members = append(c.Members, there{p.ID, p.Index, p.Workers, p.Address, p.Version, p.Metadata})
	}
	return c
}

func sum(places []libcluster.Place) (workers int) {
	for _, p := range places {
		workers += p.Workers
	}
	return workers
}

// table is the census for people. A column that is empty is left out.
func (c census) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "generation %d, total %d\n", c.Generation, c.Total)
	if len(c.Members) == 0 {
		b.WriteString("no members\n")
		return b.String()
	}
	var addresses, versions bool
	for _, m := range c.Members {
		addresses = addresses || m.Address != ""
		versions = versions || m.Version != ""
	}
	rows := [][]string{{"member"}}
	for _, m := range c.Members {
		rows = append(rows, []string{m.ID})
	}
	column := func(name string, cell func(there) string) {
		rows[0] = append(rows[0], name)
		for i, m := range c.Members {
			rows[i+1] = append(rows[i+1], cell(m))
		}
	}
	if addresses {
		column("address", func(m there) string { return m.Address })
	}
	if versions {
		column("version", func(m there) string { return m.Version })
	}
	text := len(rows[0])
	column("workers", func(m there) string { return strconv.Itoa(m.Workers) })
	column("indexes", func(m there) string {
		if m.Workers == 1 {
			return strconv.Itoa(m.Index)
		}
		return fmt.Sprintf("%d-%d", m.Index, m.Index+m.Workers-1)
	})
	column("", func(m there) string {
		if m.ID == c.Primary {
			return "primary"
		}
		return ""
	})
	align(&b, rows, text)
	return b.String()
}

const lookUsage = `Usage: cluster-test ls [OPTIONS]
       cluster-test watch [OPTIONS]

Shows the members of a cluster, each with the worker indexes that it holds,
without becoming one: ls once, and watch again whenever something has changed,
until SIGINT or SIGTERM.

OPTIONS are those of cluster-test that say where the cluster is: -r, which is
needed, -k, -e, -p, --ttl, --cacert, --cert, --cert-key and --user; and
  -h, --help                Print this message and exit
  -v, --verbose             Be more verbose: show the library's log
      --json                Print one line of JSON each time
`
