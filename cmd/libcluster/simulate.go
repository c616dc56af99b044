package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/registryflag"
)

// What is more than this takes long and shows nothing new.
const (
	maxSimulated        = 10_000
	maxSimulatedWorkers = 1_000_000
	maxSimulatedKeys    = 10_000_000
	maxRuns             = 10_000
)

// scenario is the command simulate.
type scenario struct {
	*looking
	all              registryflag.Line // its flags
	members, workers string
	stableIDs        bool
	changes          []asked // in the order of the command line
	keys, runs, seed registryflag.Number

	counts []int // of workers, in turn
	live   []libcluster.Member
}

// asked is a change that is asked for: the flag, and its value.
type asked struct{ flag, value string }

const (
	rollingRestart = "rolling-restart"
	placesFreed    = "freed"
	placesKept     = "kept"
)

// askedFor notes a flag's value among all that were given.
type askedFor struct {
	flag string
	into *[]asked
}

func (a askedFor) String() string {
	for _, c := range slices.Backward(*a.into) {
		if c.flag == a.flag {
			return c.value
		}
	}
	return ""
}

func (a askedFor) Type() string { return "change" }

func (a askedFor) Set(value string) error {
	*a.into = append(*a.into, asked{a.flag, value})
	return nil
}

func newSimulate(f *flags) *cobra.Command {
	command := &cobra.Command{
		Use:   "simulate",
		Short: "Compute what changes of members move, for each way of dividing the work",
		Long: `Computes what changes of members move, for each mode and each function from key to worker:
how often a member that was there before is renumbered, and how many keys go from one
member to another. "least" is the least that any function can move. Changes follow one
another in the order in which they are given. The default is --join 1 --leave 1 and, if
there is more than one member, --rolling-restart.

It starts with made-up members, or with -r or -k with those of a running cluster. Without
these two nothing is taken from the environment.

Exit status: 0 when it has computed, 1 when the cluster has no members, 2 when the command
line is wrong, 3 when the cluster could not be seen.`,
		Example: `  libcluster simulate --members 10 --join 1 --runs 500 --keys 20000
  libcluster simulate --members a,b,c --workers 2,1,4 --join d --leave b --rolling-restart
  libcluster simulate -k mailer -r http://etcd:2379 --leave 2`,
		Args: noArguments,
	}
	s := newScenario(f, command)
	command.RunE = s.simulate
	return command
}

func newScenario(f *flags, command *cobra.Command) *scenario {
	s := &scenario{looking: newPrinting(f, command), all: registryflag.Line{FlagSet: command.Flags()}, keys: 100_000, runs: 1, seed: 1}
	s.partitions = libcluster.DefaultPartitions
	set := command.Flags()
	set.StringVar(&s.members, "members", "10", "start with `N` members that have random IDs, or with these: ID,ID…")
	set.BoolVar(&s.stableIDs, "stable-ids", false, "number the members, node1, node2 and so on, instead of giving them random IDs")
	set.StringVar(&s.workers, "workers", "1", "give each member `COUNT` workers; of several, COUNT,COUNT…, in turn")
	set.Var(askedFor{"join", &s.changes}, "join", "let `N` members join, or these, ID,ID…, one after another")
	set.Var(askedFor{"leave", &s.changes}, "leave", "let `N` members leave, or these, ID,ID…, one after another")
	set.Var(askedFor{rollingRestart, &s.changes}, rollingRestart, "let each member leave and come back, one after another: under another ID if IDs are random; "+
		"with =`kept` its indexes are reserved meanwhile, as with Returning")
	set.Lookup(rollingRestart).NoOptDefVal = placesFreed
	set.Var(&s.partitions, "partitions", "reckon with `PARTITIONS` in mode cooperative; a running cluster of that mode is asked")
	set.Var(&s.keys, "keys", "sample `N` keys")
	set.Var(&s.runs, "runs", "take the mean of `N` runs, with seeds from --seed on")
	set.Var(&s.seed, "seed", "begin random numbers with `N`")
	suggest(command, rollingRestart, placesFreed, placesKept)
	return s
}

