package libcluster

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// plan says which incarnation holds which range: pure data, and pure functions of it.
//
// A committed plan gives each incarnation that it names its assignment. Any other plan has all
// instances stop: the incarnations that it names held an assignment in the plan before, and may
// act until they have acknowledged that they have stopped.
//
// In mode cooperative the total is the number of partitions, and each line says which the
// incarnation keeps, and which others it may act on until it has acknowledged that it has
// released them. A plan is committed if no partition waits for anything.
type plan struct {
	mode       Mode
	committed  bool
	generation int64
	total      int
	lines      []planned // by index; incarnations without an assignment are last
}

// scheme returns that of the cluster.
func (p *plan) scheme() scheme {
	if p.mode == ModeCooperative {
		return scheme{p.mode, p.total}
	}
	return scheme{mode: p.mode}
}

// planned is one incarnation in a plan.
type planned struct {
	incarnation string
	window      time.Duration // how long after its last renewal it may act
	// Assignment has of the member ID, Workers and Address. Index is -1 if the
	// incarnation is only to say that it has stopped. In mode cooperative it is the lowest
	// partition that the incarnation keeps.
	Assignment
	releases partitionSet // in mode cooperative: to stop, and then to say so
}

// A plan is text, one line for the whole and one for each incarnation, its fields
// separated by tabs. So a person can read it, and a member, of which there may be a
// thousand, finds its own line without reading the others.
const (
	planPrepare = "prepare"
	planCommit  = "commit"
)

// maxPlan is the most bytes that a committed plan has: two thirds of what etcd takes in
// one request, since a plan that stops all may name some more.
const maxPlan = 1 << 20

// roomIn returns how many bytes the members of a plan may take. In mode cooperative the other
// half is for the partitions.
func roomIn(mode Mode) int {
	if mode == ModeCooperative {
		return maxPlan / 2
	}
	return maxPlan
}

// clockGeneration is the least generation of a plan that is made now. Generations go by
// the clock so that they grow also after the registry has forgotten the last one.
func clockGeneration() int64 { return time.Now().UnixMilli() << 8 }

// farAhead is a century in generations: no clock is as wrong as that.
const farAhead = 100 * 365 * 24 * 3600 * 1000 << 8

// credible reports whether a cluster can have come to a generation by now. If a generation
// is far ahead, no coordinator has written it. If it were believed, there would be no
// generation left for later plans.
func credible(generation, now int64) bool { return generation <= now+farAhead }

func (p *plan) encode() []byte {
	state := planPrepare
	if p.committed {
		state = planCommit
	}
	b := fmt.Appendf(nil, "%v\t%s\t%d\t%d\n", p.mode, state, p.generation, p.total)
	for _, l := range p.lines {
		window, workers := strconv.FormatInt(l.window.Milliseconds(), 10), strconv.Itoa(l.Workers)
		fields := []string{l.incarnation, window, strconv.Itoa(l.Index), workers, l.ID, planAddress(l.Address)}
		if p.mode == ModeCooperative {
			fields = []string{l.incarnation, window, workers, l.ID, planAddress(l.Address), l.held.String(), l.releases.String()}
		}
		b = append(append(b, strings.Join(fields, "\t")...), '\n')
	}
	return b
}

// roomFor is how many bytes the line of a member takes at most.
func roomFor(incarnation string, m Member) int {
	const numbers = len("86400000") + 2*len("2147483647") + len("\t\t\t\t\t\n")
	return len(incarnation) + numbers + len(m.ID) + len(planAddress(m.Address))
}

// planAddress leaves out an address that would not fit into a line.
func planAddress(address string) string {
	if len(address) > maxName || strings.ContainsFunc(address, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return ""
	}
	return address
}

// parsePlan reads a whole plan. What is none is an error.
func parsePlan(text []byte) (*plan, error) {
	p, rest, err := parsePlanHead(text)
	if err != nil {
		return nil, err
	}
	const usual = 64 // bytes of a line
	end := 0
	incarnations, ids := make(map[string]bool, len(rest)/usual), make(map[string]bool)
	p.lines = slices.Grow(p.lines, len(rest)/usual)
	for line := range bytes.Lines(rest) {
		l, err := p.parseLine(line)
		if err != nil {
			return nil, err
		}
		if incarnations[l.incarnation] || ids[l.ID] && l.Index >= 0 && p.mode != ModeCooperative {
			return nil, fmt.Errorf("plan: %.40q or %.40q is there twice", l.incarnation, l.ID)
		}
		incarnations[l.incarnation] = true
		if l.Index >= 0 && p.mode != ModeCooperative {
			ids[l.ID] = true
			if l.Index != end {
				return nil, fmt.Errorf("plan: %.40q is at %d, not at %d", l.ID, l.Index, end)
			}
			end += l.Workers
		}
		p.lines = append(p.lines, l)
	}
	if p.mode == ModeCooperative {
		return p, p.checkPartitions()
	}
	if end != p.total {
		return nil, fmt.Errorf("plan: the ranges end at %d, and the total is %d", end, p.total)
	}
	return p, nil
}

