package libcluster

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Coverage says whether every worker index is held exactly once, and if not, what is
// wrong: see [Cluster.Coverage].
type Coverage struct {
	// Mode is the cluster's mode.
	Mode Mode
	// Generation is the plan's generation. In mode [ModeDirect] it is 0, because a read
	// alone cannot know it.
	Generation int64
	// Total is the number of workers in the whole cluster, or in mode [ModeCooperative] of
	// partitions.
	Total int
	// Covered says that each index of [0, Total) is held by exactly one instance,
	// and that instance is there. In a cluster without members it is false.
	Covered bool
	// Since is from when on Covered has had this value, as far as this instance has seen.
	// The instance that watches the cluster for the log has seen the most.
	Since time.Time
	// Assignments are the instances with their ranges, by index. While all stop for the next
	// plan, they are the instances that may not have stopped yet.
	Assignments []Assignment
	// Problems are all that is wrong. Some problems leave every index covered: an instance
	// has no assignment, or no instance coordinates.
	Problems []CoverageProblem
	// Blockers are the instances that the next plan has to wait for; see
	// [Cluster.Blockers]. Blocker.Since is zero while the wait has lasted less than a second.
	Blockers []Blocker
}

// CoverageProblem is one thing that is wrong.
type CoverageProblem struct {
	Kind ProblemKind
	// From and To are the indexes [From, To) that are not held exactly once, in mode
	// [ModeCooperative] the partitions. They are equal if there are none.
	From, To int
	// ID is the instance that the problem is about; empty if it is about no instance.
	ID string
	// Text describes the problem to people.
	Text string

	mode Mode // whether indexes are partitions
}

// String returns the problem in one line.
func (p CoverageProblem) String() string {
	var b strings.Builder
	b.WriteString(string(p.Kind))
	one, several := "index", "indexes"
	if p.mode == ModeCooperative {
		one, several = "partition", "partitions"
	}
	switch p.To - p.From {
	case 0:
	case 1:
		fmt.Fprintf(&b, ", %s %d", one, p.From)
	default:
		fmt.Fprintf(&b, ", %s %d to %d", several, p.From, p.To-1)
	}
	if p.ID != "" {
		fmt.Fprintf(&b, ", %s", p.ID)
	}
	return b.String() + ": " + p.Text
}

// ProblemKind is the kind of a problem.
type ProblemKind string

const (
	// ProblemGap means that the plan gives these indexes to no instance.
	ProblemGap ProblemKind = "gap"
	// ProblemOverlap means that the plan gives these indexes to more than one instance.
	ProblemOverlap ProblemKind = "overlap"
	// ProblemOrphan means that a record belongs to no instance and never expires:
	// somebody else has written it.
	ProblemOrphan ProblemKind = "orphan"
	// ProblemReserved means that an assignment is reserved for an instance that has left
	// for a restart; see [Returning].
	ProblemReserved ProblemKind = "reserved"
	// ProblemVanished means that the instance of an assignment is no longer there, or has
	// come back and does not have the assignment again yet.
	ProblemVanished ProblemKind = "vanished"
	// ProblemStopped means that all members are stopping for the next plan, or in mode
	// [ModeCooperative] that an instance is stopping these partitions.
	ProblemStopped ProblemKind = "stopped"
	// ProblemUnplaced means that an instance is there and has no assignment.
	ProblemUnplaced ProblemKind = "unplaced"
	// ProblemDraining means that an instance is to give its assignment away: see
	// [Cluster.Drain] and [Cluster.SetDraining]. It may have done so.
	ProblemDraining ProblemKind = "draining"
	// ProblemNoPlan means that there is no plan, in a mode with a plan.
	ProblemNoPlan ProblemKind = "no plan"
	// ProblemBadPlan means that a plan, or something in it, makes no sense.
	ProblemBadPlan ProblemKind = "bad plan"
	// ProblemNoCoordinator means that no instance would make the next plan.
	ProblemNoCoordinator ProblemKind = "no coordinator"
	// ProblemNobody means that the cluster has no members.
	ProblemNobody ProblemKind = "nobody"
)

