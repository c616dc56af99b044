package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/quote"
	"github.com/libcluster/libcluster/internal/registryflag"
)

// What is more than this takes long and shows nothing new.
const (
	maxSimulated        = 10_000
	maxSimulatedWorkers = 1_000_000
	maxSimulatedKeys    = 10_000_000
	maxRuns             = 10_000
)

// scenario is the command line of simulate.
type scenario struct {
	*flags
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

func newScenario() *scenario {
	s := &scenario{flags: newFlags().looking(), keys: 100_000, runs: 1, seed: 1}
	f := s.FlagSet
	f.StringVar(&s.members, "members", "10", "")
	f.BoolVar(&s.stableIDs, "stable-ids", false, "")
	f.StringVar(&s.workers, "workers", "1", "")
	f.Var(askedFor{"join", &s.changes}, "join", "")
	f.Var(askedFor{"leave", &s.changes}, "leave", "")
	f.Var(askedFor{rollingRestart, &s.changes}, rollingRestart, "")
	f.Lookup(rollingRestart).NoOptDefVal = placesFreed
	f.Var(&s.keys, "keys", "")
	f.Var(&s.runs, "runs", "")
	f.Var(&s.seed, "seed", "")
	return s
}

// parse reads the command line. The options say where the members are to be taken
// from, if anywhere.
func (s *scenario) parse(ctx context.Context, args []string) (options, error) {
	o, err := s.flags.parse(ctx, args)
	if err == nil {
		err = s.check()
	}
	return o, err
}

func (s *scenario) check() error {
	if err := s.checkSource(); err != nil {
		return err
	}
	for _, n := range []struct {
		name        string
		value       registryflag.Number
		least, most int
	}{{"keys", s.keys, 1, maxSimulatedKeys}, {"runs", s.runs, 1, maxRuns}} {
		if int(n.value) < n.least || int(n.value) > n.most {
			return fmt.Errorf("%s: must be %d to %d", s.Shown(n.name), n.least, n.most)
		}
	}
	for text := range strings.SplitSeq(s.workers, ",") {
		count, err := strconv.Atoi(text)
		if err != nil || count < 1 || count > maxSimulatedWorkers {
			return fmt.Errorf("%s: count %q must be a whole number, 1 to %d", s.Shown("workers"), text, maxSimulatedWorkers)
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
			return fmt.Errorf("%s: %w", s.Shown("members"), err)
		}
		n = len(ids)
	}
	s.changes = []asked{{"join", "1"}, {"leave", "1"}}
	if n > 1 {
		s.changes = append(s.changes, asked{rollingRestart, placesFreed})
	}
	return nil
}

// checkSource finds what says in vain, or twice, who is there.
func (s *scenario) checkSource() error {
	if s.Given("registry") {
		if s.Given("members") {
			return fmt.Errorf("%s: contradicts -r/--registry, from which the members are taken", s.Shown("members"))
		}
		return s.checkLook()
	}
	var err error
	ofClusters := newFlags().looking()
	s.Visit(func(flag *pflag.Flag) {
		if ofClusters.Lookup(flag.Name) != nil && flag.Name != "json" {
			err = fmt.Errorf("%s: is about a cluster; give -r/--registry to take the members of one", s.Shown(flag.Name))
		}
	})
	return err
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

// story is a scenario as it is made up: who there is, and what happens.
type story struct {
	*scenario
	random  *rand.Rand
	joined  int // how many there have been so far
	members []libcluster.Member
	steps   [][]libcluster.Member // of the change that is being told
}

// tell makes up who is there at first and what happens then: the same for the same
// seed.
func (s *scenario) tell(seed uint64) (start []libcluster.Member, changes []change, err error) {
	t := &story{scenario: s, random: rand.New(rand.NewPCG(seed, 0)), members: slices.Clone(s.live), joined: len(s.live)}
	if len(s.live) == 0 {
		if _, err := t.change(asked{"members", s.members}); err != nil {
			return nil, nil, err
		}
	}
	start = slices.Clone(t.members)
	for _, a := range s.changes {
		c, err := t.change(a)
		if err != nil {
			return nil, nil, err
		}
		changes = append(changes, c)
	}
	return start, changes, nil
}

// change has what is asked for happen to one member after another.
func (t *story) change(a asked) (change, error) {
	name := a.flag + " " + a.value
	ids, err := whom(a.value)
	happens := t.join
	switch a.flag {
	case "leave":
		happens = t.leave
	case rollingRestart:
		name, happens = "rolling restart", t.restart
		if a.value == placesKept {
			name, happens = name+", kept", t.restartInPlace
		} else if a.value != placesFreed {
			return change{}, fmt.Errorf("--%s %q: must be %s or %s", a.flag, a.value, placesFreed, placesKept)
		}
		ids, err = nil, nil
		for _, m := range t.members {
			ids = append(ids, m.ID)
		}
	}
	t.steps = nil
	for _, id := range ids {
		if err == nil {
			err = happens(id)
		}
	}
	if err != nil {
		return change{}, fmt.Errorf("--%s %q: %w", a.flag, a.value, err)
	}
	return change{name, t.steps}, nil
}

// whom reads names, or a number of members whose names do not matter.
func whom(value string) ([]string, error) {
	n, err := strconv.Atoi(value)
	if err != nil {
		ids := strings.Split(value, ",")
		if slices.Contains(ids, "") {
			return nil, errors.New("a name is empty")
		}
		return ids, nil
	}
	if n < 1 || n > maxSimulated {
		return nil, fmt.Errorf("must be 1 to %d, or names", maxSimulated)
	}
	return make([]string, n), nil
}

func (t *story) step() { t.steps = append(t.steps, slices.Clone(t.members)) }

func (t *story) find(id string) int {
	return slices.IndexFunc(t.members, func(m libcluster.Member) bool { return m.ID == id })
}

func (t *story) join(id string) error {
	if id == "" {
		id = t.newID()
	}
	if _, err := libcluster.ParseMember(id, []byte("1")); err != nil {
		return err
	}
	if t.find(id) >= 0 {
		return fmt.Errorf("%q is there already", id)
	}
	m := libcluster.Member{ID: id, Workers: t.counts[t.joined%len(t.counts)]}
	t.joined++
	t.members = append(t.members, m)
	workers := 0
	for _, m := range t.members {
		workers += m.Workers
	}
	if len(t.members) > maxSimulated || workers > maxSimulatedWorkers {
		return fmt.Errorf("at most %d members and %d workers are simulated", maxSimulated, maxSimulatedWorkers)
	}
	t.step()
	return nil
}

// newID is a number where members keep their IDs, and otherwise as random as those that
// the library makes.
func (t *story) newID() string {
	if t.named() {
		return "node" + strconv.Itoa(t.joined+1)
	}
	return fmt.Sprintf("%016x%016x", t.random.Uint64(), t.random.Uint64())
}

func (t *story) leave(id string) error {
	if id == "" {
		id = t.members[t.random.IntN(len(t.members))].ID
	}
	i := t.find(id)
	switch {
	case i < 0:
		return fmt.Errorf("%q is not there", id)
	case len(t.members) == 1:
		return errors.New("nobody would be left")
	}
	t.members = slices.Delete(t.members, i, i+1)
	t.step()
	return nil
}

// restart has a member leave and come back, by its own name if it was given one.
func (t *story) restart(id string) error {
	m := t.members[t.find(id)]
	if err := t.leave(id); err != nil {
		return err
	}
	if !t.named() {
		m.ID = t.newID()
	}
	t.members = append(t.members, m)
	t.step()
	return nil
}

// restartInPlace has a member leave and come back while its place is kept.
func (t *story) restartInPlace(string) error {
	t.step()
	return nil
}

// simulate is the command: it prints what changes of members move, for each mode
// and each function from key to worker.
func simulate(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	s := newScenario()
	o, err := s.parse(ctx, args)
	if status, done := settled(err, simulateUsage, stdout); done {
		return status
	}
	t := transcriptTo(stdout, stderr, func() {})
	if err == nil && s.Given("registry") {
		var l *looker
		if l, err = newLooker(o, t); err == nil {
			failed := l.look(ctx, func() { s.live = l.members() })
			switch {
			case failed:
				return exitFailed
			case len(s.live) == 0 && ctx.Err() != nil:
				return exitOK
			case len(s.live) == 0:
				t.say("simulate: the cluster has no members")
				return exitFailed
			}
		}
	}
	var results []result
	if err == nil {
		results, err = s.run()
	}
	if err != nil {
		t.say("simulate: %s; try '%s simulate --help'", oneLine(err), program)
		return exitUsage
	}
	text := s.table(results)
	if s.json {
		text = lines(results)
	}
	t.write(t.stdout, "standard output", text)
	if t.broken.Load() {
		return exitFailed
	}
	return exitOK
}

// result is the mean of the outcomes of all runs, and a line of --json.
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
			for j, o := range measure(m, start, changes, keys) {
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
		line, err := json.Marshal(r)
		if err != nil { // strings and numbers always marshal
			panic(err)
		}
		b.WriteString(quote.JSON(line) + "\n")
	}
	return b.String()
}

// maxShown is how many of the renumbered a line for people names.
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
	fmt.Fprintf(&b, "members %s %s, workers %s; %d keys, seed %d, runs %d\n\n",
		who, kind, s.workers, s.keys, s.seed, s.runs)
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
			fmt.Fprintf(&b, "%s, %s: %s\n", r.Change, r.Mode, names(r.Who))
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

// names names the renumbered: the first of them, and how many more there are.
func names(all []renumbering) string {
	var shown []string
	for _, r := range all[:min(len(all), maxShown)] {
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

const simulateUsage = `Usage: cluster-test simulate [OPTIONS]

Computes what changes of members move, for each mode and each function from key
to worker: how often a member that was there before is renumbered, and how many
keys go from one member to another. "least" is the least that any function can
move. Changes follow one another in the order in which they are given. The
default is --join 1 --leave 1 and, if there is more than one member,
--rolling-restart.

OPTIONS are one or more of:
  -h, --help                Print this message and exit
      --members N|ID,ID…    Start with N members that have random IDs, or with
                            these (default: 10)
  -r, --registry URI        Start with the members of a running cluster; -k, -e,
                            -p and so on say which, see cluster-test --help
      --timeout DURATION    End with an error if that cluster could not be read
                            within DURATION (default: 10s)
      --stable-ids          Number the members, node1, node2 and so on, instead
                            of giving them random IDs
      --workers COUNT,…     Give each member COUNT workers, in turn
                            (default: 1)
      --join N|ID,ID…       Let N members join, or these, one after another
      --leave N|ID,ID…      Let N members leave, or these, one after another
      --rolling-restart     Let each member leave and come back, one after
                            another: under another ID if IDs are random
      --rolling-restart=kept
                            The same, but each member's indexes are reserved
                            meanwhile, as with Returning
      --keys N              Sample N keys (default: 100000)
      --seed N              Begin random numbers with N (default: 1)
      --runs N              Take the mean of N runs, with seeds from --seed on
                            (default: 1)
      --json                Print one line of JSON for each change and mode
`