// parsePlanHead reads the first line, and returns the others.
func parsePlanHead(text []byte) (*plan, []byte, error) {
	line, rest, _ := bytes.Cut(text, []byte("\n"))
	f := strings.Split(string(line), "\t")
	if len(f) != 4 {
		return nil, nil, fmt.Errorf("plan: %.60q is not its first line", line)
	}
	p := &plan{committed: f[1] == planCommit}
	err := p.mode.UnmarshalText([]byte(f[0]))
	if err == nil && (p.mode == ModeDirect || !p.committed && f[1] != planPrepare) {
		err = fmt.Errorf("plan: %.60q is not its first line", line)
	}
	var total int64
	for _, number := range []struct {
		into *int64
		text string
		most int64
	}{{&p.generation, f[2], maxGeneration}, {&total, f[3], mostTotal(p.mode)}} {
		if err == nil {
			*number.into, err = parseNumber(number.text, 0, number.most)
		}
	}
	p.total = int(total)
	return p, rest, err
}

func mostTotal(mode Mode) int64 {
	if mode == ModeCooperative {
		return MaxPartitions
	}
	return MaxWorkers
}

func parseNumber(text string, least, most int64) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err == nil && (n < least || n > most) {
		err = errors.New("out of range")
	}
	if err != nil {
		return 0, fmt.Errorf("plan: %.30q is not a number of %d to %d", text, least, most)
	}
	return n, nil
}

// parseLine reads the line of one incarnation.
func (p *plan) parseLine(line []byte) (planned, error) {
	f := strings.Split(strings.TrimSuffix(string(line), "\n"), "\t")
	if p.mode == ModeCooperative {
		return p.parseHolder(f)
	}
	if len(f) != 6 {
		return planned{}, fmt.Errorf("plan: %.60q is not a member's line", line)
	}
	index, err := parseNumber(f[2], -1, MaxWorkers-1)
	if err != nil {
		return planned{}, err
	}
	return parseIncarnation(f[0], f[1], f[3], Assignment{Member: Member{ID: f[4], Address: f[5]}, Index: int(index)})
}

// parseIncarnation reads what the lines of all modes have.
func parseIncarnation(incarnation, window, workers string, p Assignment) (planned, error) {
	if incarnation == "" {
		return planned{}, fmt.Errorf("plan: the line of %.40q names no incarnation", p.ID)
	}
	if err := checkName("ID", p.ID); err != nil {
		return planned{}, fmt.Errorf("plan: %w", err)
	}
	ms, err := parseNumber(window, 0, maxTTL.Milliseconds())
	if err != nil {
		return planned{}, err
	}
	n, err := parseNumber(workers, 1, MaxWorkers)
	p.Workers = int(n)
	return planned{incarnation: incarnation, window: time.Duration(ms) * time.Millisecond, Assignment: p}, err
}

// findPlanned returns the line of one incarnation, if there is one, and the plan
// without any.
func findPlanned(text []byte, incarnation string) (p *plan, own *planned, err error) {
	p, rest, err := parsePlanHead(text)
	if err != nil {
		return nil, nil, err
	}
	start := len(text) - len(rest) - 1
	if i := bytes.Index(text[max(start, 0):], []byte("\n"+incarnation+"\t")); i >= 0 {
		line, _, _ := bytes.Cut(text[start+i+1:], []byte("\n"))
		l, err := p.parseLine(line)
		if err != nil {
			return nil, nil, err
		}
		if p.mode != ModeCooperative && l.Index >= 0 && l.Index+l.Workers > p.total {
			return nil, nil, fmt.Errorf("plan: %.40q runs past the total", l.ID)
		}
		own = &l
	}
	return p, own, nil
}