// cover computes from a survey which member holds which range, and what is wrong.
func cover(of scheme, s Survey) Coverage {
	mode := of.mode
	c := Coverage{Mode: mode}
	var members []Recorded // that count in this mode
	for _, m := range s.Members {
		switch {
		case m.plans.scheme != of && m.Incarnation != "":
			c.problem(ProblemUnplaced, Assignment{Member: m.Member}, 0, "runs in mode %v and so has no assignment here", m.plans.scheme)
		case mode == ModeDirect && m.plans.mode == ModeDirect, m.Incarnation != "":
			members = append(members, m)
		default:
			c.orphan(Assignment{Member: m.Member}, 0)
		}
		if m.plans.draining && !s.drains(m.ID) {
			c.problem(ProblemDraining, Assignment{Member: m.Member}, 0, "it gives its assignment away, and asks for none")
		}
	}
	if mode == ModeDirect {
		c.direct(members)
	} else {
		c.planned(of, s, members)
	}
	if len(members) == 0 {
		c.Problems = append(c.Problems, CoverageProblem{Kind: ProblemNobody, To: c.Total, Text: "the cluster has no members"})
	}
	for _, id := range s.Draining {
		c.problem(ProblemDraining, Assignment{Member: Member{ID: id}}, 0, "an operator drains it: it is to have no assignment until it is undrained")
	}
	slices.SortStableFunc(c.Problems, func(a, b CoverageProblem) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.ID, b.ID))
	})
	c.Covered = c.Total > 0 && !slices.ContainsFunc(c.Problems, func(p CoverageProblem) bool { return p.From < p.To })
	return c
}

// problem notes what is wrong with the first so many indexes of an assignment.
func (c *Coverage) problem(kind ProblemKind, p Assignment, workers int, format string, args ...any) {
	c.Problems = append(c.Problems, CoverageProblem{
		Kind: kind, From: p.Index, To: p.Index + workers, ID: p.ID, Text: fmt.Sprintf(format, args...), mode: c.Mode,
	})
}

func (c *Coverage) orphan(p Assignment, workers int) {
	c.problem(ProblemOrphan, p, workers, "its record has no lease: nobody is behind it, and it stays until it is deleted")
}

func (c *Coverage) reserved(p Assignment, workers int) {
	c.problem(ProblemReserved, p, workers, "has left for a restart, and its assignment is reserved")
}

// direct sorts the members, as each of them does.
func (c *Coverage) direct(members []Recorded) {
	x, by := newIndex(""), make(map[string]Recorded, len(members))
	for _, m := range members {
		x.put(m.Member)
		by[m.ID] = m
	}
	c.Total, c.Assignments = int(min(x.total, math.MaxInt)), x.assignments()
	for _, p := range c.Assignments {
		switch {
		case by[p.ID].Incarnation == "":
			c.orphan(p, p.Workers)
		case p.reserved:
			c.reserved(p, p.Workers)
		}
	}
}

// planned goes by the plan.
func (c *Coverage) planned(of scheme, s Survey, members []Recorded) {
	if len(members) == 0 { // and all else follows from that
		if p, _, err := parsePlanHead(s.Plan); err == nil {
			c.Generation, c.Total = p.generation, p.total
		}
		return
	}
	p := c.read(s.Plan)
	if p != nil {
		c.Generation, c.Total = p.generation, p.total
	}
	if s.Coordinator == nil {
		c.problem(ProblemNoCoordinator, Assignment{}, 0, "no instance makes the next plan")
	}
	switch {
	case p == nil:
	case p.scheme() != of:
		c.problem(ProblemBadPlan, Assignment{}, p.total, "the plan is of mode %v", p.scheme())
	case of.mode == ModeCooperative:
		c.shared(p, s, members)
	case p.committed:
		c.tile(p)
		c.committed(p, s, members)
	default:
		c.stopped(p, s)
	}
}