// ofCluster reports whether the members are those of a running cluster.
func (s *scenario) ofCluster() bool { return s.Given("registry") || s.Given("key") }

// check finds what is wrong with single flags, and what says in vain, or twice, who is there.
func (s *scenario) check() error {
	if err := s.all.CheckEmpty(); err != nil {
		return err
	}
	if s.ofCluster() && s.all.Given("members") {
		return fmt.Errorf("%s: contradicts -r/--registry, from which the members are taken", s.all.Shown("members"))
	}
	var err error
	s.VisitAll(func(flag *pflag.Flag) {
		if flag.Changed && flag.Name != "verbose" && !s.ofCluster() {
			err = fmt.Errorf("%s: is about a cluster; give -r/--registry to take the members of one", s.Shown(flag.Name))
		}
	})
	if err != nil {
		return err
	}
	for _, n := range []struct {
		name        string
		value       registryflag.Number
		least, most int
	}{{"keys", s.keys, 1, maxSimulatedKeys}, {"runs", s.runs, 1, maxRuns}, {"partitions", s.partitions, 1, libcluster.MaxPartitions}} {
		if int(n.value) < n.least || int(n.value) > n.most {
			return fmt.Errorf("%s: must be %d to %d", s.all.Shown(n.name), n.least, n.most)
		}
	}
	for text := range strings.SplitSeq(s.workers, ",") {
		count, err := strconv.Atoi(text)
		if err != nil || count < 1 || count > maxSimulatedWorkers {
			return fmt.Errorf("%s: count %q must be a whole number, 1 to %d", s.all.Shown("workers"), text, maxSimulatedWorkers)
		}
		s.counts = append(s.counts, count)
	}
	return nil
}

// setChanges says what changes if nothing is asked for. One member alone cannot restart
// without a moment at which nobody is there.
func (s *scenario) setChanges() error {
	if len(s.changes) > 0 {
		return nil
	}
	n := len(s.live)
	if n == 0 {
		ids, err := whom(s.members)
		if err != nil {
			return fmt.Errorf("%s: %w", s.all.Shown("members"), err)
		}
		n = len(ids)
	}
	s.changes = []asked{{"join", "1"}, {"leave", "1"}}
	if n > 1 {
		s.changes = append(s.changes, asked{rollingRestart, placesFreed})
	}
	return nil
}

// randomID is what the library's own IDs look like.
var randomID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// named reports whether members have IDs that they keep.
func (s *scenario) named() bool {
	if len(s.live) > 0 {
		return !randomID.MatchString(s.live[0].ID)
	}
	_, err := strconv.Atoi(s.members)
	return s.stableIDs || err != nil
}

