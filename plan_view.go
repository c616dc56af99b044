package libcluster

// planView is what readers see of a plan. It never changes.
type planView struct {
	text        []byte
	coordinator []byte
	prepare     *prepare     // not nil: this incarnation is waited for
	releases    partitionSet // and in mode cooperative: with these
	outgoing    *holding     // what this incarnation had been granted when a plan took it back: see unsaid
	spare       bool         // there is nothing for this instance: it drains, or in mode cooperative there are too few partitions
	revision    int64        // of the plan
	generation  int64
}

// knownPlan is the newest plan that an instance knows of.
type knownPlan struct {
	generation int64
	text       []byte
}

// unsaid returns what the incarnation is to release, or was, and has not said yet that it has
// stopped, with the tokens by which it was held. said is what the application had stopped
// before the view of this plan was loaded.
//
// What has been said for an earlier plan is not in it any more: an acknowledgement that is sent
// when the next plan has been heard has no effect.
func (p *planView) unsaid(said *stopped) *holding {
	if p.prepare == nil || said == nil || said.generation != p.prepare.generation {
		return p.outgoing
	}
	remaining, err := parsePartitions(said.remaining, MaxPartitions)
	if err != nil {
		return nil
	}
	return p.outgoing.less(p.releases.minus(remaining))
}

// says returns the same plan after the coordinator has said something else.
func (p *planView) says(coordinator []byte) *planView {
	if p == nil {
		return &planView{coordinator: coordinator}
	}
	now := *p
	now.coordinator = coordinator
	return &now
}

// assignments returns the members with their ranges, by index.
func (p *planView) assignments() []Assignment {
	all, err := parsePlan(p.text)
	if err != nil {
		return nil
	}
	var assignments []Assignment
	named := make(map[string]bool, len(all.lines))
	for _, l := range all.lines {
		// In mode cooperative an incarnation that has vanished comes after its successor.
		if l.Index >= 0 && !named[l.ID] {
			named[l.ID] = true
			assignments = append(assignments, l.Assignment)
		}
	}
	return assignments
}