// arrange gives each member an assignment, such that as few members as possible move. A newcomer
// goes to the end or fills a hole. Otherwise the last member fills a hole, and no other
// member moves, as far as the worker counts let the ranges tile. Newcomers are in the
// order in which they are given.
func arrange(last []Assignment, members []Member) []Assignment {
	before := make(map[string]Assignment, len(last))
	for _, l := range last {
		before[l.ID] = l
	}
	total := 0
	for _, m := range members {
		total += m.Workers
	}
	// stay are the members that can keep their assignment, by index. A member that has grown
	// and does not fit any more is called back anyway, so it moves rather than its
	// neighbour. move are the other members: first those from the end, then newcomers.
	var stay, move []Assignment
	var newcomers []Assignment
	for _, m := range members {
		if b, known := before[m.ID]; known {
			stay = append(stay, Assignment{Member: m, Index: b.Index})
		} else {
			newcomers = append(newcomers, Assignment{Member: m, Index: -1})
		}
	}
	slices.SortFunc(stay, byIndex)
	kept, taken := stay[:0], 0 // taken is where the last kept assignment ends; a cluster's assignments never overlap, but a caller's may
	for i, p := range stay {
		end := p.Index + p.Workers
		overlaps := p.Workers > before[p.ID].Workers && i+1 < len(stay) && end > stay[i+1].Index
		if p.Index < taken || end > total || overlaps {
			move = append(move, p)
		} else {
			kept, taken = append(kept, p), end
		}
	}
	slices.Reverse(move)
	move = append(move, newcomers...)
	// The worker counts decide how many of the last members should move into the holes.
	best := fill(kept, move, total, 0)
	for spare := 1; spare <= min(mostSpare, len(kept)); spare *= 2 {
		if assignments := fill(kept, move, total, spare); countMoved(before, assignments) < countMoved(before, best) {
			best = assignments
		}
	}
	return best
}

// mostSpare bounds the search.
const mostSpare = 8

func countMoved(before map[string]Assignment, assignments []Assignment) (n int) {
	for _, p := range assignments {
		if b, known := before[p.ID]; known && b.Index != p.Index {
			n++
		}
	}
	return n
}

func byIndex(a, b Assignment) int { return a.Index - b.Index }

// fill puts the members that move into the gaps between the members that stay. If no choice
// of them fills a gap exactly, up to spare of the last members move too. If that does not
// help, the member after the gap moves, which widens the gap.
func fill(staying, moving []Assignment, total, spare int) []Assignment {
	stay, move := candidates(staying), candidates(moving)
	assignments := make([]Assignment, 0, len(stay)+len(move))
	var reach sums // of the members that move; nil: to be made
	for at := 0; at < total; {
		if len(stay) > 0 && stay[0].Index == at {
			assignments = append(assignments, stay[0].Assignment)
			at += stay[0].Workers
			stay = stay[1:]
			continue
		}
		gap := total - at
		if len(stay) > 0 {
			gap = stay[0].Index - at
		}
		if reach == nil || gap <= largestGap && gap >= 64*len(reach) {
			reach = sumsOf(move, min(2*gap, largestGap))
		}
		chosen := chooseWith(move, stay, gap, spare, reach)
		if chosen == nil {
			reach.add(stay[0].Workers, nil)
			move = slices.Insert(move, 0, stay[0])
			stay = stay[1:]
			continue
		}
		for _, c := range chosen {
			c.Index, c.placed = at, true
			assignments = append(assignments, c.Assignment)
			at += c.Workers
		}
		isAssigned := func(c *candidate) bool { return c.placed }
		move, stay = slices.DeleteFunc(move, isAssigned), slices.DeleteFunc(stay, isAssigned)
		reach = nil
	}
	return assignments
}

// chooseWith chooses from the members that move, and from as few of the last staying members
// as it must, up to spare. reach has the sums of workers of the members that move.
func chooseWith(move, stay []*candidate, gap, spare int, reach sums) []*candidate {
	for i := range min(spare, len(stay)) + 1 {
		if i > 0 {
			if i == 1 {
				reach = slices.Clone(reach)
			}
			reach.add(stay[len(stay)-i].Workers, nil)
		}
		if gap <= largestGap && !reach.has(gap) {
			continue
		}
		last := slices.Clone(stay[len(stay)-i:])
		slices.Reverse(last)
		if chosen := choose(slices.Concat(move, last), gap); chosen != nil {
			return chosen
		}
	}
	return nil
}
