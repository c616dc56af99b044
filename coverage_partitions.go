package libcluster

import "slices"

// shared goes by the plan of mode cooperative: it finds the partitions that no instance
// acts on, and the members that have none.
func (c *Coverage) shared(p *plan, s Survey, members []Recorded) {
	by := make(map[string]Recorded, len(members))
	for _, m := range members {
		by[m.ID] = m
	}
	missing := allPartitions(p.total) // that no line has
	var held partitionSet
	named := make(map[string]bool, len(p.lines))
	for _, l := range p.lines {
		now, there := by[l.ID]
		here := there && now.Incarnation == l.incarnation
		named[l.incarnation] = true
		c.each(ProblemOverlap, l, l.held.and(held), "the plan gives them to another instance too")
		held, missing = held.or(l.held), missing.minus(l.held)
		if len(l.held) > 0 {
			c.Assignments = append(c.Assignments, l.Assignment)
		}
		open := s.unreleased(l, p)
		missing = missing.minus(open)
		switch {
		case there && now.reserved:
			for _, r := range l.held {
				c.reserved(Assignment{Member: l.Member, Index: r.from}, r.len())
			}
		case !here:
			c.each(ProblemVanished, l, l.held, "its record has gone, or it has come back and the plan does not say so yet")
		}
		if !here && s.Acknowledged[l.incarnation] != StoppedForGood {
			open = open.or(l.held)
		}
		c.each(ProblemStopped, l, open.minus(l.held), "it has to stop them first, and then another instance gets them")
		if len(open) > 0 {
			c.waitFor(l.ID, s)
		}
	}
	c.each(ProblemGap, planned{}, missing, "no instance acts on them, and the next plan gives them to one")
	for _, m := range members {
		if !named[m.Incarnation] && !m.reserved {
			c.problem(ProblemUnplaced, Assignment{Member: m.Member}, 0, "is there, and the plan does not name it")
		}
	}
	slices.SortStableFunc(c.Assignments, func(a, b Assignment) int { return byIndex(a, b) })
}

// each notes a problem of each run of some partitions.
func (c *Coverage) each(kind ProblemKind, l planned, set partitionSet, text string) {
	for _, r := range set {
		c.problem(kind, Assignment{Member: l.Member, Index: r.from}, r.len(), "%s", text)
	}
}