// simulate prints what changes of members move, for each mode and each function from key to
// worker.
func (s *scenario) simulate(command *cobra.Command, _ []string) error {
	if err := s.check(); err != nil {
		return usageError{err}
	}
	if s.ofCluster() {
		err := s.look(command, func(_ context.Context, x *looker) error {
			for _, p := range x.cluster.View().Members {
				s.live = append(s.live, libcluster.Member{ID: p.ID, Workers: p.Workers})
			}
			if len(s.live) == 0 {
				return errors.New("the cluster has no members")
			}
			if x.config.Mode == libcluster.ModeCooperative && !s.all.Given("partitions") {
				s.partitions = registryflag.Number(x.config.Partitions)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	results, err := s.run()
	if err != nil {
		return usageError{err}
	}
	text := s.table(results)
	if s.format == formatJSON {
		text = lines(results)
	}
	return write(command.OutOrStdout(), text)
}

// result is the mean of the outcomes of all runs, and a line of -o json.
type result struct {
	Change     string             `json:"change"`
	Mode       string             `json:"mode"`
	Members    int                `json:"members"`
	Total      int                `json:"total"`
	Renumbered float64            `json:"renumbered"`
	Moved      map[string]float64 `json:"moved"`
	Least      float64            `json:"least"`
	Who        []renumbering      `json:"who,omitempty"` // of a single run
}

// run makes all runs. The results are ordered by change, then by mode.
func (s *scenario) run() ([]result, error) {
	if err := s.setChanges(); err != nil {
		return nil, err
	}
	var results []result
	runs := int(s.runs)
	for run := range runs {
		seed := uint64(s.seed) + uint64(run)
		start, changes, err := s.tell(seed)
		if err != nil {
			return nil, err
		}
		results = slices.Grow(results, len(changes)*len(modes))[:len(changes)*len(modes)]
		keys := newKeys(int(s.keys), rand.New(rand.NewPCG(seed, 1)).Uint64)
		for i, m := range modes {
			for j, o := range measure(m, int(s.partitions), start, changes, keys) {
				results[j*len(modes)+i].add(o, runs)
			}
		}
	}
	return results, nil
}

func (r *result) add(o outcome, runs int) {
	if r.Moved == nil {
		*r = result{Change: o.change, Mode: o.mode, Members: o.members, Total: o.total, Moved: map[string]float64{}}
	}
	for _, one := range o.renumbered {
		r.Renumbered += float64(one.Times) / float64(runs)
	}
	r.Least += o.least / float64(runs)
	for i, f := range functions {
		r.Moved[f.field] += o.moved[i] / float64(runs)
	}
	if runs == 1 {
		r.Who = o.renumbered
	}
}

func lines(results []result) string {
	var b strings.Builder
	for _, r := range results {
		b.WriteString(line(r))
	}
	return b.String()
}

// maxShown is how many of the renumbered a line for people names, unless they want it wide.
const maxShown = 4

// table is the results for people.
func (s *scenario) table(results []result) string {
	var b strings.Builder
	who, kind := s.members, "with random IDs"
	if len(s.live) > 0 {
		who = fmt.Sprintf("%d, those that are there,", len(s.live))
	}
	if s.named() {
		kind = "with IDs that they keep"
	}
	divided := ""
	if s.partitions != libcluster.DefaultPartitions {
		divided = fmt.Sprintf(" %d partitions,", s.partitions)
	}
	fmt.Fprintf(&b, "members %s %s, workers %s;%s %d keys, seed %d, runs %d\n\n",
		who, kind, s.workers, divided, s.keys, s.seed, s.runs)
	columns := []string{"change", "mode", "members", "total", "renumbered"}
	for _, f := range functions {
		columns = append(columns, f.name)
	}
	rows := [][]string{append(columns, "least")}
	for _, r := range results {
		row := []string{r.Change, r.Mode, strconv.Itoa(r.Members), strconv.Itoa(r.Total)}
		row = append(row, strconv.FormatFloat(r.Renumbered, 'f', min(int(s.runs)-1, 1), 64))
		rows = append(rows, append(row, r.shares()...))
	}
	align(&b, rows, 2)
	b.WriteString("\n")
	for _, r := range results {
		if len(r.Who) > 0 {
			most := maxShown
			if s.format == formatWide {
				most = len(r.Who)
			}
			fmt.Fprintf(&b, "%s, %s: %s\n", r.Change, r.Mode, names(r.Who, most))
		}
	}
	return b.String()
}

// shares are what is moved by each function, and at least: in percent of the keys,
// or where keys move more than twice, how often.
func (r *result) shares() []string {
	var moved []float64
	for _, f := range functions {
		moved = append(moved, r.Moved[f.field])
	}
	moved = append(moved, r.Least)
	often := slices.Max(moved) > 2
	var shares []string
	for _, share := range moved {
		if often {
			shares = append(shares, fmt.Sprintf("%.1f times", share))
		} else {
			shares = append(shares, fmt.Sprintf("%.1f %%", 100*share))
		}
	}
	return shares
}

// names names the renumbered: most of them, and how many more there are.
func names(all []renumbering, most int) string {
	var shown []string
	for _, r := range all[:min(len(all), most)] {
		name := fmt.Sprintf("%s %d→%d", r.ID, r.From, r.To)
		if r.Times > 1 {
			name = fmt.Sprintf("%s %d times", r.ID, r.Times)
		}
		shown = append(shown, name)
	}
	if more := len(all) - len(shown); more > 0 {
		shown = append(shown, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(shown, ", ")
}