// read reads a plan as far as it can be read: with a plan that does not tile some may
// go to work nevertheless.
func (c *Coverage) read(text []byte) *plan {
	if len(text) == 0 {
		c.problem(ProblemNoPlan, Assignment{}, 0, "there is no plan")
		return nil
	}
	p, rest, err := parsePlanHead(text)
	if err != nil {
		c.problem(ProblemBadPlan, Assignment{}, 0, "%v", err)
		return nil
	}
	named := map[string]bool{}
	for line := range strings.Lines(string(rest)) {
		l, err := p.parseLine([]byte(line))
		switch {
		case err != nil:
			c.problem(ProblemBadPlan, Assignment{}, 0, "%v", err)
		case named[l.incarnation]:
			c.problem(ProblemBadPlan, l.Assignment, 0, "the plan names it twice, and it goes by the first")
		default:
			named[l.incarnation] = true
			p.lines = append(p.lines, l)
		}
	}
	slices.SortStableFunc(p.lines, func(a, b planned) int { return byIndex(a.Assignment, b.Assignment) })
	return p
}

// tile finds what the assignments of a plan leave out, and where they overlap.
func (c *Coverage) tile(p *plan) {
	at, last := 0, ""
	gap := func(to int) {
		if to <= at {
			return
		}
		c.problem(ProblemGap, Assignment{Index: at}, to-at, "the plan gives them to nobody")
	}
	for _, l := range p.lines {
		if l.Index < 0 {
			continue
		}
		c.Assignments = append(c.Assignments, l.Assignment)
		end := l.Index + l.Workers
		gap(min(l.Index, p.total))
		if l.Index < at {
			c.problem(ProblemOverlap, l.Assignment, min(at, end)-l.Index, "the plan gives them to %s too", last)
		}
		if beyond := max(l.Index, p.total); end > beyond {
			c.problem(ProblemBadPlan, Assignment{Member: l.Member, Index: beyond}, end-beyond, "runs past the total of %d", p.total)
		}
		if end > at {
			at, last = end, l.ID
		}
	}
	gap(p.total)
}

// committed finds the assignments whose instance is not there to act, and the members that are
// there and have no assignment.
func (c *Coverage) committed(p *plan, s Survey, members []Recorded) {
	by := make(map[string]Recorded, len(members))
	for _, m := range members {
		by[m.ID] = m
	}
	placed := make(map[string]bool, len(p.lines))
	for _, l := range p.lines {
		now, here := by[l.ID]
		if l.Index >= 0 {
			placed[l.ID] = true
			switch {
			case here && now.reserved:
				c.reserved(l.Assignment, l.Workers)
			case here && now.Incarnation == l.incarnation:
			case here:
				c.problem(ProblemVanished, l.Assignment, l.Workers, "has come back, and the plan does not say so yet")
			default:
				c.problem(ProblemVanished, l.Assignment, l.Workers, "its record has gone")
			}
		}
		if c.Mode == ModeExclusive && (!here || now.Incarnation != l.incarnation) && !s.hasStopped(l.incarnation, p) {
			c.waitFor(l.ID, s)
		}
	}
	for _, m := range members {
		if !placed[m.ID] && !m.reserved && !m.plans.draining && !s.drains(m.ID) {
			c.problem(ProblemUnplaced, Assignment{Member: m.Member}, 0, "is there, and the plan gives it no assignment")
		}
	}
}

// stopped finds the instances that have not acknowledged that they have stopped.
func (c *Coverage) stopped(p *plan, s Survey) {
	var names []string
	for _, l := range p.lines {
		if s.hasStopped(l.incarnation, p) {
			continue
		}
		names = append(names, l.ID)
		c.waitFor(l.ID, s)
		if l.Index >= 0 {
			c.Assignments = append(c.Assignments, l.Assignment)
		}
	}
	text := "all have stopped, and the next plan is not there yet"
	if len(names) > 0 {
		text = "all stop for the next plan, and have to wait for " + some(names)
	}
	c.problem(ProblemStopped, Assignment{}, p.total, "%s", text)
}

func (c *Coverage) waitFor(id string, s Survey) {
	b := Blocker{ID: id}
	for _, said := range parseBlockers(s.Coordinator) {
		if said.ID == id {
			b = said
		}
	}
	c.Blockers = append(c.Blockers, b)
}
